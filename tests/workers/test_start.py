"""The start of a server with workers: what it needs, and what its log says."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT, spawn
from tests.support.redis import RedisServer, free_port, redis_server
from tests.support.workers import all_ready, client_of_each, get, pids, server_with_workers
from workers.cores import usable_cores


async def refused_start(code: int, **settings: str) -> str:
    """Start a server that must fail, and return the one line that it writes."""
    server = await spawn(**settings)
    assert await server.exit_code() == code
    (line,) = "".join(server.log).splitlines()
    return line


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_workers_share_the_port_and_all_topics(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, 3) as server:
        clients = await client_of_each(server, "t")
        assert list(clients) == [1, 2, 3]
        await clients[1].say({"type": "publish", "topic": "t", "payload": 42})
        for client in clients.values():
            while (heard := await client.hear())["type"] != "event":
                pass
            assert heard["message"]["payload"] == 42
        await all_ready(server)
        for client in clients.values():
            client.close()


async def test_lines_about_the_whole_server_are_written_once(redis: RedisServer) -> None:
    keys = {"API_KEYS": "app:0123456789abcdef", "TRUSTED_PROXIES": "0.0.0.0/0", "REDIS_ADRR": "x"}
    async with server_with_workers(redis.port, **keys) as server:
        log = "".join(server.log)
        for text in ("starting: ", "access: ", "ALLOWED_ORIGINS", "TRUSTED_", "did you mean"):
            assert log.count(text) == 1, text
        assert log.count("listening on") == 1
        assert " workers=2\n" in log
        server.terminate()
        assert await server.exit_code() == 0
        rest = "".join(server.log)
        assert rest.count("stopped\n") == 1
        for number in (1, 2):
            assert f"shutting down: clients=0 worker={number}\n" in rest


async def test_without_redis_it_refuses_to_start_and_says_what_to_do() -> None:
    for value in ("2", "auto"):
        line = await refused_start(2, WORKERS=value)
        assert line == (
            f"WORKERS='{value}' is not valid: it needs REDIS_ADDR, since workers share their topics"
            " through a Redis: host:port, or unix:///run/redis/redis.sock for one on this machine"
        )


def test_check_names_the_missing_redis() -> None:
    command = [sys.executable, "server.py", "--check", "--workers", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("--workers='4' is not valid: it needs REDIS_ADDR, ")
    assert "not valid" in next(it for it in done.stdout.splitlines() if " WORKERS " in it)


@pytest.mark.parametrize("workers", ["0", "1"])
async def test_one_worker_is_a_single_process_as_without_the_setting(workers: str) -> None:
    server = await spawn(WORKERS=workers)
    await server.wait_for_log("listening on")
    assert children_of(server.process.pid) == []
    assert "worker" not in "".join(server.log)
    server.terminate()
    assert await server.exit_code() == 0


async def test_a_redis_on_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)) as redis:
        async with server_with_workers(redis.port, REDIS_ADDR=f"unix://{path}") as server:
            assert (await get(server, "/ready"))[0] == 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_another_server_on_its_port_fails_to_start(redis: RedisServer, workers: str) -> None:
    async with server_with_workers(redis.port) as server:
        settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "WORKERS": workers}
        line = await refused_start(1, PORT=str(server.port), **settings)
        start = f"HOST='127.0.0.1' PORT={server.port}: cannot listen: Address already in use"
        assert line.startswith(start)


async def test_two_servers_that_start_at_the_same_time_do_not_share_a_port(
    redis: RedisServer,
) -> None:
    port = free_port()
    settings = {"PORT": str(port), "REDIS_ADDR": f"127.0.0.1:{redis.port}", "WORKERS": "2"}
    servers = [await spawn(**settings) for _ in range(2)]
    waits = [asyncio.create_task(server.process.wait()) for server in servers]
    done, _ = await asyncio.wait(waits, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    (code,) = (task.result() for task in done)
    assert code == 1
    (other,) = (it for it in servers if it.process.returncode is None)
    await other.wait_for_log("listening on")
    other.terminate()
    assert await other.exit_code() == 0


async def test_max_connections_is_divided(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, 2, MAX_CONNECTIONS="5") as server:
        assert " max_connections=5 " in "".join(server.log)
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "WORKERS": "3", "MAX_CONNECTIONS": "2"}
    assert await refused_start(2, **settings) == (
        "MAX_CONNECTIONS='2' is not valid: at least 3 are needed, one for each worker (WORKERS)"
    )


async def test_more_connections_than_descriptors_allow_stop_the_start(redis: RedisServer) -> None:
    address = f"127.0.0.1:{redis.port}"
    settings = {"REDIS_ADDR": address, "WORKERS": "2", "MAX_CONNECTIONS": "1489"}
    server = await spawn(descriptors=1_000, **settings)
    assert await server.exit_code() == 2
    assert server.log == [
        "MAX_CONNECTIONS='1489' is not valid: at most 1488 are allowed with 1000 file descriptors"
        " (ulimit -n) in each of 2 workers\n"
    ]


async def test_auto_is_a_worker_for_each_core(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "WORKERS": "auto"}
    server = await spawn(**settings)
    await server.wait_for_log("listening on")
    assert len(pids(server)) == usable_cores() == len(os.sched_getaffinity(0))
    server.terminate()
    assert await server.exit_code() == 0


@pytest.mark.parametrize(
    ("group", "limits", "cores"),
    [
        ("/", {"": "max 100000"}, None),
        ("/", {}, None),
        ("/", {"": "100000 100000"}, 1),
        ("/", {"": "50000 100000"}, 1),
        ("/", {"": "199999 100000"}, 1),
        ("/system.slice/it.service", {"system.slice/it.service": "100000 100000"}, 1),
        ("/a/b", {"a": "100000 100000", "a/b": "max 100000"}, 1),
        ("/", {"": "9900000 100000"}, None),
    ],
)
def test_the_cores_are_those_that_the_control_group_allows(
    tmp_path: Path, group: str, limits: dict[str, str], cores: int | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"1:name=systemd:/other\n0::{group}\n")
    for place, text in limits.items():
        folder = tmp_path / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_without_control_groups_the_cores_are_those_of_the_scheduler(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


async def test_a_line_names_its_worker_in_both_formats(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, LOG_FORMAT="json") as server:
        server.terminate()
        assert await server.exit_code() == 0
        lines = [json.loads(line) for line in "".join(server.log).splitlines()]
    joined = [it["worker"] for it in lines if it["event"].startswith("joined the other")]
    assert sorted(joined) == [1, 2]
    assert {it.get("worker") for it in lines if it["event"] == "listening on"} == {None}
    async with server_with_workers(redis.port) as server:
        joined = [line for line in server.log if "joined the other" in line]
        assert sorted(line.rpartition(" ")[2] for line in joined) == ["worker=1\n", "worker=2\n"]


async def test_every_address_of_the_host_is_shared(redis: RedisServer) -> None:
    server = await spawn(HOST="localhost", REDIS_ADDR=f"127.0.0.1:{redis.port}", WORKERS="2")
    found = await server.wait_for_log(r"listening on http://127\.0\.0\.1:(\d+)")
    server.port = int(found[1])
    clients = await client_of_each(server)
    assert sorted(clients) == [1, 2]
    for client in clients.values():
        client.close()
    server.terminate()
    assert await server.exit_code() == 0
