"""What each metric counts, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSServerHandshakeError

from handlers.keys import BODY_BUDGET
from hub.access import compile_patterns
from hub.body_budget import SHARE
from hub.origins import parse_hosts, parse_origins
from hub.protocol.validation import MAX_ELEMENTS
from hub.settings import Settings
from tests.support.frames import TEXT, client_frame
from tests.support.metrics import figure
from tests.support.patience import PATIENCE
from tests.support.raw import RawClient, raw_client, stalled_client, until
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, settings, sign

ALL = compile_patterns(["#"])


@pytest_asyncio.fixture
async def session(server: Running) -> AsyncIterator[ClientSession]:
    async with ClientSession(server.url) as session:
        yield session


def figures(server: Running, name: str, label: str, *values: str) -> list[float]:
    return [figure(server, name, **{label: value}) for value in values]


def connects(server: Running, transport: str, result: str) -> float:
    return figure(server, "connections_total", transport=transport, result=result)


# --- Connections ----------------------------------------------------------------------------------


async def test_connections_and_subscriptions_are_counted_while_they_last(
    server: Running, session: ClientSession
) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t", "u")
        async with session.get("/events?topic=t") as stream:
            await stream.content.readuntil(b'"type":"ack"')
            assert figure(server, "connections") == 2
            assert figure(server, "subscriptions") == 3
            assert figure(server, "topics") == 2
    await until(lambda: not server.hub.clients)
    assert [figure(server, it) for it in ("connections", "subscriptions", "topics")] == [0, 0, 0]
    assert connects(server, "websocket", "accepted") == connects(server, "sse", "accepted") == 1
    assert sum(figures(server, "disconnects_total", "reason", "left", "lost")) == 2
    assert figure(server, "connection_seconds_count") == 2
    assert figure(server, "connection_seconds_bucket", le="10.0") == 2
    assert 0 < figure(server, "connection_seconds_sum") < 20


@pytest.mark.parametrize(
    ("changes", "headers", "result"),
    [
        ({"max_connections": 1}, {}, "full"),
        ({"max_connections_per_ip": 1}, {}, "limited"),
        ({"allowed_origins": parse_origins("https://app.test")}, {"Origin": "null"}, "denied"),
        ({"allowed_hosts": parse_hosts("test")}, {"Host": "other"}, "denied"),
        ({"max_topic_bytes": 1}, {}, "invalid"),
    ],
)
async def test_refused_connections_are_counted_by_their_result(
    changes: dict[str, Any], headers: dict[str, str], result: str
) -> None:
    client_id = "x" * 256 if result == "invalid" else "me"
    async with (
        running(Settings(**changes)) as server,
        raw_client(server.port),
        ClientSession(server.url, headers=headers) as session,
    ):
        with pytest.raises(WSServerHandshakeError):
            await session.ws_connect(f"/ws?client_id={client_id}")
        async with session.get("/events?topic=long") as answer:
            assert answer.status >= 400
        assert connects(server, "websocket", result) == connects(server, "sse", result) == 1
        assert connects(server, "websocket", "accepted") == 1


async def test_connections_refused_by_access_and_in_a_shutdown_are_counted() -> None:
    async with running(settings()) as server, ClientSession(server.url) as session:
        async with session.get("/events?topic=t", headers={"X-API-Key": "wrong"}) as answer:
            assert answer.status == 401
        without_rights = {"Authorization": f"Bearer {sign(subscribe=[])}"}
        async with session.get("/events?topic=t", headers=without_rights) as answer:
            assert answer.status == 403
        assert figure(server, "draining") == 0
        server.drain.announce()
        assert figure(server, "draining") == 1
        server.drain.begin()
        async with session.get("/ws", headers=BACK_END) as answer:
            assert answer.status == 503
        assert connects(server, "sse", "denied") == 2
        assert connects(server, "websocket", "shutdown") == 1
        assert figure(server, "draining") == 1


async def test_a_token_that_is_refused_by_a_close_is_counted() -> None:
    async with running(settings()) as server, ClientSession(server.url) as session:
        async with session.ws_connect("/ws?access_token=wrong") as socket:
            await socket.receive()
            assert socket.close_code == 3000
        await until(lambda: not server.hub.clients)
        assert connects(server, "websocket", "accepted") == 1
        assert figure(server, "refused_total", reason="UNAUTHORIZED") == 1
        assert figure(server, "disconnects_total", reason="unauthorized") == 1


# --- Messages -------------------------------------------------------------------------------------

COMMANDS: list[tuple[dict[str, Any], str]] = [
    ({"type": "subscribe", "topic": "t"}, "subscribe"),
    ({"type": "publish", "topic": "t", "payload": 1}, "publish"),
    ({"type": "ping"}, "ping"),
    ({"type": "auth", "token": "any"}, "auth"),
    ({"type": "unsubscribe", "topic": "t"}, "unsubscribe"),
]


async def test_commands_are_counted_by_type(server: Running) -> None:
    async with raw_client(server.port) as client:
        for command, kind in COMMANDS:
            await client.say(command)
            while (await client.hear())["type"] not in ("ack", "pong"):
                pass
            assert figure(server, "commands_total", type=kind, result="ok") == 1
    assert figure(server, "published_total", source="websocket") == 1


async def test_refused_commands_are_counted_by_type_and_reason() -> None:
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"type": "publish", "topic": "none", "payload": 1}, "publish", "TOPIC_NOT_FOUND"),
        ({"type": "subscribe", "topic": "u"}, "subscribe", "LIMIT_EXCEEDED"),
        ({"type": "auth", "token": "any"}, "auth", "UNAUTHORIZED"),
        ({"type": "dance"}, "invalid", "INVALID_MESSAGE_TYPE"),
    ]
    limited = {"jwt_secret": settings().jwt_secret, "max_subscriptions": 1}
    every = {"anonymous_subscribe": ALL, "anonymous_publish": ALL}
    async with running(Settings(**limited, **every)) as server, raw_client(server.port) as client:
        await client.subscribe("t")
        for command, kind, reason in refused:
            await client.say(command)
            assert (await client.hear())["error"]["code"] == reason
            assert figure(server, "commands_total", type=kind, result="refused") == 1
            assert figure(server, "refused_total", reason=reason) == 1


async def test_a_command_without_a_client_id_is_counted_by_its_type(
    server: Running, session: ClientSession
) -> None:
    async with session.ws_connect("/ws") as socket:
        for kind in ("subscribe", "unsubscribe"):
            await socket.send_json({"type": kind, "topic": "t"})
            assert (await socket.receive_json())["error"]["code"] == "INVALID_CLIENT_ID"
            assert figure(server, "commands_total", type=kind, result="refused") == 1


async def test_messages_published_over_rest_are_counted_one_by_one(
    server: Running, session: ClientSession
) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        async with session.post("/publish", json={"topics": ["t", "none"], "payload": 1}):
            pass
        items = [{"topic": "t", "payload": number} for number in range(3)]
        async with session.post("/publish/batch", json={"items": items}):
            pass
        async with session.post("/publish", json={"topic": "none", "payload": 1}):
            pass
    assert figures(server, "published_total", "source", "websocket", "rest") == [0, 4]
    assert figure(server, "refused_total", reason="TOPIC_NOT_FOUND") == 2


async def test_deliveries_are_counted_by_subscriber_with_their_bytes(server: Running) -> None:
    async with raw_client(server.port) as one, raw_client(server.port) as two:
        for client in (one, two):
            await client.subscribe("t")
        for number in range(3):
            await one.say({"type": "publish", "topic": "t", "payload": number})
        frames = [frame for _ in range(3) if (frame := await two.frame()) is not None]
    # A frame of up to 125 bytes of payload has a head of two.
    size = sum(2 + len(payload) for _, payload in frames)
    assert all(len(payload) < 126 for _, payload in frames)
    assert figure(server, "delivered_total") == 6
    assert figure(server, "delivered_bytes_total") == 2 * size


# --- Slow clients ---------------------------------------------------------------------------------


async def test_queued_bytes_are_those_of_slow_clients() -> None:
    async with running(Settings(max_queue_bytes=10_000_000)) as server:
        async with raw_client(server.port):
            assert figure(server, "queue_bytes") == figure(server, "queue_max_bytes") == 0
            slow = [await stalled_client(server.port) for _ in range(2)]
            await until(lambda: sum(client.slow for client in server.hub.clients) == 2)
            worst = figure(server, "queue_max_bytes")
            assert 0 < worst < figure(server, "queue_bytes") < 2 * worst
        for client in slow:
            client.reset()
        await until(lambda: not server.hub.clients)
        assert figure(server, "queue_bytes") == 0
        assert figure(server, "dropped_total", reason="lost") > 0


# --- Limits that have no other test ---------------------------------------------------------------


async def test_too_many_elements_are_counted_as_a_limit(
    server: Running, session: ClientSession
) -> None:
    body = b'{"topic":"t","payload":[' + b"1," * MAX_ELEMENTS + b"1]}"
    async with running(Settings(max_message_bytes=1_000_000)) as server:
        async with raw_client(server.port) as client:
            await client.send(client_frame(TEXT, body))
            assert (await client.hear())["error"]["code"] == "INVALID_MESSAGE"
            assert figure(server, "limited_total", limit="elements") == 1
        async with ClientSession(server.url) as session, session.post("/publish", data=body) as it:
            assert it.status == 400
        assert figure(server, "limited_total", limit="elements") == 2


async def test_a_slow_body_is_counted_as_a_limit(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.answers.BODY_TIMEOUT", 0.01)
    client = await RawClient.dial(server.port)
    await client.send(b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n")
    assert b" 408 " in await client.read_head()
    client.close()
    assert figure(server, "limited_total", limit="body_timeout") == 1


async def test_too_many_large_batches_are_counted_as_a_limit(
    server: Running, session: ClientSession
) -> None:
    with server.runner.app[BODY_BUDGET].reserve(("address", "127.0.0.1"), SHARE):
        async with session.post("/publish/batch", data=b" " * 70_000) as answer:
            assert answer.status == 503
    assert figure(server, "limited_total", limit="large_batches") == 1


async def test_too_many_long_polls_are_counted_as_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.long_poll.MAX_WAITING", 0)
    async with running(Settings(history_size=1)) as server, raw_client(server.port) as client:
        await client.subscribe("t")
        async with (
            ClientSession(server.url) as session,
            session.get("/topics/t/history?wait=10") as answer,
        ):
            assert answer.status == 503
        assert figure(server, "limited_total", limit="long_polls") == 1


async def test_events_forgotten_for_the_total_of_histories_are_counted() -> None:
    small = Settings(history_size=10, history_total_bytes=1_024)
    async with running(small) as server, raw_client(server.port) as client:
        await client.subscribe("t")
        for _ in range(3):
            await client.say({"type": "publish", "topic": "t", "payload": "x" * 200})
            await client.hear()
            await client.hear()
        assert figure(server, "limited_total", limit="HISTORY_TOTAL_BYTES") == 1
        assert 400 < figure(server, "history_bytes") <= 1_024


async def test_a_late_message_is_counted_as_a_limit() -> None:
    async with running(Settings(message_timeout=1.0)) as server, raw_client(server.port) as client:
        await client.send(client_frame(TEXT, b"{}")[:-1])
        await until(lambda: any(it.liveness.incomplete for it in server.hub.clients))
        server.visit_all(100.0)
        server.visit_all(200.0)
        assert (await client.hear())[1] == 3008
        client.half_close()
        await until(lambda: not server.hub.clients)
        assert figure(server, "limited_total", limit="MESSAGE_TIMEOUT") == 1


# --- The loop -------------------------------------------------------------------------------------


async def test_the_lags_of_the_loop_and_of_deliveries_are_sampled(server: Running) -> None:
    sweeping = asyncio.create_task(server.sweeper.run())
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        async with asyncio.timeout(PATIENCE):
            while not figure(server, "delivery_lag_seconds_count"):
                await client.say({"type": "publish", "topic": "t", "payload": 1})
                await client.hear()
                await client.hear()
                await asyncio.sleep(0.01)
    sweeping.cancel()
    with suppress(asyncio.CancelledError):
        await sweeping
    assert 0 < figure(server, "delivery_lag_seconds_sum") < 10
    assert figure(server, "event_loop_lag_seconds_count") > 0
