"""`GET /events` with plain sockets, aiohttp's client, curl, and EventSource in Chromium."""

import asyncio
import gc
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.client import URL
from aiohttp.web_protocol import RequestHandler
from playwright.async_api import async_playwright

from hub.settings import Settings
from hub.values import Rule
from tests.support.browser import CHROMIUM, FLAGS, needs_chromium
from tests.support.logs import said
from tests.support.objects import objects_of
from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import needs
from tests.support.proxy import proxy
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running
from tests.support.sse import Listener, Said

ORIGIN = {"Origin": "https://app.example.com"}
REMEMBERING = Settings(history_rules={"h": Rule(100, 60.0, 10_000_000)})


class RawListener:
    """An event stream on a plain socket."""

    def __init__(self, raw: RawClient, head: bytes) -> None:
        self.raw = raw
        self.head = head.decode().split("\r\n")
        self.listener = Listener()

    async def hear(self) -> Said:
        """Return the next message."""
        while True:
            block = await self.raw.read_until(b"\n\n")
            assert block, "the stream has ended"
            if heard := self.listener.take(bytearray(block + b"\n\n")):
                return heard[0]

    async def rest(self) -> list[Said]:
        """Return all messages up to the end of the stream."""
        rest = bytearray(await self.raw.read_to_end())
        heard = self.listener.take(rest)
        assert rest == b"", "it ends within a message"
        return heard


@asynccontextmanager
async def listening(
    port: int, target: str, *, headers: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[RawListener]:
    """Open a stream, and read the head of the response."""
    raw = await RawClient.dial(port, **options)
    lines = [f"GET {target} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    try:
        await raw.send("\r\n".join([*lines, "", ""]).encode())
        yield RawListener(raw, await raw.read_head())
    finally:
        raw.close()


def publish(server: Running, topic: str, *payloads: Any) -> None:
    for payload in payloads:
        server.hub.publish(topic, None, payload, lambda _: None)


def payload(said: Said) -> Any:
    return said.message["message"]["payload"]


# --- The answer -----------------------------------------------------------------------------------


async def test_the_head_of_a_stream(server: Running) -> None:
    async with listening(server.port, "/events?topic=t") as stream:
        status, date, *headers = stream.head
        assert status == "HTTP/1.1 200 OK"
        assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
        assert headers == [
            "Content-Type: text/event-stream",
            "Cache-Control: no-store",
            "X-Accel-Buffering: no",
            "Connection: close",
            "Vary: Origin",
        ]
        assert (await stream.hear()).message["type"] == "ack"
        assert stream.listener.retry >= 1_000


async def test_a_stream_has_the_cors_headers_of_every_answer(server: Running) -> None:
    async with listening(server.port, "/events?topic=t", headers=ORIGIN) as stream:
        assert f"Access-Control-Allow-Origin: {ORIGIN['Origin']}" in stream.head
        assert "Vary: Origin" in stream.head


async def test_the_preflight_is_answered(server: Running) -> None:
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-any"}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.options("/events", headers=ORIGIN | asks) as answer,
    ):
        assert answer.status == 200
        assert "GET" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Topic is required for subscribe"),
        ("?topic=t&topic=t", "Topic 't' is given twice"),
        ("?topic=%ff", "The query is not UTF-8"),
        ("?topic=t&last_event_id=5", "last_event_id must be"),
        ("?" + "&".join(f"topic={number}" for number in range(17)), "at most 16 topics"),
    ],
)
async def test_a_bad_request_is_refused_before_a_stream_begins(
    server: Running, query: str, text: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/events{query}", headers=ORIGIN) as answer,
    ):
        assert answer.status == 400
        assert text in (await answer.json())["error"]
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    assert not server.hub.clients
    assert server.topics() == {}


