"""Each limit, from outside of a running server."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from hub.addresses import parse_networks
from hub.counters import Counters
from hub.event_log import EventLog
from hub.logs import events
from hub.settings import Settings, read_settings
from tests.support.frames import BINARY, PING, PONG, TEXT, client_frame
from tests.support.logs import said
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, KEY, SECRET, sign

LOCAL = parse_networks("127.0.0.1")
STREAM = {"Accept": "text/event-stream"}


def behind_proxy(address: str) -> dict[str, str]:
    """Return the header that a proxy adds for a client."""
    return {"X-Forwarded-For": address}


async def status_of(session: ClientSession, path: str, **options: Any) -> int:
    """Return the status of a GET request."""
    async with session.get(path, **options) as response:
        return response.status


async def connect_status(server: Running, address: str = "") -> int:
    """Open a WebSocket and close it; return the status of the handshake."""
    headers = behind_proxy(address) if address else {}
    async with ClientSession() as session:
        try:
            await session.ws_connect(server.ws, headers=headers)
        except WSServerHandshakeError as error:
            return error.status
    return 101


async def expect_end_of_stream(session: ClientSession, path: str) -> None:
    """Expect a stream that has a `retry` and no message."""
    async with session.get(path, headers=STREAM) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
        assert text.startswith("retry: ")
        assert text.strip().count("\n") == 0


# --- Connections ----------------------------------------------------------------------------------


async def test_an_address_with_all_its_connections_gets_429_and_no_hub_state() -> None:
    settings = Settings(max_connections_per_ip=2)
    async with running(settings) as server, ClientSession(server.url) as session:
        async with raw_client(server.port), raw_client(server.port):
            with pytest.raises(WSServerHandshakeError) as caught:
                await session.ws_connect("/ws")
            assert caught.value.status == 429
            assert caught.value.headers is not None
            assert caught.value.headers["Retry-After"] == "5"
            assert await status_of(session, "/events?topic=t") == 429
            await expect_end_of_stream(session, "/events?topic=t")
            assert len(server.hub.clients) == 2
            assert server.topics() == {}
            assert await status_of(session, "/stats") == 200
        await until(lambda: not server.hub.clients)
        assert len(server.hub.connections) == 0
        async with raw_client(server.port) as client:
            await client.subscribe("t")


async def test_streams_count_as_connections() -> None:
    settings = Settings(max_connections_per_ip=1)
    async with running(settings) as server, ClientSession(server.url) as session:
        async with session.get("/events?topic=t") as stream:
            assert stream.status == 200
            assert await status_of(session, "/events?topic=t") == 429
        await until(lambda: not server.hub.clients)
        assert await connect_status(server) == 101


async def test_connections_are_counted_by_the_address_behind_the_proxy() -> None:
    settings = Settings(max_connections_per_ip=1, trusted_proxies=LOCAL)
    async with running(settings) as server, ClientSession(server.url) as session:
        addresses = ("203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8:0:1::1")
        opened = []
        for address in addresses:
            headers = behind_proxy(address)
            opened.append(await session.ws_connect("/ws", headers=headers))
            assert await status_of(session, "/events?topic=t", headers=headers) == 429
            spoofed = behind_proxy(f"198.51.100.1, {address}")
            assert await status_of(session, "/events?topic=t", headers=spoofed) == 429
        same_network = behind_proxy("2001:db8::ffff")
        assert await status_of(session, "/events?topic=t", headers=same_network) == 429
        assert [client.address for client in server.hub.clients] == list(addresses)


async def test_a_client_cannot_choose_its_address() -> None:
    async with (
        running(Settings(max_connections_per_ip=1)) as server,
        ClientSession(server.url) as session,
        session.ws_connect("/ws"),
    ):
        headers = behind_proxy("203.0.113.1")
        assert await status_of(session, "/events?topic=t", headers=headers) == 429


async def test_connects_over_the_rate_get_429_before_any_hub_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    settings = Settings(connect_rate_per_ip=3, trusted_proxies=LOCAL)
    async with running(settings) as server:
        statuses = [await connect_status(server, "203.0.113.1") for _ in range(5)]
        assert statuses == [101] * 3 + [429] * 2
        assert await connect_status(server, "203.0.113.2") == 101


async def test_a_stream_over_the_rate_ends_with_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    settings = Settings(connect_rate_per_ip=1)
    async with running(settings) as server, ClientSession(server.url) as session:
        assert await status_of(session, "/events") == 400  # it counts, too
        await expect_end_of_stream(session, "/events?topic=t")
        assert await status_of(session, "/events?topic=t") == 429
        assert server.topics() == {}


async def test_a_storm_of_reconnects_is_admitted_at_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("handlers.limits._now", lambda: clock[0])
    settings = Settings(connect_rate_per_ip=10)
    async with running(settings) as server, ClientSession(server.url) as session:
        admitted = 0
        for _ in range(4):
            for _ in range(25):
                admitted += await status_of(session, "/events?topic=") == 400
            clock[0] += 0.5
        assert admitted == 10 + 3 * 5
        clock[0] += 0.01
        async with session.get("/events?topic=") as response:
            assert response.status == 400
        for _ in range(4):
            assert await status_of(session, "/events?topic=") == 400
        async with session.get("/events?topic=") as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "1"


# --- Requests -------------------------------------------------------------------------------------


async def test_requests_over_the_rate_get_429_and_do_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("handlers.limits._now", lambda: clock[0])
    settings = Settings(request_rate=2, trusted_proxies=LOCAL)
    async with running(settings) as server, ClientSession(server.url) as session:
        for name in ("a", "b"):
            async with session.post("/topics", json={"name": name}) as made:
                assert made.status == 201
        async with session.post(
            "/topics", json={"name": "c"}, headers={"Origin": "https://app.example"}
        ) as refused:
            assert refused.status == 429
            assert list(await refused.json()) == ["error"]
            assert refused.headers["Retry-After"] == "1"
            assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert await status_of(session, "/nowhere") == 429
        assert server.topics() == {"a": 0, "b": 0}
        assert await status_of(session, "/stats", headers=behind_proxy("203.0.113.1")) == 200
        for probe in ("/live", "/ready", "/health"):
            assert await status_of(session, probe) == 200
        assert await status_of(session, "/events?topic=") == 400  # it has a rate of its own
        clock[0] += 0.5
        assert await status_of(session, "/stats") == 200
        assert await status_of(session, "/stats") == 429


async def test_preflights_do_not_count_as_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with running(Settings(request_rate=1)) as server, ClientSession(server.url) as session:
        for _ in range(3):
            async with session.options("/publish", headers=asks) as preflight:
                assert preflight.status == 200
        assert await status_of(session, "/stats", headers=asks) == 200  # no preflight
        assert await status_of(session, "/stats", headers=asks) == 429
        async with session.options("/publish", headers=asks) as preflight:
            assert preflight.status == 200
        async with session.options("/nowhere", headers=asks) as refused:
            assert refused.status == 429


async def test_a_refusal_is_logged_with_the_client_and_the_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    settings = Settings(request_rate=1, trusted_proxies=LOCAL)
    async with running(settings) as server, ClientSession(server.url) as session:
        headers = behind_proxy("203.0.113.1")
        while await status_of(session, "/stats", headers=headers) == 200:
            pass
    why = "Too many requests: at most 1 a second (REQUEST_RATE)"
    assert said(caplog, events.REQUEST_REFUSED) == [
        "request refused: method=GET path=/stats address=203.0.113.1 status=429"
        f" reason=RATE_LIMITED detail={why!r}"
    ]


async def test_a_full_server_ends_a_stream_with_a_retry() -> None:
    settings = Settings(max_connections=1)
    async with (
        running(settings) as server,
        raw_client(server.port),
        ClientSession(server.url) as session,
    ):
        assert await status_of(session, "/events?topic=t") == 503
        await expect_end_of_stream(session, "/events?topic=t")


# --- Subscriptions and topics ---------------------------------------------------------------------


async def test_a_subscribe_over_max_subscriptions_is_refused_until_another_ends() -> None:
    async with running(Settings(max_subscriptions=2)) as server, raw_client(server.port) as client:
        await client.subscribe("a", "b")
        await client.say({"type": "subscribe", "topic": "c", "request_id": "r1"})
        refused = await client.hear()
        assert refused["request_id"] == "r1"
        assert refused["error"]["code"] == "LIMIT_EXCEEDED"
        assert "at most 2 (MAX_SUBSCRIPTIONS)" in refused["error"]["message"]
        assert server.topics() == {"a": 1, "b": 1}
        await client.subscribe("a")  # a repeated one is none more
        await client.say({"type": "unsubscribe", "topic": "a"})
        assert (await client.hear())["type"] == "ack"
        await client.subscribe("c")
        async with raw_client(server.port) as other:
            await other.subscribe("d", "e")


async def test_a_stream_of_too_many_topics_is_refused() -> None:
    async with (
        running(Settings(max_subscriptions=1)) as server,
        ClientSession(server.url) as session,
    ):
        async with session.get("/events?topic=a&topic=b", headers=STREAM) as response:
            assert response.status == 400
            assert "at most 1 (MAX_SUBSCRIPTIONS)" in (await response.json())["error"]
        assert server.topics() == {}


async def test_a_topic_over_max_topics_is_refused() -> None:
    async with (
        running(Settings(max_topics=2)) as server,
        ClientSession(server.url) as session,
        raw_client(server.port) as client,
    ):
        await client.subscribe("automatic")
        async with session.post("/topics", json={"name": "made"}) as made:
            assert made.status == 201
        async with session.post("/topics", json={"name": "more"}) as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "5"
            assert "at most 2 (MAX_TOPICS)" in (await refused.json())["error"]
        async with session.post("/topics", json={"name": "made"}) as known:
            assert known.status == 409
        await client.say({"type": "subscribe", "topic": "more"})
        assert (await client.hear())["error"]["code"] == "LIMIT_EXCEEDED"
        async with session.get("/events?topic=more", headers=STREAM) as stream:
            assert stream.status == 200
            assert '"code":"LIMIT_EXCEEDED"' in await stream.text()  # and it ends
        await client.subscribe("made")
        assert server.topics() == {"automatic": 1, "made": 1}
        async with session.delete("/topics/automatic") as deleted:
            assert deleted.status == 200
        assert (await client.hear())["reason"] == "TOPIC_DELETED"
        await client.subscribe("more")


async def test_an_eighth_of_max_topics_is_kept_for_callers_that_may_manage_the_topic() -> None:
    env = {"API_KEYS": f"app:{KEY}", "JWT_SECRET": SECRET, "ANONYMOUS_SUBSCRIBE": "*"}
    full = {"topic": "room/1", "type": "subscribe"}
    async with (
        running(read_settings({**env, "MAX_TOPICS": "17"})) as server,
        ClientSession(server.url) as session,
        raw_client(server.port) as stranger,
        raw_client(server.port) as manager,
    ):
        await stranger.subscribe(*(f"t{number}" for number in range(15)))
        await stranger.say(full)
        refusal = (await stranger.hear())["error"]
        assert refusal["code"] == "LIMIT_EXCEEDED"
        assert "at most 15 (7/8 of MAX_TOPICS)" in refusal["message"]
        async with session.get("/events?topic=room/1", headers=STREAM) as stream:
            assert '"code":"LIMIT_EXCEEDED"' in await stream.text()
        token = sign(subscribe=["#"], manage=["room/#"])
        await manager.say({"type": "auth", "token": token})
        assert (await manager.hear())["type"] == "ack"
        await manager.say({**full, "topic": "other"})
        assert (await manager.hear())["error"]["code"] == "LIMIT_EXCEEDED"
        await manager.subscribe("room/1")
        await stranger.subscribe("room/1")  # it exists
        async with session.post("/topics", json={"name": "made"}, headers=BACK_END) as made:
            assert made.status == 201
        async with session.post("/topics", json={"name": "more"}, headers=BACK_END) as more:
            assert more.status == 503
            assert "at most 17 (MAX_TOPICS)" in (await more.json())["error"]


async def test_topics_that_only_their_history_keeps_count() -> None:
    settings = Settings(max_topics=1, history_size=1)
    async with running(settings) as server, raw_client(server.port) as client:
        await client.subscribe("old")
        await client.say({"type": "unsubscribe", "topic": "old"})
        assert (await client.hear())["type"] == "ack"
        await client.say({"type": "subscribe", "topic": "new"})
        assert (await client.hear())["error"]["code"] == "LIMIT_EXCEEDED"
        await client.subscribe("old")


# --- Messages and bytes of a WebSocket ------------------------------------------------------------


class Clock:
    """The hub's clock, which a test moves."""

    def __init__(self, server: Running) -> None:
        self.now = 1_000.0
        server.hub.clock = self.read

    def read(self) -> float:
        return self.now


