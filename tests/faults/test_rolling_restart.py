"""A rolling restart of three servers behind each balancer of deploy/, which nobody notices.

There are 500 clients, half of them WebSockets and half streams, of 100 topics with history. Up to
500 messages a second are published through the balancer, each with a key in its header. The pauses,
the topics of the messages and the order of the restarts come from a seed.
"""

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, cast

import aiohttp
import pytest

from tests.support.balancers import NAME, Balancer, Start, haproxy, nginx
from tests.support.eventually import eventually
from tests.support.fleet import WORKERS, Follower, Publisher, StreamFollower, WebSocketFollower
from tests.support.frames import TEXT, client_frame
from tests.support.patience import PATIENCE
from tests.support.process import ServerProcess, server_process
from tests.support.raw import HANDSHAKE
from tests.support.redis import RedisServer, free_port

CLIENTS = 500
RATE = 500  # messages a second
TOPICS = [f"roll/{number}" for number in range(100)]
STUCK = 50  # clients that read nothing
# Seconds in which a client is back, from the end of the pause that the server asked for to the ack.
BACK = 2.0
# A server takes at most UNEVEN times its share of those that return within WINDOW seconds, and FEW
# more: the balancer also counts the publishes that are under way at a server.
UNEVEN = 1.5
WINDOW = 1.0
FEW = WORKERS + 10


class Node:
    """One server, which can be started again on its port."""

    def __init__(self, redis: RedisServer) -> None:
        self.port = free_port()
        self._settings = {
            "PORT": str(self.port),
            "REDIS_ADDR": f"127.0.0.1:{redis.port}",
            "HISTORY_SIZE": "300",
            "TRUSTED_PROXIES": "127.0.0.1",
        }
        self._server: ServerProcess | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        self._server = await stack.enter_async_context(server_process(**self._settings))

    async def stop(self) -> None:
        """Send SIGTERM, and wait for the end."""
        assert self._server is not None
        self._server.terminate()
        assert await self._server.exit_code() == 0


def check_shares(counts: Counter[str], arrivals: list[tuple[float, str]]) -> None:
    """Check that servers share the clients that return as least connections says.

    Args:
        counts: the connections of each server before.
        arrivals: the times at which clients connected, in order, and the server of each. They are
            those of the clients: the ack of a server that is slow comes late.
    """
    for number, (began, server) in enumerate(arrivals):
        window = [it for time, it in arrivals[number:] if time < began + WINDOW]
        shares, took = level(counts, len(window)), Counter(window)
        for it in counts:
            assert took[it] <= UNEVEN * shares[it] + FEW, (counts, took)
        counts[server] += 1


def level(counts: Counter[str], joined: int) -> Counter[str]:
    """Return how many of those that joined each server gets, so that all have equally many.

    A server that has more already gets none. A server that has just started gets all, until it has
    as many as the others.
    """
    shares: Counter[str] = Counter()
    for _ in range(joined):
        shares[min(counts, key=lambda it: counts[it] + shares[it])] += 1
    return shares


class Probe:
    """Asks the servers directly all the time.

    Attributes:
        slowest: the seconds that the slowest answer took, which says how busy the machine is.
    """

    def __init__(self, ports: list[int]) -> None:
        self.slowest = 0.0
        self._ports = ports

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        async with aiohttp.ClientSession() as session:
            for port in itertools.cycle(self._ports):
                began = clock()
                try:
                    async with session.get(f"http://127.0.0.1:{port}/live"):
                        pass
                except aiohttp.ClientError:
                    pass  # it restarts
                await asyncio.sleep(0.02)  # so that the probe is no load
                self.slowest = max(self.slowest, clock() - began)


