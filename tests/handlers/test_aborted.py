"""The memory of a request is freed with its connection, without a garbage collection."""

import gc
from collections.abc import Iterator

import pytest
from aiohttp import web

from hub.settings import Settings
from tests.support.objects import objects_of
from tests.support.raw import HANDSHAKE, RawClient, raw_client, until
from tests.support.server import Running, running

LARGE = 60_000  # bytes of an event


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Disable the garbage collection, so that objects in reference cycles stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def dial(server: Running, request: bytes) -> RawClient:
    """Return a client that reads nothing, after the server has begun its request."""
    assert server.runner.server is not None
    served = server.runner.server.requests_count
    client = await RawClient.dial(server.port, receive_buffer=4_096)
    await client.send(request)
    await until(lambda: server.runner.server.requests_count > served)  # type: ignore[union-attr]
    return client


async def reset(server: Running, client: RawClient) -> None:
    """Reset the connection, and wait until the server has noticed."""
    assert server.runner.server is not None
    connections = server.runner.server.connections
    before = len(connections)
    client.reset()
    await until(lambda: len(server.runner.server.connections) < before)  # type: ignore[union-attr]


async def test_an_unread_answer_is_freed_with_its_connection(
    no_collection: None,
) -> None:
    async with running(Settings(history_size=100)) as server:
        server.hub.broker.create("t", lambda _: None)
        for _ in range(100):
            server.hub.publish("t", None, "x" * LARGE, lambda _: None)
        before = len(objects_of(web.Response))
        for _ in range(3):
            client = await dial(server, b"GET /topics/t/history HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: len(objects_of(web.Response)) > before)
            await reset(server, client)
        await until(lambda: len(objects_of(web.Response)) <= before)


async def test_an_incomplete_body_is_freed_with_its_connection(
    no_collection: None, server: Running
) -> None:
    before = len(objects_of(web.Request))
    head = b"POST /publish/batch HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(3):
        client = await dial(server, head + b"x" * 900_000)
        await reset(server, client)
    await until(lambda: len(objects_of(web.Request)) <= before)


async def test_a_refused_handshake_is_freed_with_its_connection(no_collection: None) -> None:
    async with running(Settings(max_connections=1)) as server, raw_client(server.port):
        before = len(objects_of(web.Request))
        for _ in range(3):
            client = await dial(server, HANDSHAKE)
            assert b" 503 " in await client.read_head()
            client.close()
        await until(lambda: not server.requests and len(objects_of(web.Request)) <= before)