def codes(heard: list[Any]) -> list[str]:
    """Return the type of each message, or the code of an error."""
    return [it["error"]["code"] if it["type"] == "error" else it["type"] for it in heard]


def ping(number: int) -> bytes:
    return client_frame(TEXT, b'{"type":"ping","request_id":"%d"}' % number)


async def test_messages_over_the_rate_are_refused_in_order() -> None:
    async with running(Settings(message_rate=2)) as server:
        clock = Clock(server)
        async with raw_client(server.port) as client, raw_client(server.port) as other:
            await client.send(b"".join(map(ping, range(6))))  # one read or several
            heard = [await client.hear() for _ in range(6)]
            assert codes(heard) == ["pong"] * 4 + ["RATE_LIMITED"] * 2
            assert [it["request_id"] for it in heard] == [str(number) for number in range(6)]
            assert [it["error"]["retry_after_ms"] for it in heard[4:]] == [500, 500]
            clock.now += 0.5
            await client.send(ping(6) + ping(7))
            assert codes([await client.hear(), await client.hear()]) == ["pong", "RATE_LIMITED"]
            await other.send(ping(0))
            assert codes([await other.hear()]) == ["pong"]


async def test_every_kind_of_message_counts_and_unsubscribe_is_never_refused() -> None:
    async with running(Settings(message_rate=1)) as server:
        Clock(server)
        async with raw_client(server.port) as client:
            await client.subscribe("t", "u")
            await client.say({"type": "publish", "topic": "t", "payload": 1, "request_id": "p"})
            await client.say({"type": "subscribe", "topic": "v"})
            await client.say({"type": "nonsense"})
            await client.send(client_frame(TEXT, b"no JSON") + client_frame(BINARY))
            await client.send(client_frame(PING, b"still here") + client_frame(PONG))
            heard = [await client.hear() for _ in range(5)]
            assert codes(heard) == ["RATE_LIMITED"] * 5
            assert heard[0]["request_id"] == "p"
            assert await client.hear() == (PONG, b"still here")
            await client.say({"type": "unsubscribe", "topic": "t", "request_id": "u"})
            ack = await client.hear()
            assert (ack["type"], ack["request_id"]) == ("ack", "u")
            assert server.topics() == {"u": 1}


