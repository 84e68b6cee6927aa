"""The private names of aiohttp that handlers/takeover.py uses, held against the installed one."""

import asyncio
import gc
import inspect
from functools import partial
from importlib.metadata import version

import pytest
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler

from handlers.takeover import unmask
from tests.support.frames import mask
from tests.support.objects import objects_of
from tests.support.raw import HANDSHAKE, RawClient, raw_client, until
from tests.support.server import Running

HINT = f"handlers/takeover.py was tried with aiohttp 3.14.5; this is {version('aiohttp')}"


def test_the_private_names_are_still_there() -> None:
    source = inspect.getsource(RequestHandler)
    assert "self._message_tail = tail" in source, HINT
    assert "def connection_lost" in source, HINT
    assert unmask.__module__ == "aiohttp._websocket.mask", f"not the C one. {HINT}"


def test_the_http_parser_is_the_one_in_c() -> None:
    """The parser in Python had a request smuggling flaw (PYSEC-2026-4371)."""
    assert HttpRequestParser.__module__ == "aiohttp._http_parser", HINT


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 125, 1_000])
def test_unmask_works_in_place(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    masked = bytearray(mask(data))
    unmask(b"\x37\xfa\x21\x3d", masked)
    assert bytes(masked) == data, HINT


async def test_aiohttp_forgets_the_connection(server: Running) -> None:
    assert server.runner.server is not None
    tasks = len(asyncio.all_tasks())
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        connections = server.runner.server
        await until(lambda: not connections.connections)
        assert len(asyncio.all_tasks()) == tasks, HINT
        gc.collect()
        assert objects_of(RequestHandler) == [], HINT


def answered(server: Running, count: int) -> bool:
    """Return whether the server has written so many answers on its only HTTP connection."""
    assert server.runner.server is not None
    idle = server.requests[0].idle_since is not None  # type: ignore[attr-defined]
    return server.runner.server.requests_count == count and idle


@pytest.mark.parametrize("full", [False, True])
async def test_events_stay_behind_answers_that_the_client_has_not_read(
    server: Running, full: bool
) -> None:
    """The transport still holds answers when the connection becomes a WebSocket.

    `full`: they are as many as it holds without a pause, so the handshake's answer pauses it.
    """
    client = await RawClient.dial(server.port, receive_buffer=2_048)
    handshake = HANDSHAKE.replace(b"?client_id=raw", b"?topic=t")
    async with raw_client(server.port) as publisher:
        answers = 0

        async def ask(path: str) -> int:
            """Return the number of bytes that the transport holds after the answer."""
            nonlocal answers
            answers += 1
            await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await until(partial(answered, server, answers))
            return int(transport.get_write_buffer_size())

        await until(lambda: len(server.requests) == 1)
        transport = server.requests[0].transport
        while not (held := await ask("/client.js")):
            pass
        most = transport.get_write_buffer_limits()[1]
        answer = await ask("/live") - held
        while full and await ask("/live") + answer <= most:
            pass
        await client.send(handshake)
        await until(lambda: len(server.hub.clients) == 2)
        reader = next(reversed(server.hub.clients))
        assert reader.slow  # so its messages are queued
        for number in range(3):
            await publisher.say({"type": "publish", "topic": "t", "payload": number})
            assert (await publisher.hear())["type"] == "ack"
        for _ in range(answers):
            head = await client.read_head()
            assert head.startswith(b"HTTP/1.1 200 ")
            size = next(it for it in head.split(b"\r\n") if it.startswith(b"Content-Length: "))
            await client.read_exactly(int(size[16:]))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert (await client.hear())["type"] == "ack"
        heard = [(await client.hear())["message"]["payload"] for _ in range(3)]
        assert heard == [0, 1, 2]
    client.close()
