"""Workers that die, hang, or do not start."""

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handlers.sockets import listen, spread
from hub.logs import events
from tests.support.eventually import eventually
from tests.support.logs import fields, records
from tests.support.raw import RawClient
from tests.support.redis import RedisServer
from tests.support.tokens import KEY
from tests.support.workers import client_of_each, get, pids, server_with_workers
from workers.group import Group
from workers.parent import Parent

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


# --- The parent alone, with other programs in place of workers ------------------------------------

BEGIN = """
import json, os, socket, sys, time
start = json.loads(os.environ["BROADCAST_WORKER"])
channel = socket.socket(fileno=start["channel"])
def ready():
    channel.sendall(b'{"type":"ready","node":"n"}\\n')
"""


@asynccontextmanager
async def parent_of(program: str, workers: int = 2) -> AsyncIterator[tuple[Parent, Group]]:
    """Make the parent of workers that run a program of Python."""
    parts = spread(listen("127.0.0.1", 0), workers)
    group = Group(workers)
    parent = Parent(
        group,
        [sys.executable, "-c", BEGIN + program],
        parts,
        drain_delay=0.0,
        shutdown_timeout=0.2,
    )
    try:
        yield parent, group
    finally:
        parent.kill()
        for part in parts:
            for sock in part:
                sock.close()


def never() -> None:
    raise AssertionError("it has started")


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (1, 1), (2, 2), (3, 1)])
async def test_a_first_start_that_fails_ends_the_server(code: int, expected: int) -> None:
    async with parent_of(f"sys.exit({code} if start['number'] == 2 else time.sleep(60))") as (
        parent,
        group,
    ):
        async with asyncio.timeout(20):
            assert await parent.run(asyncio.Event(), asyncio.Event(), never) == expected
        assert not group.children


async def test_workers_that_die_at_once_are_given_up() -> None:
    async with parent_of("ready(); sys.exit(7)") as (parent, group):
        started = asyncio.Event()
        async with asyncio.timeout(30):
            assert await parent.run(asyncio.Event(), asyncio.Event(), started.set) == 1
        assert not group.children


async def test_a_signal_during_the_start_ends_the_server() -> None:
    async with parent_of("time.sleep(60)") as (parent, group):
        stop = asyncio.Event()
        running = asyncio.create_task(parent.run(stop, asyncio.Event(), never))
        await eventually(lambda: len(group.children) == 2)
        stop.set()
        async with asyncio.timeout(20):
            assert await running == 0
        assert not group.children


async def test_a_worker_that_does_not_become_ready_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.parent.READY", 0.2)
    async with parent_of("time.sleep(60)", workers=1) as (parent, _), asyncio.timeout(20):
        assert await parent.run(asyncio.Event(), asyncio.Event(), never) == 1
    (record,) = records(caplog, events.WORKER_KILLED)
    assert fields(record)["reason"] == "not ready"


async def test_a_worker_that_does_not_answer_is_killed_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name, seconds in (("parent.HUNG", 0.2), ("parent.LOOK", 0.05), ("child.ANSWER", 0.05)):
        monkeypatch.setattr(f"workers.{name}", seconds)
    async with parent_of("ready(); time.sleep(60)", workers=1) as (parent, _):
        stop = asyncio.Event()
        running = asyncio.create_task(parent.run(stop, asyncio.Event(), lambda: None))
        await eventually(lambda: len(records(caplog, events.WORKER_READY)) == 2)
        stop.set()
        async with asyncio.timeout(20):
            assert await running == 0
    assert fields(records(caplog, events.WORKER_KILLED)[0])["reason"] == "no answer"
    assert fields(records(caplog, events.WORKER_DIED)[0])["reason"] == "killed by SIGKILL"


async def test_a_program_that_cannot_be_started_ends_the_server(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    parts = spread(listen("127.0.0.1", 0), 2)
    group = Group(2)
    program = [str(tmp_path / "nothing")]
    parent = Parent(group, program, parts, drain_delay=0.0, shutdown_timeout=0.2)
    async with asyncio.timeout(20):
        assert await parent.run(asyncio.Event(), asyncio.Event(), never) == 1
    (record, *_) = records(caplog, events.WORKERS_FAILED)
    assert fields(record)["reason"] == "not started: No such file or directory"
