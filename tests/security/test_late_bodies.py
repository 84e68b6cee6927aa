"""Requests whose body arrives after the rights of their caller have ended."""

import json
import time
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import ClientSession

from hub.delivery.pacing import PART_ITEMS
from hub.hub import Hub
from tests.support.raw import RawClient
from tests.support.server import Running, running
from tests.support.tokens import disconnect, settings, sign

ALL = {"publish": ["#"], "manage": ["#"]}
BANNED = {"error": "The subject of the token is banned"}
EXPIRED = {"error": "Token is not valid: it has expired"}
BODIES: dict[str, Any] = {
    "/publish": {"topic": "t", "payload": 1},
    "/publish/batch": {"items": [{"topic": "t", "payload": 1}]},
    "/topics": {"name": "new"},
    "/disconnect": {"sub": "bob", "for": 60},
}
every_path = pytest.mark.parametrize("path", BODIES)


async def begin(server: Running, path: str) -> RawClient:
    """Send the head of a request, and wait until the server reads its body."""
    client = await RawClient.dial(server.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {sign(**ALL)}\r\n"
        f"Content-Length: {len(json.dumps(BODIES[path]))}\r\nExpect: 100-continue\r\n\r\n"
    )
    await client.send(head.encode())
    assert b" 100 " in await client.read_head()
    return client


async def finish(client: RawClient, path: str) -> tuple[int, Any]:
    """Send the body, and return the status and the body of the answer."""
    await client.send(json.dumps(BODIES[path]).encode())
    head = await client.read_head()
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer = json.loads(await client.read_exactly(size))
    client.close()
    return int(head.split()[1]), answer


def effects(server: Running) -> tuple[Any, Any, Iterable[str]]:
    """Return what the requests would change."""
    history = server.hub.broker.history("t")
    position = None if history is None else history.position
    return position, server.topics(), server.sessions.bans.keys() - {"ann"}


@every_path
async def test_a_ban_while_the_body_arrives_refuses_the_request(path: str) -> None:
    async with running(settings()) as server:
        server.hub.broker.create("t", lambda _: None)
        before = effects(server)
        client = await begin(server, path)
        await disconnect(server, {"sub": "ann", "for": 60})
        assert await finish(client, path) == (403, BANNED)
        assert effects(server) == before


@every_path
async def test_an_expiry_while_the_body_arrives_refuses_the_request(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, passed = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + passed)
    async with running(settings()) as server:
        server.hub.broker.create("t", lambda _: None)
        before = effects(server)
        client = await begin(server, path)
        passed = 3_606.0
        assert await finish(client, path) == (401, EXPIRED)
        assert effects(server) == before


@pytest.mark.parametrize("path", ["/publish", "/publish/batch"])
async def test_a_ban_during_a_batch_refuses_the_items_that_are_left(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = 0

    async def ban_before_the_second_part(*_: Any) -> None:
        nonlocal parts
        parts += 1
        if parts == 2:
            server.sessions.ban_for("ann", 60.0)

    monkeypatch.setattr(Hub, "pace", ban_before_the_second_part)
    body: dict[str, Any] = {"topics": ["t"] * (PART_ITEMS + 2), "payload": 1}
    if path == "/publish/batch":
        body = {"items": [{"topic": "t", "payload": 1}] * (PART_ITEMS + 2)}
    headers = {"Authorization": f"Bearer {sign(**ALL)}"}
    async with (
        running(settings()) as server,
        ClientSession(server.url, headers=headers) as session,
    ):
        server.hub.broker.create("t", lambda _: None)
        async with session.post(path, json=body) as answer:
            results = (await answer.json())["results"]
    assert [it.get("status", it) for it in results] == ["published"] * PART_ITEMS + [BANNED] * 2
