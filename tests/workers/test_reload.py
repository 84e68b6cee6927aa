"""SIGHUP: the workers are replaced one by one, with new code and new secrets."""

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest
from broadcast_client import _connection as connection

from tests.support.process import ServerProcess
from tests.support.raw import HANDSHAKE, RawClient, stalled_client
from tests.support.redis import RedisServer
from tests.support.streams import Streams
from tests.support.tokens import KEY, sign
from tests.support.workers import all_ready, client_of_each, ended, pids, server_with_workers

OLD, NEW = "0123456789abcdef" * 2, "fedcba9876543210" * 2


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses of the clients very short."""
    monkeypatch.setattr(connection, "FIRST", 0.01)
    monkeypatch.setattr(connection, "LONGEST", 0.1)


def reload(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGHUP)


async def test_under_load_no_connect_is_refused_and_no_event_is_lost(redis: RedisServer) -> None:
    settings = {"HISTORY_SIZE": "10000", "RECOVERY_LIMIT": "10000"}
    async with (
        server_with_workers(redis.port, **settings) as server,
        Streams(server.port, subscribers=10) as streams,
    ):
        before = set(pids(server).values())
        connecting = asyncio.create_task(connects(server.port))
        stop = asyncio.Event()
        publishing = asyncio.create_task(streams.publish(stop))
        reload(server)
        await server.wait_for_log("all workers are replaced")
        stop.set()
        await publishing
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await streams.complete()
        assert streams.failed == []
        assert not before & set(pids(server).values())
        await ended(before)
        await all_ready(server)


async def connects(port: int) -> None:
    """Open WebSockets, one after another, until cancelled; each must be accepted."""
    while True:
        client = await RawClient.dial(port)
        try:
            await client.send(HANDSHAKE)
            assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        finally:
            client.close()


async def status_with(server: ServerProcess, secret: str) -> set[int]:
    """Return the statuses of requests with a token, each on a new connection."""
    headers = {"Authorization": f"Bearer {sign(secret=secret)}"}
    found = set()
    for _ in range(12):
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
            session.get("/stats", headers=headers) as answer,
        ):
            found.add(answer.status)
    return found


async def test_the_new_workers_read_their_secrets_again(redis: RedisServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(OLD)
    async with server_with_workers(redis.port, JWT_SECRET_FILE=str(secret)) as server:
        secret.write_text(NEW)
        assert await status_with(server, OLD) == {200}
        reload(server)
        await server.wait_for_log("all workers are replaced")
        assert await status_with(server, NEW) == {200}
        assert await status_with(server, OLD) == {401}


async def test_if_a_new_worker_does_not_start_the_old_ones_go_on(
    redis: RedisServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(OLD)
    settings = {
        "JWT_SECRET_FILE": str(secret),
        "ANONYMOUS_SUBSCRIBE": "*",
        "API_KEYS": f"app:{KEY}",
    }
    async with server_with_workers(redis.port, **settings) as server:
        clients = await client_of_each(server)
        before = pids(server)
        secret.write_text("too short")
        reload(server)
        line = r"ERROR server: a new worker did not start .*: worker=1 reason='exit code 2'\n"
        await server.wait_for_log(line)
        assert any(it.startswith("JWT_SECRET_FILE") for it in server.log)
        for client in clients.values():
            await client.say({"type": "ping"})
            assert (await client.hear())["type"] == "pong"
        assert pids(server) == before
        secret.write_text(OLD)
        reload(server)
        await server.wait_for_log("all workers are replaced")
        for client in clients.values():
            assert (await client.hear())["reason"] == "SHUTDOWN"
            client.close()


async def test_one_worker_is_replaced_after_the_clients_of_the_other_have_left(
    redis: RedisServer,
) -> None:
    async with server_with_workers(redis.port, SHUTDOWN_TIMEOUT="1") as server:
        silent = await client_of_each(server)  # they do not answer the Close
        reload(server)
        await server.wait_for_log("replacing the workers")
        reload(server)  # one that arrives meanwhile is obeyed, too
        for _ in range(2):
            await server.wait_for_log("all workers are replaced")
        text = "".join(server.log)
        text = text[text.index("replacing the workers") :]
        order = re.findall(r"(worker is ready|cutting clients).* worker=(\d)|(all workers)", text)
        assert order[:5] == [
            ("worker is ready", "1", ""),
            ("cutting clients", "1", ""),
            ("worker is ready", "2", ""),
            ("cutting clients", "2", ""),
            ("", "", "all workers"),
        ]
        for client in silent.values():
            client.close()


async def test_a_signal_while_workers_are_replaced_ends_the_server(redis: RedisServer) -> None:
    settings = {"SHUTDOWN_TIMEOUT": "2", "WRITE_TIMEOUT": "600"}
    async with server_with_workers(redis.port, **settings) as server:
        slow = [await stalled_client(server.port) for _ in range(8)]
        before = pids(server)
        reload(server)
        await server.wait_for_log("shutting down: clients=")
        server.terminate()
        assert await server.exit_code() == 0
        await ended([*before.values(), *pids(server).values()])
        for client in slow:
            client.close()


async def test_a_worker_that_is_killed_while_it_is_replaced_is_not_started_twice(
    redis: RedisServer,
) -> None:
    async with server_with_workers(redis.port) as server:
        killed = pids(server)[1]
        reload(server)
        await server.wait_for_log("replacing the workers")
        os.kill(killed, signal.SIGKILL)
        await server.wait_for_log("all workers are replaced")
        assert len(re.findall("worker is ready: worker=1 ", "".join(server.log))) == 2