async def test_ten_seconds_over_the_rate_close_the_connection() -> None:
    async with running(Settings(message_rate=1)) as server:
        clock = Clock(server)
        async with raw_client(server.port) as client:
            for _ in range(11):
                await client.send(b"".join(map(ping, range(4))))
                heard = [await client.hear() for _ in range(4)]
                assert codes(heard)[-1] == "RATE_LIMITED"
                clock.now += 1.0
                if clock.now == 1_010.0:
                    break
            await client.send(b"".join(map(ping, range(4))))
            heard = await client.rest_until_close()
            assert codes(heard[:-1])[-1] == "RATE_LIMITED"
            assert heard[-1] == ("close", 1013, "rate_limited")


async def test_unsubscribes_over_the_rate_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    limited: list[str] = []
    monkeypatch.setattr(Counters, "limited", lambda _, limit: limited.append(limit))
    async with running(Settings(message_rate=1)) as server:
        clock = Clock(server)
        async with raw_client(server.port) as client:
            leave = {"type": "unsubscribe", "topic": "t"}
            for _ in range(13):
                await client.send(client_frame(TEXT, json.dumps(leave).encode()) * 4)
                assert "RATE_LIMITED" not in codes([await client.hear() for _ in range(4)])
                clock.now += 1.0
            assert limited == []
            await client.send(b"".join(map(ping, range(4))))
            heard = [await client.hear() for _ in range(4)]
            assert codes(heard)[-1] == "RATE_LIMITED"  # the first that is refused


