"""Handshakes that are the first request of a connection, which the server answers at once.

A handshake that arrives in pieces goes through aiohttp. Both must get the same answer.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession
from aiohttp.web_protocol import RequestHandler

from hub.access import compile_patterns
from hub.auth.api_keys import parse_api_keys
from hub.origins import parse_hosts, parse_origins
from hub.settings import Settings
from tests.support.raw import HANDSHAKE, RawClient, raw_client, until
from tests.support.server import Running, running

GUARDED = Settings(
    allowed_origins=parse_origins("https://good.example"), allowed_hosts=parse_hosts("test")
)
FULL = Settings(max_connections=1)
OF_ADDRESS = Settings(max_connections_per_ip=1)
SECURED = Settings(
    api_keys=parse_api_keys("app:0123456789abcdef"), anonymous_subscribe=compile_patterns(["#"])
)
OPEN = Settings()


def with_header(line: bytes) -> bytes:
    return HANDSHAKE.replace(b"Host: test\r\n", b"Host: test\r\n" + line + b"\r\n")


async def answer(server: Running, request: bytes, *, in_pieces: bool) -> bytes:
    """Send a request on a new connection, and return all that is answered before its end."""
    client = await RawClient.dial(server.port)
    if in_pieces:
        await client.send(request[:-4])
        await until(lambda: any(isinstance(it, RequestHandler) for it in server.requests))
        request = request[-4:]
    await client.send(request)
    head = await client.read_head()
    if b" 101 " in head:
        await client.say({"type": "ping"})
        message = await client.hear()
        client.close()
        return head + repr(message if isinstance(message, tuple) else message["type"]).encode()
    size = next(int(it[16:]) for it in head.split(b"\r\n") if it.startswith(b"Content-Length: "))
    body = await client.read_exactly(size)
    client.close()
    lines = [it for it in head.split(b"\r\n") if not it.startswith(b"Date: ")]
    return b"\r\n".join([*lines, b"", body])


@pytest.mark.parametrize(
    ("settings", "request_bytes", "status"),
    [
        (OPEN, HANDSHAKE, 101),
        (OPEN, with_header(b"Sec-WebSocket-Protocol: bearer, anything"), 101),
        (OPEN, HANDSHAKE.replace(b"/ws?", b"/ws/?"), 404),
        (OPEN, HANDSHAKE.replace(b"/ws?", b"/wsx?"), 404),
        (OPEN, HANDSHAKE.replace(b"/ws?", b"/w%73?"), 101),
        (OPEN, HANDSHAKE.replace(b"GET ", b"POST "), 405),
        (OPEN, HANDSHAKE.replace(b"Version: 13", b"Version: 8"), 426),
        (OPEN, HANDSHAKE.replace(b"raw ", b"%ff "), 400),
        (OPEN, with_header(b"Content-Length: 2"), 400),
        (OPEN, with_header(b"Content-Length: 4") + b"\r\n\r\n", 400),
        (OPEN, with_header(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\n\r\n", 400),
        (OPEN, with_header(b"no header"), 400),
        (OPEN, with_header(b"X-Long: " + b"x" * 9_000), 101),
        (OPEN, with_header(b"X-Long: " + b"x" * 20_000), 431),
        (GUARDED, HANDSHAKE, 101),
        (GUARDED, HANDSHAKE.replace(b"Host: test", b"Host: other"), 421),
        (GUARDED, with_header(b"Origin: https://good.example"), 101),
        (GUARDED, with_header(b"Origin: https://bad.example"), 403),
        (FULL, HANDSHAKE, 503),
        (OF_ADDRESS, HANDSHAKE, 429),
        (SECURED, HANDSHAKE, 101),
        (SECURED, with_header(b"X-API-Key: 0123456789abcdef"), 101),
        (SECURED, with_header(b"X-API-Key: a-wrong-key-of-nobody"), 401),
        (SECURED, with_header(b"Authorization: Bearer a\r\nX-API-Key: b"), 400),
        (SECURED, HANDSHAKE.replace(b"client_id=raw", b"access_token=wrong"), 101),
    ],
)
async def test_a_handshake_has_the_same_answer_at_once_and_in_pieces(
    settings: Settings, request_bytes: bytes, status: int
) -> None:
    async with running(settings) as server, AsyncExitStack() as stack:
        if settings in (FULL, OF_ADDRESS):
            await stack.enter_async_context(raw_client(server.port))
        others = len(server.hub.clients)
        at_once = await answer(server, request_bytes, in_pieces=False)
        assert at_once.split()[1] == str(status).encode()
        await until(lambda: len(server.hub.clients) == others)
        assert at_once == await answer(server, request_bytes, in_pieces=True)


async def test_aiohttp_does_not_see_a_handshake_that_arrives_at_once(server: Running) -> None:
    assert server.runner.server is not None
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        assert server.runner.server.requests_count == 0
        assert server.requests == []


@pytest.mark.parametrize("settings", [FULL, OF_ADDRESS])
async def test_a_refused_handshake_is_counted_once(settings: Settings) -> None:
    async with running(settings) as server, raw_client(server.port), ClientSession() as session:
        await answer(server, HANDSHAKE, in_pieces=False)
        async with session.get(f"{server.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        counts = [
            it
            for it in lines
            if it.startswith(("broadcast_limited_total", "broadcast_refused_total"))
        ]
        assert [it.split()[-1] for it in counts if not it.endswith(" 0.0")] == ["1.0", "1.0"]


async def test_a_later_handshake_on_the_same_connection_is_checked_again() -> None:
    async with running(FULL) as server:
        client = await RawClient.dial(server.port)
        async with raw_client(server.port) as first:
            await client.send(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
            assert b" 426 " in await client.read_head()
            await client.read_until(b"}")
            first.close()
        await until(lambda: not server.hub.clients)
        await client.send(HANDSHAKE)
        assert b" 101 " in await client.read_head()
        client.close()


async def test_a_connection_that_sends_nothing_is_closed_after_the_header_timeout(
    server: Running,
) -> None:
    client = await RawClient.dial(server.port)
    await until(lambda: bool(server.requests))
    now = asyncio.get_running_loop().time()
    server.visit_requests(now)
    assert server.requests
    server.visit_requests(now + Settings().header_timeout)
    assert await client.read_to_end() == b""
    assert not server.requests
    client.close()


async def test_the_header_timeout_of_a_first_request_in_pieces_begins_with_the_connection(
    server: Running,
) -> None:
    client = await RawClient.dial(server.port)
    await until(lambda: bool(server.requests))
    loop = asyncio.get_running_loop()
    connected = loop.time()
    await until(lambda: loop.time() > connected)
    await client.send(HANDSHAKE[:-4])
    await until(lambda: any(isinstance(it, RequestHandler) for it in server.requests))
    end = connected + Settings().header_timeout
    await until(lambda: not (server.visit_requests(end) or server.requests))
    assert await client.read_to_end() == b""
    client.close()


async def test_connections_that_sent_nothing_end_with_the_server() -> None:
    async with running(Settings()) as server:
        client = await RawClient.dial(server.port)
        await until(lambda: bool(server.requests))
    assert await client.read_to_end() == b""
    client.close()
