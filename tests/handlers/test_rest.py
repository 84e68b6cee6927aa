"""REST requests and their answers, CORS headers, and the answers of a draining server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from handlers.answers import awaitable
from hub.brokers.base import PUBLISHED
from hub.brokers.memory import MemoryBroker
from hub.logs import events
from hub.settings import Settings
from tests.support.logs import said
from tests.support.patterns import mismatch, write_out
from tests.support.process import ROOT
from tests.support.raw import RawClient, until
from tests.support.server import Running, running

SCRIPTS = json.loads((Path(__file__).parents[1] / "vectors/rest.json").read_text())
ORIGIN = {"Origin": "https://app.example.com"}


@pytest_asyncio.fixture
async def session() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


async def request(port: int, call: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Send a request over a plain socket, since client libraries normalise paths."""
    method, path = call.split(" ", 1)
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    client = await RawClient.dial(port)
    await client.send("\r\n".join([*lines, "", ""]).encode() + body)
    head = await client.read_head()
    answer = await client.read_to_end()
    client.close()
    return int(head.split()[1]), answer


@pytest.mark.parametrize("vector", SCRIPTS, ids=lambda vector: vector["name"])
async def test_each_request_has_the_answer_of_its_vector(
    server: Running, vector: dict[str, Any]
) -> None:
    listener: RawClient | None = None
    for step in vector["requests"]:
        if "subscribes" in step:
            listener = listener or await RawClient.connect(server.port)
            await listener.subscribe(step["subscribes"])
        elif "hears" in step:
            assert listener is not None
            assert mismatch(step["hears"], await listener.hear()) == ""
        else:
            body = write_out(step["body"]) if "body" in step else step.get("text", "")
            data = body.encode() or b"x" * step.get("fill", 0)
            status, answer = await request(server.port, step["call"], data, step.get("headers", {}))
            assert mismatch(step["answer"], json.loads(answer)) == "", step
            assert status == step["status"]
    if listener is not None:
        listener.close()