async def test_a_protocol_error_after_refused_messages_closes_after_their_answers() -> None:
    async with running(Settings(message_rate=1)) as server:
        Clock(server)
        async with raw_client(server.port) as client:
            await client.send(b"".join(map(ping, range(4))) + client_frame(3) + ping(9))
            heard = await client.rest_until_close()
            assert codes(heard[:-1]) == ["pong"] * 2 + ["RATE_LIMITED"] * 2
            assert heard[-1] == ("close", 1002, "protocol_error")


async def test_a_refused_message_that_is_not_utf8_closes_the_connection() -> None:
    async with running(Settings(message_rate=1)) as server:
        Clock(server)
        async with raw_client(server.port) as client:
            await client.send(ping(0) + ping(1) + client_frame(TEXT, b"\xff"))
            heard = await client.rest_until_close()
            assert heard[-1] == ("close", 1007, "invalid_utf8")


async def test_reading_pauses_over_the_byte_rate_and_goes_on() -> None:
    async with running(Settings(byte_rate=1_000)) as server:
        clock = Clock(server)
        async with raw_client(server.port) as client:
            (record,) = server.hub.clients
            padded = client_frame(TEXT, b'{"type":"ping"}' + b" " * 2_000)
            await client.send(padded)  # 21 bytes over the burst
            assert codes([await client.hear()]) == ["pong"]
            assert record.commands.unread is not None
            await client.send(ping(1))
            assert (await client.hear())["request_id"] == "1"  # about 21 ms later
            clock.now += 10.0
            await client.send(ping(2))
            assert (await client.hear())["request_id"] == "2"
            assert record.commands.unread is None


