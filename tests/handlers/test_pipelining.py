"""Pipelined requests of one connection are bounded, and served one a tick."""

import asyncio
import gc

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.test_utils import make_mocked_request

from handlers.answers import errors_as_json
from handlers.keys import DRAIN
from hub.settings import Settings
from tests.support.objects import objects_of
from tests.support.raw import RawClient, until
from tests.support.server import Running, running

KEPT = 33  # requests: aiohttp's queue, and the one that is served


async def test_each_request_is_served_in_its_own_turn_of_the_loop(server: Running) -> None:
    served: list[str] = []

    async def handler(_: web.Request) -> web.Response:
        served.append("request")
        return web.Response()

    app = web.Application()
    app[DRAIN] = server.drain
    serving = errors_as_json(make_mocked_request("GET", "/health", app=app), handler)
    loop = asyncio.get_running_loop()
    # As aiohttp begins it from Python 3.12 on: at once, within the turn of the one before it.
    first_step = serving.send(None)
    loop.call_soon(served.append, "others")
    assert first_step is None
    await asyncio.sleep(0)
    try:
        serving.send(None)
    except StopIteration:
        pass
    assert served == ["others", "request"]


def kept() -> int:
    """Return the number of parsed and unanswered requests."""
    return len(objects_of(RawRequestMessage))


async def test_few_requests_are_parsed_while_one_waits() -> None:
    async with running(Settings(history_size=5)) as server:
        gc.collect()
        others = kept()  # of other tests
        server.hub.broker.create("t", lambda _: None)
        client = await RawClient.dial(server.port)
        await client.send(b"GET /topics/t/history?wait=60 HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: kept() == others + 1)
        for _ in range(5):  # some reads' worth
            await client.send(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n" * 1_000)
        await until(lambda: kept() == others + KEPT)
        for _ in range(10):
            await asyncio.sleep(0)
        assert kept() == others + KEPT
        server.drain.begin()  # it is answered
        client.close()