@pytest.mark.parametrize(
    ("query", "detail"),
    [("", "'Topic is required for subscribe'"), ("?topic=a%0Ab&topic=a%0Ab", r"a\nb")],
)
async def test_a_refused_request_is_one_line_of_the_log(
    server: Running, query: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(f"{server.url}/events{query}", encoded=True)) as answer,
    ):
        assert answer.status == 400
    (line,) = said(caplog)
    assert line.startswith(
        "request refused: method=GET path=/events address=127.0.0.1 status=400 reason=INVALID_"
    )
    assert detail in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("sent", "topic"),
    [
        (b"a+b", "a b"),
        (b"%2B%26", "+&"),
        (b"%F0%9F%90%9D", "\U0001f41d"),
        (b"a/b?c", "a/b?c"),
        (b"%0A%0Ddata:", "\n\rdata:"),
    ],
)
async def test_a_topic_may_have_any_character(server: Running, sent: bytes, topic: str) -> None:
    raw = await RawClient.dial(server.port)
    await raw.send(b"GET /events?topic=%b HTTP/1.1\r\nHost: test\r\n\r\n" % sent)
    stream = RawListener(raw, await raw.read_head())
    assert (await stream.hear()).message["topic"] == topic
    assert server.topics() == {topic: 1}
    raw.close()


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_another_method_is_refused(server: Running, method: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{server.url}/events?topic=t") as answer,
    ):
        assert answer.status == 405


async def test_a_draining_server_refuses_new_streams(server: Running) -> None:
    async with raw_client(server.port):
        server.drain.begin()
        async with listening(server.port, "/events?topic=t") as stream:
            assert stream.head[0].startswith("HTTP/1.1 503 ")


# --- The stream -----------------------------------------------------------------------------------


async def test_a_stream_gets_the_same_events_as_a_websocket(server: Running) -> None:
    async with (
        aiohttp.ClientSession(server.url) as session,
        raw_client(server.port) as socket,
        session.get("/events?topic=t&topic=u") as answer,
    ):
        await socket.subscribe("t")
        assert answer.content_type == "text/event-stream"
        for number in range(3):
            body = {"topic": "t", "payload": number}
            async with session.post("/publish", json=body) as published:
                assert (await published.json())["receivers"] == 2
        stream, listener, heard = bytearray(), Listener(), []
        async for data in answer.content.iter_any():
            stream += data
            heard += listener.take(stream)
            if len(heard) == 5:
                break
        assert [it.message["topic"] for it in heard] == ["t", "u", "t", "t", "t"]
        assert [it.message for it in heard[2:]] == [await socket.hear() for _ in range(3)]
        async with session.get("/stats") as stats:
            assert await stats.json() == {
                "total_clients": 2,
                "total_topics": 2,
                "topics": {"t": 2, "u": 1},
            }


@needs("curl")
async def test_the_curl_command_of_the_tutorial_shows_events(server: Running) -> None:
    (line,) = re.findall(r"(?m)^(curl -N .*)$", (ROOT / "docs/tutorial.md").read_text())
    words = shlex.split(line.replace("localhost:8080", f"127.0.0.1:{server.port}"))
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    stream, listener, heard = bytearray(), Listener(), []
    async with asyncio.timeout(PATIENCE):
        while len(heard) < 2:
            stream += await process.stdout.readline()
            if heard_now := listener.take(stream):
                heard += heard_now
                publish(server, "news", "hello")
    assert heard[0].message["type"] == "ack"
    assert payload(heard[1]) == "hello"
    process.kill()
    await process.communicate()
    await until(lambda: not server.hub.clients)


async def test_last_event_id_continues_a_stream_that_was_cut() -> None:
    async with running(REMEMBERING) as server:
        async with listening(server.port, "/events?topic=h1&topic=h2") as stream:
            await stream.hear()
            await stream.hear()
            publish(server, "h1", 1, 2)
            publish(server, "h2", 3)
            assert [payload(await stream.hear()) for _ in range(2)] == [1, 2]
        await until(lambda: not server.hub.clients)
        publish(server, "h1", 4)
        last_id = stream.listener.last_id
        for headers, query in (
            ({"Last-Event-ID": last_id}, "&last_event_id=z:1,z:1"),
            ({}, f"&last_event_id={last_id}"),
        ):
            target = f"/events?topic=h1&topic=h2{query}"
            async with listening(server.port, target, headers=headers) as stream:
                acks = [await stream.hear(), await stream.hear()]
                assert [it.message["recovered"] for it in acks] == [True, True]
                assert {payload(await stream.hear()) for _ in range(2)} == {3, 4}