async def test_a_flood_is_read_at_the_byte_rate_and_the_pause_is_short() -> None:
    rate = 2_000_000
    async with running(Settings(byte_rate=rate)) as server, raw_client(server.port) as client:
        loop = asyncio.get_running_loop()
        message = client_frame(TEXT, b'{"type":"ping"}' + b" " * 60_000)
        count = 100  # 6 MB: 4 MB of burst, and one second
        began = loop.time()
        sending = asyncio.create_task(client.send(message * count))
        for _ in range(count):
            assert codes([await client.hear()]) == ["pong"]
        await sending
        assert loop.time() - began > (count * len(message) / rate - 2) * 0.8


async def test_a_client_that_leaves_in_a_pause_leaves_nothing() -> None:
    async with running(Settings(byte_rate=100)) as server:
        async with raw_client(server.port) as client:
            await client.subscribe("t")
            await client.send(client_frame(TEXT, b'{"type":"ping"}' + b" " * 1_000))
            assert codes([await client.hear()]) == ["pong"]
            client.reset()
        (record,) = server.hub.clients
        await until(lambda: not server.hub.clients or record.commands.unread is None)
        await until(lambda: not server.hub.clients)
        assert server.topics() == {}


# --- Long polls -----------------------------------------------------------------------------------


async def test_a_long_poll_over_the_limit_gets_503_if_it_must_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.long_poll.MAX_WAITING", 2)
    async with (
        running(Settings(history_size=5)) as server,
        raw_client(server.port) as client,
        ClientSession(server.url) as session,
    ):
        await client.subscribe("t")
        path = "/topics/t/history?wait=60"
        polls = [asyncio.create_task(status_of(session, path)) for _ in range(2)]
        history = server.hub.broker.history("t")
        assert history is not None
        await until(lambda: len(history.waiters) == 2)
        async with session.get(path) as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "5"
            assert await refused.json() == {"error": "2 requests wait for events"}
        assert await status_of(session, "/topics/t/history") == 200
        await client.say({"type": "publish", "topic": "t", "payload": 1})
        assert await asyncio.gather(*polls) == [200, 200]
        epoch = history.position.epoch
        past = f"{path}&since_epoch={epoch}&since_offset=0"
        assert await status_of(session, past) == 200  # it need not wait
        again = asyncio.create_task(status_of(session, path))
        await until(lambda: len(history.waiters) == 1)
        again.cancel()
        with suppress(asyncio.CancelledError):
            await again


