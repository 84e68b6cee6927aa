"""The vectors of the contract, played on a node without sockets and on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from hub.settings import read_settings
from tests.support.node import Node, Peer
from tests.support.patience import PATIENCE
from tests.support.patterns import mismatch, write_out
from tests.support.raw import until
from tests.support.server import Running, running

SCRIPTS = json.loads((Path(__file__).parent / "vectors/websocket.json").read_text())


class NodeWorld:
    """Clients of a node without sockets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: dict[str, Peer] = {}
        self._heard: dict[str, list[Any]] = {}

    async def connect(self, who: str, name: str) -> None:
        self._peers[who] = self._node.connect(name)
        self._heard[who] = []

    async def say(self, who: str, text: str) -> None:
        self._peers[who].say(text)

    async def say_binary(self, who: str, data: bytes) -> None:
        self._node.dispatcher.handle_binary(self._peers[who].client)

    async def hear(self, who: str) -> Any:
        for other, peer in self._peers.items():
            self._heard[other] += peer.hear()
        return self._heard[who].pop(0) if self._heard[who] else None

    async def leave(self, who: str) -> None:
        self._node.hub.leave(self._peers.pop(who).client)

    async def create(self, topic: str) -> None:
        self._node.broker.create(topic, lambda outcome: None)

    async def delete(self, topic: str) -> None:
        self._node.broker.delete(topic, lambda outcome: None)


class SocketWorld:
    """Clients of a real server: `websockets`, and aiohttp for REST."""

    def __init__(self, server: Running, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._sockets: dict[str, websockets.ClientConnection] = {}

    async def connect(self, who: str, name: str) -> None:
        query = f"?client_id={name}" if name else ""
        self._sockets[who] = await websockets.connect(self._server.ws + query)

    async def say(self, who: str, text: str) -> None:
        await self._sockets[who].send(text)

    async def say_binary(self, who: str, data: bytes) -> None:
        await self._sockets[who].send(data)

    async def hear(self, who: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self._sockets[who].recv())

    async def leave(self, who: str) -> None:
        before = len(self._server.hub.clients)
        await self._sockets.pop(who).close()
        await until(lambda: len(self._server.hub.clients) < before)

    async def create(self, topic: str) -> None:
        async with self._session.post(f"{self._server.url}/topics", json={"name": topic}) as answer:
            assert answer.status == 201

    async def delete(self, topic: str) -> None:
        async with self._session.delete(f"{self._server.url}/topics/{topic}") as answer:
            assert answer.status == 200

    async def close(self) -> None:
        for socket in self._sockets.values():
            await socket.close()


World = NodeWorld | SocketWorld


@asynccontextmanager
async def world(kind: str, environ: dict[str, str]) -> AsyncIterator[World]:
    settings = read_settings(environ)
    if kind == "node":
        yield NodeWorld(Node(settings))
        return
    async with running(settings) as server, aiohttp.ClientSession() as session:
        sockets = SocketWorld(server, session)
        try:
            yield sockets
        finally:
            await sockets.close()


async def play(world: World, script: list[list[Any]]) -> None:
    """Play a script, and check that no client has received more than it lists."""
    connected: set[str] = set()
    for who, verb, what in script:
        if who not in connected and who != "rest":
            connected.add(who)
            await world.connect(who, what if verb == "connects" else "")
        match verb:
            case "says":
                await world.say(who, write_out(what))
            case "says_text":
                await world.say(who, what)
            case "says_binary":
                await world.say_binary(who, what.encode())
            case "subscribes":
                await world.say(
                    who, write_out({"type": "subscribe", "topic": what, "client_id": who})
                )
                assert (await world.hear(who))["type"] == "ack"
            case "hears":
                heard = await world.hear(who)
                assert mismatch(json.loads(write_out(what)), heard) == ""
            case "leaves":
                connected.remove(who)
                await world.leave(who)
            case "creates":
                await world.create(what)
            case "deletes":
                await world.delete(what)
            case "connects":
                pass
            case _:
                raise AssertionError(f"no such verb: {verb}")
    for who in sorted(connected):
        await world.say(who, '{"type":"ping","request_id":"the end"}')
        assert (await world.hear(who)).get("request_id") == "the end"


@pytest.mark.parametrize("kind", ["node", "sockets"])
@pytest.mark.parametrize("vector", SCRIPTS, ids=lambda vector: vector["name"])
async def test_each_script_gets_the_answers_of_the_contract(
    kind: str, vector: dict[str, Any]
) -> None:
    async with world(kind, vector.get("settings", {})) as here:
        await play(here, vector["script"])
