"""Probes and metrics: they speak for all workers, whichever is asked."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest

from hub.version import VERSION
from tests.support.metrics import Figures, named, scrape
from tests.support.patience import PATIENCE
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.redis import RedisServer, free_port
from tests.support.workers import (
    all_ready,
    client_of_each,
    connect,
    get,
    pids,
    server_with_workers,
)

ASKED = 8  # requests, each on a new connection: of two workers, both are asked but for 1 in 128


async def figures_of(server: ServerProcess, workers: int = 2) -> Figures:
    """Return the metrics, to which all workers have answered: a busy one may be too late."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            figures = await scrape(session, f"http://127.0.0.1:{server.port}")
            if named(figures, "workers", state="ready") == workers:
                return figures


async def publish(server: ServerProcess, messages: int) -> None:
    """Publish, each time on a new connection."""
    for number in range(messages):
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
            session.post("/publish", json={"topic": "t", "payload": number}) as answer,
        ):
            assert answer.status == 200


async def hear_events(client: RawClient, messages: int) -> None:
    for _ in range(messages):
        while (await client.hear())["type"] != "event":
            pass


def growth(before: Figures, after: Figures, name: str, **labels: str) -> float:
    return named(after, name, **labels) - named(before, name, **labels)


async def test_health_has_the_subscribers_of_all_workers(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server, "t", "u")
        for _ in range(ASKED):
            async with asyncio.timeout(PATIENCE):
                # A topic counts for each worker that has it.
                while (await get(server, "/health"))[1] | {"uptime_sec": 1} != {
                    "status": "ok",
                    "uptime_sec": 1,
                    "topics": 4,
                    "subscribers": 4,
                }:
                    pass  # a busy worker may be too late
        assert 0 <= (await get(server, "/health"))[1]["uptime_sec"] < 300
        for client in clients.values():
            client.close()


async def test_the_sums_are_what_clients_did(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, 3) as server:
        clients = await client_of_each(server, "t")
        before = await figures_of(server, 3)
        more = [(await connect(server))[1] for _ in range(6)]
        for client in (*clients.values(), *more):
            await client.say({"type": "ping"})
            assert (await client.hear())["type"] == "pong"
        await publish(server, 20)
        await asyncio.gather(*(hear_events(client, 20) for client in clients.values()))
        for _ in range(ASKED):
            after = await figures_of(server, 3)
            grown = partial(growth, before, after)
            assert grown("connections") == 6
            assert grown("connections_total", transport="websocket", result="accepted") == 6
            assert grown("commands_total", type="ping", result="ok") == 9
            assert grown("published_total", source="rest") == 20
            assert grown("delivered_total") == 60
            assert named(after, "subscriptions") == 3
        for client in (*clients.values(), *more):
            client.close()


