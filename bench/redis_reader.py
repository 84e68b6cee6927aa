"""Compare hub/redis/connection.py with redis-py: the cost of a message for a node.

    .venv/bin/python bench/redis_reader.py

It starts a Redis, which publishes 200-byte messages to a subscriber in this process, and prints the
processor time of this process for each message, the best of several rounds. It does the same for
publishes, in pipelines as large as those of a busy tick, up to their answers.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import Server, redis_server, running

from hub.redis.connection import RedisConnection

ROUNDS = 5
MESSAGES = 20_000  # in a round
BATCH = 50  # messages in a pipeline
EVENT = b"x" * 200

Measured = Callable[[], Awaitable[None]]


async def flood(port: int) -> None:
    """Make Redis publish all messages by a script, so that this process only reads."""
    client = redis.asyncio.Redis(port=port)
    script = "for i = 1, ARGV[1] do redis.call('PUBLISH', 'c', ARGV[2]) end"
    await client.eval(script, 0, MESSAGES, EVENT)
    await client.aclose()


async def read_by_pubsub(port: int, protocol: int) -> float:
    client = redis.asyncio.Redis(port=port, protocol=protocol)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("c")

    async def read() -> None:
        count = 0
        async for _ in pubsub.listen():
            count += 1
            if count == MESSAGES:
                break

    best = await timed(lambda: together(read(), flood(port)))
    await pubsub.aclose()
    await client.aclose()
    return best


async def read_by_connection(port: int) -> float:
    connection = await connected(port)
    count = 0
    whole = asyncio.Event()

    def listener(push: list[Any]) -> None:
        nonlocal count
        count += push[0] == b"message"
        if count == MESSAGES:
            whole.set()

    connection.listen(listener)
    connection.say("SUBSCRIBE", "c")

    async def read() -> None:
        nonlocal count
        await whole.wait()
        count = 0
        whole.clear()

    best = await timed(lambda: together(read(), flood(port)))
    connection.abort("done")
    return best


async def publish_by_pipeline(port: int, batch: int) -> float:
    client = redis.asyncio.Redis(port=port)

    async def publish() -> None:
        for _ in range(MESSAGES // batch):
            pipeline = client.pipeline(transaction=False)
            for _ in range(batch):
                pipeline.publish("nobody", EVENT)
            await pipeline.execute()

    best = await timed(publish)
    await client.aclose()
    return best


async def publish_by_connection(port: int, batch: int) -> float:
    connection = await connected(port)

    async def publish() -> None:
        for _ in range(MESSAGES // batch):
            for _ in range(batch - 1):
                connection.send(lambda reply: None, "PUBLISH", "nobody", EVENT)
            await connection.ask("PUBLISH", "nobody", EVENT)

    best = await timed(publish)
    connection.abort("done")
    return best


async def connected(port: int) -> RedisConnection:
    connection = RedisConnection(lambda why: None)
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
    return connection


async def together(*parts: Awaitable[None]) -> None:
    await asyncio.gather(*parts)


async def timed(measured: Measured) -> float:
    """Return the processor time for each message in µs, the best of the rounds."""
    took = []
    for _ in range(ROUNDS):
        before = time.process_time()
        await measured()
        took.append(time.process_time() - before)
    return min(took) / MESSAGES * 1e6


async def main(port: int) -> None:
    print("reading, µs a message")
    print(f"  redis-py PubSub, RESP3   {await read_by_pubsub(port, 3):6.2f}")
    print(f"  redis-py PubSub, RESP2   {await read_by_pubsub(port, 2):6.2f}")
    print(f"  hub/redis/connection.py              {await read_by_connection(port):6.2f}")
    print(f"publishing {BATCH} at a time, µs a message")
    print(f"  redis-py pipeline        {await publish_by_pipeline(port, BATCH):6.2f}")
    print(f"  hub/redis/connection.py              {await publish_by_connection(port, BATCH):6.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=MESSAGES, help="of a round")
    MESSAGES = arguments.parse_args().messages
    with running(Server("redis", "Redis", [redis_server(), "--save", ""])) as (redis_port, _):
        uvloop.run(main(redis_port))
