"""Requests from an origin or for a host that is not allowed are refused, without an effect."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hub.origins import parse_hosts, parse_origins
from hub.settings import Settings
from tests.support.raw import HANDSHAKE, RawClient
from tests.support.server import Running, running

BODIES = {"POST /topics": b'{"name":"t"}', "POST /publish": b'{"topic":"made","payload":1}'}
CALLS = [
    *BODIES,
    "GET /",
    "GET /console/app.js",
    "GET /client.js",
    "GET /openapi.json",
    "GET /asyncapi.json",
    "GET /ws",
    "GET /events?topic=t",
    "GET /stats",
    "GET /health",
    "GET /topics",
    "GET /topics/made/history",
    "DELETE /topics/made",
    "OPTIONS /topics",
    "PATCH /topics",
    "GET /nowhere",
    "GET /metrics",
]


async def ask(port: int, call: str, *headers: str, host: str = "app.test") -> tuple[int, str]:
    """Send a request, and return the status and the head of the answer."""
    body = BODIES.get(call, b"")
    lines = [f"{call} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if call == "GET /ws":
        upgrade = HANDSHAKE.decode().split("\r\n")[2:-2]
        lines = [*lines[:2], *headers, *upgrade]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    client = await RawClient.dial(port)
    await client.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)
    head = (await client.read_head()).decode() + "\r\n"
    client.close()
    return int(head.split()[1]), head


@pytest_asyncio.fixture
async def strict() -> AsyncIterator[Running]:
    """A server with some allowed origins and hosts, and the topic "made"."""
    settings = Settings(
        allowed_origins=parse_origins("https://app.example.com,https://*.example.org,same"),
        allowed_hosts=parse_hosts("app.test,[::1]"),
    )
    async with running(settings) as server:
        server.hub.broker.create("made", lambda _: None)
        yield server


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://app.test:81", "https://example.org", "\udcff"],
)
async def test_an_origin_that_is_not_allowed_gets_403_on_every_route(
    strict: Running, call: str, origin: str
) -> None:
    status, head = await ask(strict.port, call, f"Origin: {origin}")
    assert status == 403
    assert "Access-Control-Allow-Origin" not in head
    assert "Access-Control-Expose-Headers" not in head
    assert "\r\nVary: Origin" in head
    assert strict.topics() == {"made": 0}
    assert not strict.hub.clients


@pytest.mark.parametrize("call", CALLS)
async def test_a_host_that_is_not_allowed_gets_421_except_on_probes(
    strict: Running, call: str
) -> None:
    status, _ = await ask(strict.port, call, host="evil.example")
    expected = {"GET /health": 200, "GET /metrics": 200}
    assert status == expected.get(call, 421)
    assert strict.topics() == {"made": 0}


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://a.b.example.org",
        "http://app.test",
        "https://app.test",
    ],
)
async def test_an_allowed_origin_may_read_every_answer(strict: Running, origin: str) -> None:
    for call in ("POST /topics", "GET /nowhere", "PATCH /topics", "OPTIONS /topics"):
        status, head = await ask(strict.port, call, f"Origin: {origin}")
        assert status not in (403, 421)
        assert f"\r\nAccess-Control-Allow-Origin: {origin}\r\n" in head
    assert "t" in strict.topics()
    preflight = "Access-Control-Request-Method: DELETE"
    status, head = await ask(strict.port, "OPTIONS /topics/made", f"Origin: {origin}", preflight)
    assert status == 200
    assert f"Access-Control-Allow-Origin: {origin}\r\n" in head
    assert (await ask(strict.port, "GET /ws", f"Origin: {origin}"))[0] == 101


@pytest.mark.parametrize("call", ["GET /stats", "POST /publish", "GET /events?topic=t"])
async def test_a_page_of_another_origin_may_read_when_to_ask_again(call: str) -> None:
    async with running(Settings(request_rate=1, connect_rate_per_ip=1)) as server:
        heads = [await ask(server.port, call, "Origin: https://app.test") for _ in range(9)]
    refused = [head for status, head in heads if status == 429]
    assert refused
    for head in refused:
        assert "\r\nRetry-After: " in head
        exposed = re.search(r"\r\nAccess-Control-Expose-Headers: (.*)\r\n", head)
        assert exposed is not None
        assert "Retry-After" in exposed[1].split(",")


@pytest.mark.parametrize("host", ["app.test", "APP.test:8080", "app.test.", "[::1]:8080", "[0::1]"])
async def test_an_allowed_host_may_have_any_port(strict: Running, host: str) -> None:
    assert (await ask(strict.port, "GET /stats", host=host))[0] == 200


@pytest.mark.parametrize("host", ["", "evil.example", "app.test.evil.example", "[::2]", "a b"])
async def test_any_other_host_is_refused(strict: Running, host: str) -> None:
    assert (await ask(strict.port, "GET /stats", host=host))[0] in (400, 421)


async def test_without_an_origin_every_request_passes(strict: Running) -> None:
    assert (await ask(strict.port, "POST /topics"))[0] == 201


async def test_each_of_several_origins_must_be_allowed(strict: Running) -> None:
    both = ("Origin: https://app.example.com", "Origin: https://evil.example")
    assert (await ask(strict.port, "GET /stats", *both))[0] == 403


async def test_a_refused_request_is_not_asked_for_its_body(strict: Running) -> None:
    status, _ = await ask(
        strict.port, "POST /topics", "Origin: https://evil.example", "Expect: 100-continue"
    )
    assert status == 403


async def test_by_default_every_origin_and_host_is_allowed(server: Running) -> None:
    for origin in ("https://evil.example", "null"):
        status, head = await ask(server.port, "GET /stats", f"Origin: {origin}", host="any.example")
        assert status == 200
        assert f"\r\nAccess-Control-Allow-Origin: {origin}\r\n" in head