# --- Heads of requests ----------------------------------------------------------------------------

REQUEST = b"GET /live HTTP/1.1\r\nHost: test\r\n"
POST = b"POST /topics HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\n"


class Heads:
    """A server whose time of heads a test moves, and a connection to it."""

    def __init__(self, server: Running, client: RawClient) -> None:
        self.client = client
        self._server = server
        self._began = asyncio.get_running_loop().time()

    async def arrived(self, data: bytes) -> None:
        """Send bytes, and wait until the server has read them."""
        before = [it.head_since for it in self._heads()]
        await self.client.send(data)
        await until(lambda: [it.head_since for it in self._heads()] != before)

    async def answered(self, data: bytes) -> None:
        """Send the end of a request, and read its answer."""
        await self.client.send(data)
        head = await self.client.read_head()
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found is not None
        await self.client.read_exactly(int(found[1]))

    def _heads(self) -> list[Any]:
        return list(self._server.requests)

    async def ends_after(self, seconds: float) -> bool:
        """Check the heads so many seconds after the start; return whether the connection ends."""
        self._server.visit_requests(self._began + seconds)
        if self._server.requests[0].transport.is_closing():
            with suppress(ConnectionResetError):  # it sent more than the server has read
                assert await self.client.read_to_end() == b""
            return True
        return False


@asynccontextmanager
async def heads() -> AsyncIterator[Heads]:
    async with running(Settings(header_timeout=15.0)) as server:
        client = await RawClient.dial(server.port)
        await until(lambda: bool(server.requests))
        try:
            yield Heads(server, client)
        finally:
            client.close()


async def test_a_connection_that_sends_nothing_ends() -> None:
    async with heads() as it:
        assert not await it.ends_after(14.0)
        assert await it.ends_after(20.0)


async def test_a_head_that_trickles_ends_15_seconds_after_the_connect() -> None:
    async with heads() as it:
        for number, byte in enumerate(REQUEST):
            await it.client.send(bytes([byte]))
            assert not await it.ends_after(14.0 * number / len(REQUEST))
        assert await it.ends_after(20.0)


async def test_a_connection_may_idle_between_two_requests() -> None:
    async with heads() as it:
        await it.answered(REQUEST + b"\r\n")
        assert not await it.ends_after(60.0)
        await it.answered(REQUEST + b"\r\n")
        assert not await it.ends_after(74.0)