class Roll:
    """The servers, the balancer and its clients."""

    def __init__(self, nodes: list[Node], balancer: Balancer, random: Random) -> None:
        self.nodes = nodes
        self.balancer = balancer
        self.random = random
        self.followers: list[Follower] = []
        for number in range(CLIENTS):
            kind = WebSocketFollower if number % 2 else StreamFollower
            topic = TOPICS[number // 2 % len(TOPICS)]
            address = f"127.1.{number // 250}.{number % 250 + 1}"
            self.followers.append(kind(balancer, address, topic, random))

    async def all_connected(self) -> None:
        await eventually(lambda: all(it.connected for it in self.followers), PATIENCE)

    async def restart(self, node: Node, stack: AsyncExitStack) -> None:
        """Restart a server, and wait until the balancer uses it again."""
        servers, before = await self._servers(), await self._places()
        began = asyncio.get_running_loop().time()
        await node.stop()
        log = len(self.balancer.log())
        await node.start(stack)
        await eventually(lambda: self.balancer.served(node.port, log), PATIENCE)
        await self.all_connected()
        after = dict(await self._places())
        stayed = servers & await self._servers()
        assert len(stayed) == len(self.nodes) - 1
        counts = Counter(place for _, place in before)
        returned = [it for it in self.followers if it.began > began]
        arrivals = sorted((it.began, after[it.address]) for it in returned)
        check_shares(
            Counter({it: counts[it] for it in stayed}), [it for it in arrivals if it[1] in stayed]
        )

    async def _servers(self) -> set[str]:
        """Return the ids of the servers."""
        return {it["id"] for it in (await self._ask("/nodes"))["nodes"]}

    async def _places(self) -> list[tuple[str, str]]:
        """Return the address and the server of each connection."""
        body = await self._ask("/connections?limit=1000")
        return [(it["address"], it["node"]) for it in body["connections"]]

    async def _ask(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.nodes[0].port}{path}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
            while True:
                async with session.get(url) as answer:
                    body = await answer.json()
                if not body.get("missing"):  # a busy server may not answer in time
                    return body

    async def at_the_end(self, published: dict[str, list[int]]) -> None:
        """Wait until each follower has got as many events as were published to its topic."""
        await eventually(
            lambda: all(len(it.payloads) >= len(published[it.topic]) for it in self.followers),
            PATIENCE,
        )

    def check(self, published: dict[str, list[int]]) -> None:
        """Check that each follower got all events, each once, and all in one order."""
        orders: dict[str, list[int]] = {}
        for follower in self.followers:
            order = orders.setdefault(follower.topic, follower.payloads)
            assert follower.payloads == order
        assert {topic: sorted(it) for topic, it in orders.items()} == {
            topic: sorted(it) for topic, it in published.items()
        }


async def stuck_client(balancer: Balancer) -> asyncio.StreamWriter:
    """Return a WebSocket that subscribes to a topic and then reads nothing more."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", balancer.port, ssl=balancer.tls, server_hostname=NAME, limit=1_000
    )
    writer.write(HANDSHAKE + client_frame(TEXT, b'{"type":"subscribe","topic":"roll/0"}'))
    await reader.readuntil(b'"ack"')
    cast(asyncio.ReadTransport, writer.transport).pause_reading()
    return writer


@pytest.mark.parametrize(
    ("start", "seed", "stuck"),
    [(nginx, 1, 0), (haproxy, 2, 0), (nginx, 3, STUCK), (haproxy, 4, STUCK)],
)
async def test_nobody_notices_a_rolling_restart(
    start: Start, seed: int, stuck: int, redis: RedisServer, tmp_path: Path
) -> None:
    random = Random(seed)
    nodes = [Node(redis) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for node in nodes:
            await node.start(stack)
        balancer = await stack.enter_async_context(start(tmp_path, [it.port for it in nodes]))
        session = await stack.enter_async_context(balancer.session())
        roll = Roll(nodes, balancer, random)
        probe = Probe([it.port for it in nodes])
        publisher = Publisher(session, TOPICS, RATE, random)
        writers = [await stuck_client(balancer) for _ in range(stuck)]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(it.run()) for it in roll.followers]
            await roll.all_connected()
            running.append(tasks.create_task(probe.run()))
            publishing = tasks.create_task(publisher.run())
            for node in random.sample(nodes, len(nodes)):
                await roll.restart(node, stack)
            publisher.stop()
            await publishing
            await roll.at_the_end(publisher.published)
            for task in running:
                task.cancel()
        roll.check(publisher.published)
        returns = [it for follower in roll.followers for it in follower.returns]
        # On a busy machine: a return is two exchanges, the handshake and the subscribe.
        assert max(returns) < BACK + 2 * probe.slowest
        assert sum(map(len, publisher.published.values())) > RATE
        for writer in writers:
            writer.transport.abort()