async def test_bytes_after_the_request_are_ignored(server: Running) -> None:
    raw = await RawClient.dial(server.port)
    request = b"GET /events?topic=t HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
    await raw.send(request + b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n")
    stream = RawListener(raw, await raw.read_head())
    assert (await stream.hear()).message["type"] == "ack"
    for _ in range(100):
        await raw.send(b"x" * 100_000)
    publish(server, "t", 1)
    assert payload(await stream.hear()) == 1
    server.hub.broker.delete("t", lambda _: None)
    assert [payload(it) for it in await stream.rest()] == ["Topic has been deleted"]
    raw.close()


async def test_a_kept_alive_connection_may_become_a_stream(server: Running) -> None:
    raw = await RawClient.dial(server.port)
    await raw.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
    head = await raw.read_head()
    await raw.read_exactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
    await raw.send(b"GET /events?topic=t HTTP/1.1\r\nHost: test\r\n\r\n")
    stream = RawListener(raw, await raw.read_head())
    assert (await stream.hear()).message["type"] == "ack"
    raw.close()


@pytest.mark.parametrize("way", ["close", "half_close", "reset"])
async def test_a_client_that_disconnects_is_unsubscribed(server: Running, way: str) -> None:
    async with listening(server.port, "/events?topic=t") as stream:
        await stream.hear()
        assert server.topics() == {"t": 1}
        getattr(stream.raw, way)()
        await until(lambda: not server.hub.clients)
        assert server.topics() == {}


async def test_aiohttp_forgets_the_connection(server: Running) -> None:
    assert server.runner.server is not None
    connections = server.runner.server
    tasks = len(asyncio.all_tasks())
    async with listening(server.port, "/events?topic=t") as stream:
        await stream.hear()
        await until(lambda: not connections.connections)
        assert len(asyncio.all_tasks()) == tasks
        gc.collect()
        assert not objects_of(RequestHandler)


async def test_a_shutdown_is_announced_and_ends_the_stream(server: Running) -> None:
    async with listening(server.port, "/events?topic=t") as stream:
        await stream.hear()
        publish(server, "t", 1)
        server.drain.begin()
        told = [payload(it) for it in await stream.rest()]
        assert told[0] == 1
        assert told[1].startswith("Server is shutting down")
        await until(lambda: not server.hub.clients)


async def test_a_stream_that_is_not_read_is_cut_and_recovers_the_rest() -> None:
    async with running(REMEMBERING) as server:
        target = "/events?topic=h&topic=i"
        async with listening(server.port, target, receive_buffer=4_096) as slow:
            await slow.hear()
            (client,) = server.hub.clients
            count = 0
            while client.open:
                count += 1
                publish(server, "h", f"{count}:{'x' * 50_000}")
                await asyncio.sleep(0)
            heard = await slow.rest()
        assert heard[-1].message["error"]["code"] == "SLOW_CONSUMER"
        last_id = slow.listener.last_id
        async with listening(server.port, target, headers={"Last-Event-ID": last_id}) as stream:
            got = len(heard) - 2
            acks = [await stream.hear(), await stream.hear()]
            assert acks[0].message["recovered"] is True
            for number in range(got + 1, count + 1):
                assert payload(await stream.hear()).partition(":")[0] == str(number)
            assert stream.listener.last_id.startswith(acks[0].message["epoch"])


# --- A browser ------------------------------------------------------------------------------------

FOLLOW = """url => {
  window.heard = [];
  const source = new EventSource(url);
  source.onmessage = ({data}) => {
    const {type, message, recovered} = JSON.parse(data);
    heard.push(type === "event" ? message.payload : recovered === undefined ? type : recovered);
  };
}"""


@needs_chromium
async def test_an_event_source_reconnects_and_misses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.event_stream.RETRY", (1, 10))
    async with (
        running(REMEMBERING) as server,
        proxy(server.port) as between,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"{server.url}/health")  # of another origin than the proxy
        await page.evaluate(FOLLOW, f"http://127.0.0.1:{between.port}/events?topic=h1&topic=h2")
        await page.wait_for_function("heard.length === 2")
        publish(server, "h1", 1)
        await page.wait_for_function("heard.length === 3")
        between.cut()
        publish(server, "h1", 2)
        publish(server, "h2", 3)
        await page.wait_for_function("heard.length === 7")
        publish(server, "h2", 4)
        await page.wait_for_function("heard.length === 8")
        heard = await page.evaluate("heard")
        await browser.close()
    assert heard == ["ack", "ack", 1, True, True, 2, 3, 4]
