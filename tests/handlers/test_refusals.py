"""Refusals as the observer hears of them: each once, with a reason of a closed vocabulary."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSServerHandshakeError

from handlers.keys import BODY_BUDGET
from hub.body_budget import SHARE
from hub.errors import ErrorCode, RefusalReason, RequestRefusal
from hub.origins import parse_hosts, parse_origins
from hub.settings import Settings
from tests.support.raw import RawClient
from tests.support.server import Running, running

SETTINGS = Settings(
    allowed_hosts=parse_hosts("app.test"),
    allowed_origins=parse_origins("same"),
    max_message_bytes=1_000,
    require_client_id=False,
)
PUBLISH = {"topic": "none", "payload": 1}


def observe(server: Running) -> list[RefusalReason]:
    """Return the reasons of all refusals from here on."""
    reasons: list[RefusalReason] = []
    server.hub.observer.refused = reasons.append
    return reasons


@pytest_asyncio.fixture
async def strict() -> AsyncIterator[Running]:
    async with running(SETTINGS) as server:
        server.hub.broker.create("made", lambda _: None)
        yield server


@pytest_asyncio.fixture
async def session(strict: Running) -> AsyncIterator[ClientSession]:
    async with ClientSession(strict.url, headers={"Host": "app.test"}) as session:
        yield session


CASES: list[tuple[str, str, dict[str, Any], list[RefusalReason]]] = [
    ("GET", "/topics", {}, []),
    ("GET", "/ready", {}, []),
    ("POST", "/publish", {"json": {**PUBLISH, "topic": "made"}}, []),
    ("POST", "/publish", {"json": PUBLISH}, [ErrorCode.TOPIC_NOT_FOUND]),
    ("POST", "/publish", {"json": {**PUBLISH, "topic": ""}}, [ErrorCode.INVALID_TOPIC]),
    ("POST", "/publish", {"data": b"{"}, [ErrorCode.INVALID_MESSAGE]),
    ("POST", "/publish", {"data": b"x" * 1_001}, [RequestRefusal.TOO_LARGE]),
    ("POST", "/topics", {"json": {"name": "made"}}, [ErrorCode.TOPIC_EXISTS]),
    ("DELETE", "/topics/none", {}, [ErrorCode.TOPIC_NOT_FOUND]),
    ("GET", "/topics?limit=x", {}, [ErrorCode.INVALID_MESSAGE]),
    ("GET", "/events", {}, [ErrorCode.INVALID_TOPIC]),
    ("GET", "/ws", {}, [RequestRefusal.BAD_REQUEST]),
    ("GET", "/nowhere", {}, [RequestRefusal.NOT_FOUND]),
    ("PATCH", "/topics", {}, [RequestRefusal.NOT_FOUND]),
    ("GET", "/stats", {"headers": {"Host": "other"}}, [RequestRefusal.HOST]),
    ("GET", "/stats", {"headers": {"Origin": "http://other"}}, [RequestRefusal.ORIGIN]),
]


@pytest.mark.parametrize(("method", "path", "options", "reasons"), CASES)
async def test_refused_request_is_reported_once(
    strict: Running,
    session: ClientSession,
    method: str,
    path: str,
    options: dict[str, Any],
    reasons: list[RefusalReason],
) -> None:
    heard = observe(strict)
    async with session.request(method, path, **options) as answer:
        assert (answer.status >= 400) == bool(reasons)
    assert heard == reasons


async def test_each_refused_item_of_a_batch_is_reported(
    strict: Running, session: ClientSession
) -> None:
    heard = observe(strict)
    items = [PUBLISH, {"topic": "made", "payload": 1}, {"topic": "", "payload": 1}]
    async with session.post("/publish/batch", json={"items": items}) as answer:
        results = (await answer.json())["results"]
    assert ["error" in it for it in results] == [True, False, True]
    assert heard == [ErrorCode.TOPIC_NOT_FOUND, ErrorCode.INVALID_TOPIC]


async def test_refused_handshake_is_reported_once(strict: Running, session: ClientSession) -> None:
    heard = observe(strict)
    with pytest.raises(WSServerHandshakeError):
        await session.ws_connect(f"/ws?client_id={'x' * 1_000}")
    assert heard == [ErrorCode.INVALID_CLIENT_ID]


async def test_refused_command_is_reported_once(strict: Running, session: ClientSession) -> None:
    heard = observe(strict)
    async with session.ws_connect("/ws") as socket:
        for command in ({"type": "publish", **PUBLISH}, {"type": "nothing"}):
            await socket.send_json(command)
            assert json.loads(await socket.receive_str())["type"] == "error"
    assert heard == [ErrorCode.TOPIC_NOT_FOUND, ErrorCode.INVALID_MESSAGE_TYPE]


async def test_slow_body_is_reported_once(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.answers.BODY_TIMEOUT", 0.01)
    heard = observe(strict)
    client = await RawClient.dial(strict.port)
    await client.send(b"POST /publish HTTP/1.1\r\nHost: app.test\r\nContent-Length: 9\r\n\r\n")
    assert b" 408 " in await client.read_head()
    client.close()
    assert heard == [RequestRefusal.TIMEOUT]


async def test_refusals_of_a_server_that_shuts_down(
    strict: Running, session: ClientSession
) -> None:
    heard = observe(strict)
    strict.drain.begin()
    for path in ("/ws", "/events?topic=t"):
        async with session.get(path) as answer:
            assert answer.status == 503
    assert heard == [RequestRefusal.SHUTDOWN] * 2


@pytest.mark.parametrize(("accept", "status"), [("*/*", 503), ("text/event-stream", 200)])
async def test_stream_of_a_full_server_is_reported_once(accept: str, status: int) -> None:
    async with (
        running(Settings(max_connections=1)) as server,
        ClientSession(server.url, headers={"Accept": accept}) as session,
        session.ws_connect("/ws?client_id=me"),
    ):
        heard = observe(server)
        async with session.get("/events?topic=t") as answer:
            assert answer.status == status
        assert heard == [RequestRefusal.FULL]


async def test_large_batch_beside_too_many_others_is_reported_once(
    strict: Running, session: ClientSession
) -> None:
    heard = observe(strict)
    with strict.runner.app[BODY_BUDGET].reserve(("address", "127.0.0.1"), SHARE):
        async with session.post("/publish/batch", data=b" " * 2_000) as answer:
            assert answer.status == 503
    assert heard == [RequestRefusal.BUSY]
