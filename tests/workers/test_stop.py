"""The shutdown of a server with workers: its order, its time limit, and signals to others."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.frames import CLOSE, client_frame
from tests.support.raw import RawClient, stalled_client
from tests.support.redis import RedisServer
from tests.support.workers import client_of_each, ended, get, pids, server_with_workers


async def leave(client: RawClient) -> int:
    """Read the notice of the shutdown and the Close, and answer it; return the notice's spread."""
    notice = await client.hear()
    assert notice["reason"] == "SHUTDOWN"
    assert await client.hear() == ("close", 1001, "going_away")
    await client.send(client_frame(CLOSE, b"\x03\xe9"))
    assert await client.hear() is None
    client.close()
    return int(notice["reconnect"]["max_ms"])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_clients_of_all_workers(
    redis: RedisServer, number: signal.Signals
) -> None:
    async with server_with_workers(redis.port, SHUTDOWN_TIMEOUT="3600") as server:
        clients = [client for _ in range(3) for client in (await client_of_each(server)).values()]
        workers = pids(server).values()
        server.process.send_signal(number)
        # They come back in a span for all clients of the server, not for those of one worker.
        assert await asyncio.gather(*map(leave, clients)) == [12] * 6
        assert await server.exit_code() == 0
        await ended(workers)


async def test_clients_are_dismissed_when_all_workers_have_closed_their_sockets(
    redis: RedisServer,
) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        with stopped(pids(server)[2]):
            server.terminate()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.7):
                    await clients[1].hear()
        await leave(clients[1])
        assert refuses(server.port)
        await leave(clients[2])
        assert await server.exit_code() == 0


async def test_a_stopped_worker_does_not_take_the_time_of_the_others_to_drain(
    redis: RedisServer,
) -> None:
    async with server_with_workers(redis.port, SHUTDOWN_TIMEOUT="20") as server:
        clients = await client_of_each(server)
        with stopped(pids(server)[2]):
            begin = time.monotonic()
            server.terminate()
            await leave(clients[1])
            assert time.monotonic() - begin < 20
        clients[2].close()
        await server.exit_code()


async def test_in_the_drain_delay_no_worker_is_ready_and_all_serve(redis: RedisServer) -> None:
    settings = {"DRAIN_DELAY": "5", "SHUTDOWN_TIMEOUT": "30"}
    async with server_with_workers(redis.port, **settings) as server:
        server.terminate()
        # systemd sends the signal to the workers, too.
        for pid in pids(server).values():
            os.kill(pid, signal.SIGTERM)
        await server.wait_for_log("no longer ready.*seconds=5")
        late = list((await client_of_each(server)).values())
        for _ in range(5):  # whichever worker is asked
            status, body = await get(server, "/ready")
            assert (status, body["checks"]["shutdown"]) == (503, "draining")
            assert (await get(server, "/stats"))[0] == 200
        await asyncio.gather(*map(leave, late))
        assert await server.exit_code() == 0


async def test_connections_in_the_backlogs_of_all_workers_are_accepted(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        waiting = []
        with stopped(pids(server)[1]), stopped(pids(server)[2]):
            for _ in range(40):
                client = await RawClient.dial(server.port)
                await client.send(b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n")
                waiting.append(client)
            server.terminate()
        for client in waiting:
            assert b" 200 " in await client.read_head()
            client.close()
        assert await server.exit_code() == 0


async def test_slow_clients_are_cut_at_the_shutdown_timeout(redis: RedisServer) -> None:
    settings = {"SHUTDOWN_TIMEOUT": "2", "DRAIN_DELAY": "1", "WRITE_TIMEOUT": "600"}
    async with server_with_workers(redis.port, **settings) as server:
        slow = [await stalled_client(server.port) for _ in range(6)]
        begin = time.monotonic()
        server.terminate()
        assert await server.exit_code() == 0
        # From the signal, the delay included.
        assert time.monotonic() - begin > 1.9
        log = "".join(server.log)
        assert "cutting clients" in log
        assert "killing a worker" not in log
        for client in slow:
            client.close()


async def test_a_worker_that_does_not_end_is_killed(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, SHUTDOWN_TIMEOUT="0.5") as server:
        pid = pids(server)[2]
        os.kill(pid, signal.SIGSTOP)
        server.terminate()
        assert await server.exit_code() == 0
        line = f"killing a worker: worker=2 pid={pid} reason='not ended'\n"
        assert line in "".join(server.log)
        await ended([pid])


async def test_a_second_signal_ends_all_processes_at_once(redis: RedisServer) -> None:
    settings = {"SHUTDOWN_TIMEOUT": "3600", "WRITE_TIMEOUT": "3600"}
    async with server_with_workers(redis.port, **settings) as server:
        slow = await stalled_client(server.port)
        server.terminate()
        await server.wait_for_log("shutting down: clients=1")
        server.terminate()
        assert await server.exit_code() == 128 + signal.SIGTERM
        await ended(pids(server).values())
        slow.close()


async def test_workers_drain_when_their_parent_is_killed(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        server.process.kill()
        for client in clients.values():
            await leave(client)
        assert await server.exit_code() == -signal.SIGKILL
        log = "".join(server.log)
        for number in clients:
            assert f"the parent has ended (this worker ends, too): worker={number}\n" in log
        await ended(pids(server).values())


async def test_a_worker_obeys_no_signal_but_those_of_its_parent(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pids(server)[1], number)
        await clients[1].say({"type": "ping"})
        assert (await clients[1].hear())["type"] == "pong"
        for client in clients.values():
            client.close()
