"""A server is hurt, a real Prometheus fires the alert for it, and the log has one line about it."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from handlers.keys import DISPATCHER
from hub.logs import events
from hub.logs.events import Event
from hub.settings import Settings
from tests.support.process import ServerProcess, server_process
from tests.support.prometheus import DEPLOY, Prometheus, prometheus
from tests.support.proxy import proxy
from tests.support.raw import RawClient, raw_client
from tests.support.redis import RedisServer, free_port
from tests.support.server import running
from tests.support.workers import pids, server_with_workers

HARD = 256  # file descriptors of a server that runs out of them


@asynccontextmanager
async def watched(
    folder: Path, descriptors: int | None = None, **settings: str
) -> AsyncIterator[tuple[ServerProcess, Prometheus]]:
    """Run a server that a Prometheus scrapes."""
    port = free_port()
    settings = {"METRICS_PORT": str(port), "SHUTDOWN_TIMEOUT": "1", **settings}
    async with (
        server_process(descriptors, **settings) as server,
        prometheus(folder, port) as watcher,
    ):
        await watcher.until_scraped()
        yield server, watcher


async def expect(server: ServerProcess, watcher: Prometheus, alert: str, event: Event) -> None:
    """Wait until an alert fires; then end the server, whose log has the event's line once."""
    await watcher.until_fires(alert)
    server.terminate()
    await server.exit_code()
    log = "".join(server.log).splitlines()
    lines = [line for line in log if f"WARNING server: {event.name}" in line]
    assert len(lines) == 1, log


async def test_a_slow_consumer(tmp_path: Path) -> None:
    small = {"MAX_QUEUE_BYTES": "100000", "WRITE_TIMEOUT": "1"}
    async with watched(tmp_path, **small) as (server, watcher):
        slow = await RawClient.connect(server.port, receive_buffer=4_096)
        await slow.subscribe("t")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            for _ in range(20):
                async with session.post("/publish", json={"topic": "t", "payload": "x" * 50_000}):
                    pass
        await expect(server, watcher, "BroadcastSlowConsumers", events.SLOW_CONSUMER)
        slow.close()


async def test_a_lost_redis(tmp_path: Path, redis: RedisServer) -> None:
    async with (
        watched(tmp_path, REDIS_ADDR=f"127.0.0.1:{redis.port}") as (server, watcher),
        raw_client(server.port) as client,
    ):
        await client.subscribe("t")
        redis.kill()
        await watcher.until_fires("BroadcastRedisLost")
        redis.start()
        # The subscribers of a topic without history may have missed events.
        await expect(server, watcher, "BroadcastGaps", events.REDIS_LOST)


async def test_a_blocked_loop(tmp_path: Path) -> None:
    async with watched(tmp_path) as (server, watcher):
        for _ in range(2):  # the second time within a minute is not logged
            server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)  # this is how long it is blocked
            server.process.send_signal(signal.SIGCONT)
            await watcher.until_fires("BroadcastLoopBlocked")
        await expect(server, watcher, "BroadcastLoopBlocked", events.LOOP_BLOCKED)


async def test_a_loop_that_is_often_late(tmp_path: Path) -> None:
    async with watched(tmp_path) as (server, watcher):
        fires = asyncio.create_task(watcher.until_fires("BroadcastOverloaded"))
        while not fires.done():
            server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.3)  # this is how late it is
            server.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.3)  # in between it is in time
        await fires


async def test_a_slow_redis(tmp_path: Path, redis: RedisServer) -> None:
    async with (
        proxy(redis.port) as slow,
        watched(tmp_path, REDIS_ADDR=f"127.0.0.1:{slow.port}") as (_, watcher),
    ):
        slow.delay = 0.2
        await watcher.until_fires("BroadcastRedisSlow")


async def test_a_worker_that_hangs(tmp_path: Path, redis: RedisServer) -> None:
    async with (
        server_with_workers(redis.port) as server,
        prometheus(tmp_path, server.port) as watcher,
    ):
        await watcher.until_scraped()
        worker = pids(server)[1]
        os.kill(worker, signal.SIGSTOP)
        try:
            await watcher.until_fires("BroadcastWorkers")
        finally:
            os.kill(worker, signal.SIGCONT)


async def test_a_fault_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    async with running(Settings()) as server, prometheus(tmp_path, server.port) as watcher:
        await watcher.until_scraped()
        monkeypatch.setattr(server.runner.app[DISPATCHER], "handle", fail)
        async with raw_client(server.port) as client:
            await client.say({"type": "ping"})
            assert await client.hear() == ("close", 1011, "internal_error")
        await watcher.until_fires("BroadcastFaults")
    assert [it.msg for it in caplog.records].count(events.CONNECTION_FAULT.name) == 1


async def test_descriptors_that_are_used_up(tmp_path: Path) -> None:
    body = b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n"
    async with AsyncExitStack() as stack:
        limited = watched(tmp_path, descriptors=HARD)
        server, watcher = await stack.enter_async_context(limited)
        for _ in range(HARD):
            client = await RawClient.dial(server.port)
            stack.callback(client.close)
            await client.send(body)  # a request that is under way is not ended for others
        await expect(server, watcher, "BroadcastDescriptors", events.NO_DESCRIPTORS)


async def test_refused_tokens(tmp_path: Path) -> None:
    keys = {"API_KEYS": "app:0123456789abcdef"}
    wrong = {"X-API-Key": "0123456789abcdeX"}
    async with watched(tmp_path, **keys) as (server, watcher):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            for _ in range(600):
                async with session.get("/stats", headers=wrong) as answer:
                    assert answer.status == 401
        await expect(server, watcher, "BroadcastTokensRefused", events.MANY_REFUSED)


async def test_a_full_server(tmp_path: Path) -> None:
    async with (
        watched(tmp_path, MAX_CONNECTIONS="2") as (server, watcher),
        raw_client(server.port),
        raw_client(server.port),
        aiohttp.ClientSession() as session,
    ):
        for _ in range(3):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"http://127.0.0.1:{server.port}/ws")
        await expect(server, watcher, "BroadcastFull", events.FULL)


async def test_a_server_that_is_gone_and_one_that_comes_and_goes(tmp_path: Path) -> None:
    port = free_port()
    settings = {"METRICS_PORT": str(port)}
    async with AsyncExitStack() as stack:
        async with server_process(**settings):
            watcher = await stack.enter_async_context(prometheus(tmp_path, port))
            await watcher.until_scraped()
        await watcher.until_fires("BroadcastDown")
        for starts in range(3):
            async with server_process(**settings):
                await watcher.until(f"changes(process_start_time_seconds[1h]) > {starts}")
        await watcher.until_fires("BroadcastRestarts")


async def test_a_shutdown_that_does_not_end(tmp_path: Path) -> None:
    async with watched(tmp_path, SHUTDOWN_TIMEOUT="60") as (server, watcher):
        client = await RawClient.dial(server.port)  # its body never comes
        await client.send(b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n")
        server.terminate()
        await watcher.until_fires("BroadcastDrainStuck")
        client.close()


def test_every_alert_has_a_fault() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    fired = re.findall(r'"(Broadcast\w+)"', Path(__file__).read_text())
    assert {*fired} == {rule["alert"] for rule in rules}