async def test_what_a_sum_would_hide_has_the_worker_as_a_label(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        figures = await figures_of(server)
        for name in ("topics", "open_fds", "redis_up", "event_loop_lag_seconds_count"):
            found = {labels for sample, labels in figures if sample == f"broadcast_{name}"}
            assert found == {frozenset({("worker", str(number))}) for number in (1, 2)}
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total"):
            assert len({labels for sample, labels in figures if sample == name}) == 2
        assert named(figures, "redis_up", worker="1") == 1
        assert named(figures, "build_info", version=VERSION) == 1
        assert named(figures, "draining") == 0


async def test_max_connections_is_that_of_all_workers(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, MAX_CONNECTIONS="7") as server:
        assert named(await figures_of(server), "max_connections") == 7
        clients = []
        refused = 0
        while len(clients) < 7:  # each worker has its part, so some are refused before
            client = await RawClient.dial(server.port)
            await client.send(
                b"GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            head = await client.read_head()
            if b" 101 " in head:
                clients.append(client)
            else:
                assert b" 503 " in head
                refused += 1
                client.close()
        await all_ready(server)
        status, body = await get(server, "/ready")
        assert (status, body["checks"]["connections"]) == (200, "full")
        limited = named(await figures_of(server), "limited_total", limit="MAX_CONNECTIONS")
        assert limited == refused
        for client in clients:
            client.close()


async def test_counts_do_not_go_back_when_a_worker_dies(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server, "t")
        await publish(server, 10)
        await asyncio.gather(*(hear_events(client, 10) for client in clients.values()))
        before = await figures_of(server)
        os.kill(pids(server)[1], signal.SIGKILL)
        await server.wait_for_log("worker is ready: worker=1 ")
        after = await figures_of(server)
        for name in ("published_total", "delivered_total"):
            labels = {"source": "rest"} if name == "published_total" else {}
            assert named(after, name, **labels) == named(before, name, **labels)
        assert named(after, "worker_restarts_total") == 1
        assert named(after, "connections") == 1
        for client in clients.values():
            client.close()


async def test_counts_of_a_replaced_worker_are_complete(redis: RedisServer) -> None:
    """Nobody has asked for them before."""
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server, "t")
        await publish(server, 10)
        await asyncio.gather(*(hear_events(client, 10) for client in clients.values()))
        for client in clients.values():
            client.close()
        server.process.send_signal(signal.SIGHUP)
        await server.wait_for_log("all workers are replaced")
        figures = await figures_of(server)
        assert named(figures, "published_total", source="rest") == 10
        assert named(figures, "delivered_total") == 20
        assert sum(
            named(figures, "disconnects_total", reason=reason)
            for reason in ("left", "lost", "going_away")
        ) == named(figures, "connections_total", transport="websocket", result="accepted")


@pytest.fixture
async def own_port(redis: RedisServer) -> AsyncIterator[tuple[ServerProcess, str]]:
    port = free_port()
    async with server_with_workers(redis.port, METRICS_PORT=str(port)) as server:
        yield server, f"http://127.0.0.1:{port}"


async def test_the_parent_serves_metrics_port(own_port: tuple[ServerProcess, str]) -> None:
    server, url = own_port
    assert (await get(server, "/metrics"))[0] == 404
    clients = await client_of_each(server, "t")
    async with aiohttp.ClientSession() as session:
        figures = await scrape(session, url)
        assert named(figures, "connections") == 2
        async with session.get(f"{url}/stats") as answer:
            assert (answer.status, list(await answer.json())) == (404, ["error"])
        # It answers without a worker, too.
        for pid in pids(server).values():
            os.kill(pid, signal.SIGSTOP)
        figures = await scrape(session, url)
        assert named(figures, "workers", state="ready") == 0
        assert named(figures, "workers", state="silent") == 2
        for pid in pids(server).values():
            os.kill(pid, signal.SIGCONT)
    for client in clients.values():
        client.close()


async def test_heads_that_do_not_arrive_on_metrics_port_are_ended(redis: RedisServer) -> None:
    settings = {"METRICS_PORT": str(free_port()), "HEADER_TIMEOUT": "0.2"}
    async with server_with_workers(redis.port, **settings):
        slow = await RawClient.dial(int(settings["METRICS_PORT"]))
        await slow.send(b"GET /metrics HTTP/1.1\r\nHost:")
        assert await slow.read_to_end() == b""
        slow.close()


async def test_without_redis_no_worker_is_ready_after_the_grace(redis: RedisServer) -> None:
    async with server_with_workers(redis.port, READY_REDIS_GRACE="0.5") as server:
        redis.kill()
        await server.wait_for_log("Redis is out of reach")
        async with asyncio.timeout(PATIENCE):
            while True:
                status, body = await get(server, "/ready")
                if status == 503 and body["checks"]["workers"] == "ok":
                    break
        assert (body["error"], body["checks"]["redis"]) == ("Redis is out of reach", "lost")
        for path in ("/live", "/health"):
            assert (await get(server, path))[0] == 200


async def test_a_disconnect_acts_on_all_workers(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        clients = await client_of_each(server)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
            session.get("/connections") as answer,
        ):
            names = [it["client_id"] for it in (await answer.json())["connections"]]
        for name in names:
            async with (
                aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
                session.post("/disconnect", json={"client_id": name}) as answer,
            ):
                assert answer.status == 200
        for client in clients.values():
            assert await client.hear() == ("close", 3000, "disconnected")
            client.close()


async def test_while_the_parent_does_not_answer_nothing_hangs(redis: RedisServer) -> None:
    async with server_with_workers(redis.port) as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE):
                assert (await get(server, "/metrics"))[0] == 503
                status, body = await get(server, "/ready")
            assert (status, body["checks"]["workers"]) == (200, "unknown")
        finally:
            server.process.send_signal(signal.SIGCONT)
        await all_ready(server)
