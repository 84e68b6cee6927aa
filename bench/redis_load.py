"""Measures the load of the servers on Redis, for the estimates in docs/scaling.md.

    .venv/bin/python bench/redis_load.py

It starts a Redis and sends it the commands of a cluster's nodes, with their scripts, in pipelines
as large as those of a busy tick. It prints the processor time that Redis reports.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import Server, redis_server, running

from hub.redis.connection import RedisConnection
from hub.redis.keys import Keys
from hub.redis.scripts import scripts_for

PUBLISHES = 20_000  # and topics
BATCH = 50
HEAD = b"x" * 20
EVENT = HEAD + b"x" * 200  # with the header of an envelope
SIZE = 300  # events in a topic's history
NODES = (1, 2, 4, 8, 16)


class Cluster:
    """The leases and subscriptions of nodes, without servers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.keys = Keys("load")
        self.scripts = scripts_for(self.keys)
        self.redis = redis.asyncio.Redis(port=port)
        self.heard = 0

    async def connection(self) -> RedisConnection:
        connection = RedisConnection(lambda why: None)
        await asyncio.get_running_loop().create_connection(
            lambda: connection, "127.0.0.1", self._port
        )
        return connection

    async def spent(self) -> float:
        """Return the processor time that Redis has used, in seconds."""
        cpu: dict[str, float] = await self.redis.info("cpu")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]

    async def node(self, number: int, *topics: str) -> RedisConnection:
        """Add a node that holds these topics, and return its subscribed connection."""
        words = [word for topic in topics for word in (topic, 1)]
        publisher = await self.connection()
        await publisher.ask("EVAL", self.scripts.lease, 0, f"n{number}", 1, *words)
        publisher.abort("done")
        subscriber = await self.connection()
        subscriber.listen(self._count)
        for topic in topics:
            subscriber.say("SUBSCRIBE", self.keys.channel(topic))
        return subscriber

    def _count(self, push: list[Any]) -> None:
        self.heard += push[0] == b"message"

    async def publish(self, node: str, topic: str) -> float:
        """Return Redis' processor time for a publish by a node, in µs."""
        return await self._many(self.scripts.publish, topic, node, EVENT, 0)

    async def append(self, node: str, topic: str) -> float:
        """Return the same for a topic with a history of SIZE events."""
        words = (topic, node, HEAD, 0, EVENT[len(HEAD) :], "epoch", SIZE, 300_000, 1 << 30)
        return await self._many(self.scripts.append, *words)

    async def _many(self, script: str, *words: Any) -> float:
        connection = await self.connection()
        sha = (await connection.ask("SCRIPT", "LOAD", script)).decode()
        before = await self.spent()
        for _ in range(PUBLISHES // BATCH):
            for _ in range(BATCH - 1):
                connection.send(lambda reply: None, "EVALSHA", sha, 0, *words)
            await connection.ask("EVALSHA", sha, 0, *words)
        took = await self.spent() - before
        connection.abort("done")
        return took / PUBLISHES * 1e6


async def main(port: int) -> None:
    cluster = Cluster(port)
    print("a publish, by a node that holds the topic, µs of Redis")
    for count in NODES:
        nodes = [await cluster.node(number, "t") for number in range(count)]
        print(f"  {count:3} nodes subscribed      {await cluster.publish('n0', 't'):6.2f}")
        for node in nodes:
            node.abort("done")
        await cluster.redis.flushall()
    node = await cluster.node(0, "t")
    print(f"to one that remembers {SIZE} events, by a node that holds it")
    print(f"    1 node subscribed       {await cluster.append('n0', 't'):6.2f}")
    used = await cluster.redis.memory_usage("load:events:t", samples=0)
    print(f"  bytes of Redis, an event {used / min(PUBLISHES, SIZE):6.0f}")
    node.abort("done")
    await cluster.redis.flushall()
    print("a publish, by a node that does not; one other holds it, the last that is asked")
    for count in NODES:
        for number in range(count):
            (await cluster.node(number)).abort("done")
        holder = await cluster.node(count, "t")
        print(f"  of {count + 1:3} nodes             {await cluster.publish('n0', 't'):6.2f}")
        holder.abort("done")
        await cluster.redis.flushall()
    await topics(cluster)
    await cluster.redis.aclose()


async def topics(cluster: Cluster) -> None:
    """Print the cost of a topic that a node begins to hold, and the cost of a beat."""
    names = [f"room:{number:08}" for number in range(PUBLISHES)]
    before = await cluster.spent()
    used = (await cluster.redis.info("memory"))["used_memory"]
    connection = await cluster.connection()
    subscriber = await cluster.connection()
    subscriber.listen(lambda push: None)
    for at in range(0, PUBLISHES, 1_000):
        some = names[at : at + 1_000]
        subscriber.say("SUBSCRIBE", *map(cluster.keys.channel, some))
        await connection.ask(
            "EVAL", cluster.scripts.lease, 0, "n0", 1, *(word for it in some for word in (it, 1))
        )
    print("a topic that a node begins to hold")
    print(f"  µs of Redis              {(await cluster.spent() - before) / PUBLISHES * 1e6:6.2f}")
    used = (await cluster.redis.info("memory"))["used_memory"] - used
    print(f"  bytes of Redis           {used / PUBLISHES:6.0f}")
    for changed in (0, 1_000):
        words = [word for name in names[:changed] for word in (name, 2)]
        before = await cluster.spent()
        for number in range(200):
            await connection.ask("EVAL", cluster.scripts.beat, 0, "n0", number, 500, *words)
        took = (await cluster.spent() - before) / 200 * 1e6
        print(f"a beat with {changed:5} changes  {took:8.1f} µs of Redis")
    subscriber.abort("done")
    connection.abort("done")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=PUBLISHES, help="of each kind")
    PUBLISHES = arguments.parse_args().messages
    with running(Server("redis", "Redis", [redis_server(), "--save", ""])) as (redis_port, _):
        uvloop.run(main(redis_port))
