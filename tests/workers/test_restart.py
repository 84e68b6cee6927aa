"""Workers that die, hang, or do not start."""

import asyncio
import os
import re
import signal
from pathlib import Path

from tests.support.raw import RawClient
from tests.support.redis import RedisServer
from tests.support.tokens import KEY
from tests.support.workers import client_of_each, get, pids, server_with_workers

SECRET = "0123456789abcdef" * 2


async def test_a_killed_worker_is_started_again(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        killed = pids(server)[1]
        os.kill(killed, signal.SIGKILL)
        line = rf"worker died: worker=1 pid={killed} reason='killed by SIGKILL' .* restart_in=0\n"
        await server.wait_for_log(line)
        assert await clients[1].hear() is None
        await server.wait_for_log("worker is ready: worker=1 ")
        assert pids(server)[1] != killed
        again = await client_of_each(server)
        assert sorted(again) == [1, 2]
        await clients[2].say({"type": "ping"})
        assert (await clients[2].hear())["type"] == "pong"
        for client in (*clients.values(), *again.values()):
            client.close()


async def test_a_worker_ended_by_a_signal_without_a_name_is_started_again(
    redis: RedisServer,
) -> None:
    async with server_with_workers(redis.port) as server:
        killed = pids(server)[1]
        os.kill(killed, signal.SIGRTMIN + 1)
        await server.wait_for_log(f"worker died: worker=1 pid={killed} reason='killed by signal ")
        await server.wait_for_log("worker is ready: worker=1 ")


async def test_no_connection_of_a_killed_worker_s_backlog_is_lost(redis: RedisServer) -> None:
    """The workers are stopped, so each has connections that it has not accepted."""
    async with server_with_workers(redis.port) as server:
        for pid in pids(server).values():
            os.kill(pid, signal.SIGSTOP)
        waiting = []
        for _ in range(60):
            client = await RawClient.dial(server.port)
            await client.send(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
            waiting.append(client)
        os.kill(pids(server)[1], signal.SIGKILL)
        os.kill(pids(server)[2], signal.SIGCONT)
        for client in waiting:
            assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
            client.close()


async def test_while_a_worker_does_not_start_the_others_have_all_connections(
    redis: RedisServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    settings = {"JWT_SECRET_FILE": str(secret), "API_KEYS": f"app:{KEY}"}
    async with server_with_workers(redis.port, **settings) as server:
        secret.write_text("too short")
        os.kill(pids(server)[1], signal.SIGKILL)
        line = "worker died: worker=1 .* reason='exit code 2' .* restart_in="
        found = [await server.wait_for_log(line + r"([0-9.]+)\n") for _ in range(3)]
        pauses = [float(it[1]) for it in found]
        assert pauses[2] == 2 * pauses[1] > 0
        for _ in range(20):
            assert (await get(server, "/live"))[0] == 200
        secret.write_text(SECRET)
        await server.wait_for_log("worker is ready: worker=1 ")


async def test_a_server_whose_workers_die_again_and_again_gives_up(
    redis: RedisServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    async with server_with_workers(redis.port, JWT_SECRET_FILE=str(secret)) as server:
        secret.write_text("too short")
        for pid in pids(server).values():
            os.kill(pid, signal.SIGKILL)
        # That of wrong settings, after which systemd does not start the server again.
        assert await server.exit_code() == 2
        log = "".join(server.log)
        assert len(re.findall(r"CRITICAL server: workers do not stay alive .*: reason=", log)) == 1
        assert "reason='exit code 2'" in log


async def test_a_hung_worker_delays_nobody_for_long(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        os.kill(pids(server)[1], signal.SIGSTOP)
        # On the connections of the other worker.
        asking = await RawClient.dial(server.port)
        while True:
            await asking.send(b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n")
            try:
                async with asyncio.timeout(3):
                    head = await asking.read_head()
                break
            except TimeoutError:  # it is one of the stopped worker
                asking.close()
                asking = await RawClient.dial(server.port)
        assert b" 200 " in head
        asking.close()
        os.kill(pids(server)[1], signal.SIGCONT)
        await clients[1].say({"type": "ping"})
        assert (await clients[1].hear())["type"] == "pong"
        for client in clients.values():
            client.close()