async def test_a_head_that_trickles_on_an_open_connection_ends_after_15_seconds() -> None:
    async with heads() as it:
        await it.answered(REQUEST + b"\r\n")
        await it.arrived(REQUEST)
        assert not await it.ends_after(14.0)
        await it.client.send(b"X-Slow: 1\r\n")
        assert await it.ends_after(20.0)


async def test_a_head_in_time_is_answered_and_its_body_is_no_head() -> None:
    async with heads() as it:
        await it.client.send(REQUEST[:5])
        assert not await it.ends_after(14.0)
        await it.answered(REQUEST[5:] + b"\r\n")
        await it.client.send(POST)
        await it.client.send(b'{"name":')
        assert not await it.ends_after(20.0)  # bodies have a timeout of their own
        await it.answered(b'"t"}')
        assert not await it.ends_after(60.0)
        await it.arrived(REQUEST)
        assert await it.ends_after(20.0)


async def test_a_request_in_progress_is_not_ended_by_the_head_after_it() -> None:
    settings = Settings(header_timeout=15.0, history_size=1)
    async with running(settings) as server, raw_client(server.port) as other:
        await other.subscribe("t")
        client = await RawClient.dial(server.port)
        it = Heads(server, client)
        poll = b"GET /topics/t/history?wait=60 HTTP/1.1\r\nHost: test\r\n\r\n"
        await it.arrived(poll)
        await it.arrived(REQUEST)
        assert not await it.ends_after(20.0)
        await until(lambda: bool(server.hub.broker.history("t").waiters))  # type: ignore[union-attr]
        await other.say({"type": "publish", "topic": "t", "payload": 1})
        await it.answered(b"")
        await it.answered(b"\r\n")
        client.close()


async def test_slow_heads_do_not_keep_others_out() -> None:
    settings = Settings(header_timeout=0.2)
    async with running(settings) as server, ClientSession(server.url) as session:
        slow = [await RawClient.dial(server.port) for _ in range(100)]
        for client in slow:
            await client.send(REQUEST)
        sweeping = asyncio.create_task(server.sweeper.run())
        assert await status_of(session, "/live") == 200
        for client in slow:
            assert await client.read_to_end() == b""
            client.close()
        assert await status_of(session, "/live") == 200
        sweeping.cancel()


# --- Observers ------------------------------------------------------------------------------------


async def test_observers_hear_of_each_use_of_a_limit_and_of_each_refusal_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited: list[str] = []
    refused: list[str] = []
    monkeypatch.setattr(Counters, "limited", lambda _, limit: limited.append(limit))
    monkeypatch.setattr(EventLog, "refused", lambda _, reason: refused.append(reason))
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    settings = Settings(connect_rate_per_ip=2, request_rate=1, message_rate=2, max_subscriptions=1)
    async with running(settings) as server, ClientSession(server.url) as session:
        Clock(server)
        async with raw_client(server.port) as client:
            assert await status_of(session, "/events?topic=a&topic=b") == 400
            assert await status_of(session, "/events?topic=a") == 429
            await expect_end_of_stream(session, "/events?topic=a")
            assert await status_of(session, "/stats") == 200
            assert await status_of(session, "/stats") == 429
            await client.subscribe("t")
            await client.say({"type": "subscribe", "topic": "u"})
            await client.send(b"".join(map(ping, range(3))))
            heard = [await client.hear() for _ in range(4)]
            assert codes(heard) == ["LIMIT_EXCEEDED", "pong", "pong", "RATE_LIMITED"]
    assert limited == [
        "MAX_SUBSCRIPTIONS",
        *["CONNECT_RATE_PER_IP"] * 2,
        "REQUEST_RATE",
        "MAX_SUBSCRIPTIONS",
        "MESSAGE_RATE",
    ]
    exceeded, fast = "LIMIT_EXCEEDED", "RATE_LIMITED"
    assert refused == [exceeded, fast, fast, fast, exceeded, fast]
