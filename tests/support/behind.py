"""Clients of servers behind a balancer."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp

from hub.addresses import parse_networks
from hub.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.sse import Listener

BEHIND = replace(Settings(), trusted_proxies=parse_networks("127.0.0.1"))
EVENT_SOURCE = {"Accept": "text/event-stream"}


class Stream:
    """An open stream of Server-Sent Events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._bytes = bytearray()
        self._listener = Listener()

    async def next(self) -> Any:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE):
            while not (said := self._listener.take(self._bytes, 1)):
                data = await self._response.content.readany()
                assert data, "the stream ended"
                self._bytes += data
        return said[0].message

    async def comments(self, count: int) -> None:
        """Wait for comments, with nothing between them."""
        end = self._listener.comments + count
        while self._listener.comments < end:
            data = await self._response.content.readany()
            assert data, "the stream ended"
            self._bytes += data
            assert self._listener.take(self._bytes) == []


async def said(socket: aiohttp.ClientWebSocketResponse) -> Any:
    """Return the next message of a WebSocket."""
    message = await socket.receive(PATIENCE)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return json.loads(message.data)


async def subscribed(
    client: aiohttp.ClientSession, stack: AsyncExitStack
) -> tuple[aiohttp.ClientWebSocketResponse, Stream]:
    """Return a WebSocket and a stream that are subscribed to topic t."""
    socket = await stack.enter_async_context(client.ws_connect("/ws?client_id=ann"))
    await socket.send_json({"type": "subscribe", "topic": "t"})
    assert (await said(socket))["type"] == "ack"
    response = await stack.enter_async_context(client.get("/events?topic=t", headers=EVENT_SOURCE))
    assert response.status == 200
    stream = Stream(response)
    assert (await stream.next())["type"] == "ack"
    return socket, stream


async def publish(client: aiohttp.ClientSession, payload: Any) -> None:
    async with client.post("/publish", json={"topic": "t", "payload": payload}) as answer:
        assert answer.status == 200, await answer.text()
