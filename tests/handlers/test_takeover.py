"""The private names of aiohttp that handlers/takeover.py uses, held against the installed one."""

import asyncio
import gc
import inspect
from importlib.metadata import version

import pytest
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler

from handlers.takeover import unmask
from tests.support.frames import mask
from tests.support.raw import raw_client, until
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
        handlers = [thing for thing in gc.get_objects() if isinstance(thing, RequestHandler)]
        assert handlers == [], HINT
