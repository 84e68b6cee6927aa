"""The steps of the shutdown of a worker, in a server of this process."""

import asyncio
import socket

import pytest

from handlers.lifetime import Shutdown
from hub.logs import events
from hub.settings import Settings
from tests.support.frames import CLOSE, client_frame
from tests.support.logs import fields, records
from tests.support.raw import HANDSHAKE, RawClient, stalled_client
from tests.support.server import Running, running


def steps(server: Running) -> Shutdown:
    assert server.runner.server is not None
    return Shutdown(server.runner.app, server.runner.server, server.listeners)


def refuses(server: Running) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", server.port)) != 0


async def test_handing_over_waits_for_the_first_requests_of_new_connections(
    server: Running,
) -> None:
    late, silent = await RawClient.dial(server.port), await RawClient.dial(server.port)
    client = await RawClient.connect(server.port)  # so the others are accepted, too
    shutdown = steps(server)
    handing = asyncio.create_task(shutdown.hand_over())
    await asyncio.sleep(0)
    assert refuses(server)
    await late.send(HANDSHAKE)
    assert (await late.read_head()).startswith(b"HTTP/1.1 101 ")
    assert not handing.done()  # one of them has sent nothing
    await handing
    dismissing = asyncio.create_task(shutdown.dismiss(20.0))
    for it in (late, client):
        assert (await it.hear())["reason"] == "SHUTDOWN"
        assert await it.hear() == ("close", 1001, "going_away")
        await it.send(client_frame(CLOSE, b"\x03\xe9"))
        assert await it.hear() is None
    assert await silent.read_to_end() == b""
    await dismissing
    for it in (late, client, silent):
        it.close()


async def test_the_clients_of_other_processes_count_in_the_time_to_reconnect(
    server: Running,
) -> None:
    client = await RawClient.connect(server.port)
    shutdown = steps(server)
    shutdown.announce()
    assert await shutdown.close() == 1
    dismissing = asyncio.create_task(shutdown.dismiss(20.0, clients=1_000))
    assert (await client.hear())["reconnect"] == {"min_ms": 0, "max_ms": 2_000}
    client.close()
    await dismissing


async def test_who_does_not_leave_in_time_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Settings(shutdown_timeout=7.0)) as server:
        slow = await stalled_client(server.port)
        unfinished = await RawClient.dial(server.port)
        await unfinished.send(b"POST /publish HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{")
        shutdown = steps(server)
        await shutdown.close()
        await shutdown.dismiss(0.2)
        (record,) = records(caplog, events.CUTTING)
        assert fields(record) == {"clients": 1, "seconds": 7.0}
        for client in (slow, unfinished):
            client.close()