CALLS = [
    ("GET", "/"),
    ("GET", "/console/app.js"),
    ("GET", "/client.js"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
    ("GET", "/stats"),
    ("GET", "/health"),
    ("GET", "/live"),
    ("GET", "/ready"),
    ("GET", "/topics"),
    ("POST", "/topics"),
    ("DELETE", "/topics/t"),
    ("POST", "/publish"),
    ("GET", "/ws"),
    ("GET", "/events"),
    ("GET", "/nowhere"),
    ("PATCH", "/stats"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_answer_has_cors_headers(
    server: Running, session: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with session.request(method, server.url + path, headers=ORIGIN, data=b"{") as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        if path != "/" and answer.status != 200:
            assert list(await answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [*CALLS[:13], ("GET", "/topics/t/history"), ("DELETE", "/topics/t/history")],
)
async def test_every_route_answers_the_preflight(
    server: Running, session: aiohttp.ClientSession, method: str, path: str
) -> None:
    asks = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-anything",
    }
    async with session.options(server.url + path, headers=ORIGIN | asks) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert method in answer.headers["Access-Control-Allow-Methods"]
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert "x-anything" in allowed
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/topics", "GET, HEAD, OPTIONS, POST"),
        ("/topics/t", "DELETE, OPTIONS"),
        ("/topics/t/history", "DELETE, GET, HEAD, OPTIONS"),
        ("/publish", "OPTIONS, POST"),
        ("/ws", "GET, OPTIONS"),
        ("/events", "GET, OPTIONS"),
    ],
)
@pytest.mark.parametrize("headers", [{}, ORIGIN], ids=["without Origin", "with Origin"])
async def test_options_without_a_preflight_lists_the_methods(
    server: Running,
    session: aiohttp.ClientSession,
    path: str,
    methods: str,
    headers: dict[str, str],
) -> None:
    async with session.options(server.url + path, headers=headers) as answer:
        assert answer.status == 204
        assert answer.headers["Allow"] == methods
        assert await answer.read() == b""


async def test_options_of_an_unknown_path_is_404(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with session.options(server.url + "/nowhere") as answer:
        assert answer.status == 404


async def test_max_message_bytes_bounds_a_body(session: aiohttp.ClientSession) -> None:
    async with running(Settings(max_message_bytes=200)) as server:
        for size, status in ((200, 400), (201, 413)):
            async with session.post(server.url + "/publish", data=b"x" * size) as answer:
                assert answer.status == status


async def test_two_servers_make_different_ids(session: aiohttp.ClientSession) -> None:
    async with running(Settings()) as one, running(Settings()) as other:
        suffixes = set()
        for server in (one, other):
            await session.post(server.url + "/topics", json={"name": "t"})
            body = {"topic": "t", "payload": 1}
            async with session.post(server.url + "/publish", json=body) as answer:
                suffixes.add((await answer.json())["id"].partition("-")[2])
        assert len(suffixes) == 2


async def test_the_page_has_a_content_security_policy(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with session.get(server.url) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        # No inline script and no inline style; tests/console/ runs the page.
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "unsafe" not in policy
        assert (await answer.text()).lstrip().lower().startswith("<!doctype html>")


STATIC = {
    "/client.js": ("clients/js/client.js", "text/javascript"),
    "/console/app.js": ("console/app.js", "text/javascript"),
    "/console/console.css": ("console/console.css", "text/css"),
}


@pytest.mark.parametrize("path", STATIC)
async def test_a_file_is_revalidated_by_its_etag(
    server: Running, session: aiohttp.ClientSession, path: str
) -> None:
    name, content_type = STATIC[path]
    async with session.get(server.url + path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == f"{content_type}; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.read() == (ROOT / name).read_bytes()
        etag = answer.headers["ETag"]
    for known, status in ((etag, 304), (f'"x", {etag}', 304), ('"x"', 200)):
        async with session.get(server.url + path, headers={"If-None-Match": known}) as answer:
            assert answer.status == status
            assert answer.headers["ETag"] == etag


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2fserver.py", "%00"])
async def test_only_scripts_and_styles_of_the_console_are_files(
    server: Running, session: aiohttp.ClientSession, name: str
) -> None:
    url = URL(f"{server.url}/console/{name}", encoded=True)
    async with session.get(url) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("path", ["/ws", "/events?topic=t", "/health"])
async def test_a_draining_server_refuses_new_clients(
    server: Running, session: aiohttp.ClientSession, path: str
) -> None:
    server.drain.begin()
    headers = {**ORIGIN, "Accept": "text/event-stream"}
    async with session.get(server.url + path, headers=headers) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Connection"] == "close"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert await answer.json() == {"error": "Server is shutting down"}


@pytest.mark.parametrize("path", ["/stats", "/nowhere"])
async def test_a_draining_server_carries_out_requests_and_closes_their_connections(
    server: Running, session: aiohttp.ClientSession, path: str
) -> None:
    async with session.get(server.url + path) as before:
        assert "Connection" not in before.headers
    for step in (server.drain.announce, server.drain.begin):
        step()
        async with session.get(server.url + path) as answer:
            assert answer.status == before.status
            assert answer.headers["Connection"] == "close"


async def test_a_fault_of_the_server_is_logged_and_answered_by_500(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    server: Running,
    session: aiohttp.ClientSession,
) -> None:
    def fault(*_: Any) -> None:
        raise ZeroDivisionError("injected")

    monkeypatch.setattr(MemoryBroker, "topics", fault)
    async with session.get(server.url + "/topics", headers=ORIGIN) as answer:
        assert answer.status == 500
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert await answer.json() == {"error": "Internal server error"}
    assert said(caplog) == [
        f"{events.REQUEST_FAULT.text}: method=GET path=/topics address=127.0.0.1"
    ]


async def test_the_completion_of_a_cancelled_request_is_ignored() -> None:
    future, done = awaitable()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await future
    done(PUBLISHED)


async def half_a_body(port: int, *headers: str) -> RawClient:
    """Send a request that announces a body of ten bytes and has three."""
    client = await RawClient.dial(port)
    head = ["POST /publish HTTP/1.1", "Host: test", "Content-Length: 10", *headers, "", ""]
    await client.send("\r\n".join(head).encode() + b"abc")
    return client


async def answer_to(client: RawClient) -> tuple[int, dict[str, Any]]:
    head = await client.read_head()
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = await client.read_exactly(size)
    return int(head.split()[1]), json.loads(body)


async def test_a_body_that_does_not_arrive_in_time_is_408(
    monkeypatch: pytest.MonkeyPatch, server: Running
) -> None:
    monkeypatch.setattr("handlers.answers.BODY_TIMEOUT", 0.01)
    client = await half_a_body(server.port)
    head = await client.read_head()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in head
    assert await client.read_exactly(43) == b'{"error":"The body did not arrive in time"}'
    client.close()


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_disconnect_within_a_body_logs_no_error(
    server: Running, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    client = await half_a_body(server.port)
    assert server.runner.server is not None
    connections = server.runner.server
    await until(lambda: connections.requests_count == 1)
    getattr(client, way)()
    await until(lambda: not connections.connections)
    assert caplog.records == []


@pytest.mark.parametrize(
    "encoding",
    [
        b"gzip",
        b"br",
        b"zstd",
        b"deflate",
        b"\xff",
        b"identity, gzip",
        b"identity\r\nContent-Encoding: gzip",
    ],
)
async def test_an_encoded_body_is_refused(
    server: Running, caplog: pytest.LogCaptureFixture, encoding: bytes
) -> None:
    client = await RawClient.dial(server.port)
    await client.send(
        b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n"
        b"Content-Encoding: %b\r\n\r\n{}" % encoding
    )
    assert await answer_to(client) == (
        415,
        {"error": "A body with a Content-Encoding is not understood"},
    )
    assert caplog.records == []
    client.close()


@pytest.mark.parametrize("encoding", ["", "Identity", "identity, identity"])
async def test_the_identity_encoding_is_accepted(server: Running, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    status, _ = await request(server.port, "POST /topics", b'{"name":"t"}', headers)
    assert status == 201


async def test_a_body_that_is_announced_too_large_is_refused_at_once(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(
        b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert (await answer_to(client))[0] == 413
    client.close()


async def test_a_client_that_waits_for_100_continue_gets_it(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(
        b"POST /topics HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"
    )
    assert await client.read_head() == b"HTTP/1.1 100 Continue"
    await client.send(b'{"name":"t"}')
    assert await answer_to(client) == (201, {"status": "created", "topic": "t"})
    client.close()


async def test_an_expectation_of_http_1_0_is_ignored(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(
        b"POST /topics HTTP/1.0\r\nHost: test\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"
        b'{"name":"t"}'
    )
    assert await answer_to(client) == (201, {"status": "created", "topic": "t"})
    client.close()


async def test_another_expectation_is_ignored(server: Running) -> None:
    status, _ = await request(server.port, "POST /topics", b'{"name":"t"}', {"Expect": "miracles"})
    assert status == 201


async def test_a_request_whose_body_ends_during_the_drain_is_carried_out(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(b'POST /topics HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\n{"name')
    assert server.runner.server is not None
    connections = server.runner.server
    await until(lambda: connections.requests_count == 1)
    server.drain.begin()
    await client.send(b'":"t"}')
    assert await answer_to(client) == (201, {"status": "created", "topic": "t"})
    client.close()
