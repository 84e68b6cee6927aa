"""Failovers of a Redis master with a replica and three sentinels."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import Subscriber, cluster
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.redis import RedisServer, redis_server
from tests.support.stream import GAP, Stream, gaps_told, sort_of

SERVICE = "main"

SENTINEL = """\
sentinel monitor {service} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {service} 1000
sentinel failover-timeout {service} 5000
"""


@dataclass
class Watched:
    master: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    @property
    def address(self) -> str:
        hosts = ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def until_master(self, port: int) -> None:
        """Wait until the sentinels name the master on this port, and know each other."""
        await eventually(lambda: all(self._agrees(it, port) for it in self.sentinels))

    async def until_master_is(self, port: int) -> None:
        """Wait until every sentinel names the master on this port."""
        await eventually(lambda: all(self._names(it) == port for it in self.sentinels))

    @staticmethod
    def _names(sentinel: RedisServer) -> int:
        with sentinel.client() as client:
            return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])

    @staticmethod
    def _agrees(sentinel: RedisServer, port: int) -> bool:
        with sentinel.client() as client:
            state = client.sentinel_master(SERVICE)
        return (
            state["port"] == port
            and state["num-other-sentinels"] == 2
            and state["num-slaves"] >= 1
            and "s_down" not in state["flags"]
        )


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        master = stack.enter_context(redis_server())
        replica = stack.enter_context(redis_server("--replicaof", "127.0.0.1", str(master.port)))
        sentinels = []
        for number in range(3):
            config = folder / f"sentinel{number}.conf"
            config.write_text(SENTINEL.format(service=SERVICE, master=master.port))
            sentinel = RedisServer(str(folder), "--sentinel", config=str(config))
            stack.callback(sentinel.end)
            sentinel.start()
            sentinels.append(sentinel)
        yield Watched(master, replica, sentinels)


async def test_the_cluster_follows_a_failover(tmp_path: Path) -> None:
    with watched(tmp_path) as redis:
        await redis.until_master(redis.master.port)
        settings = {"REDIS_ADDR": redis.address}
        async with cluster(settings, settings) as servers:
            subscribers = [await servers.subscriber(n, "t") for n in range(2)]
            stream = Stream(await servers.subscriber(0), "t")
            await stream.more(50)
            assert stream.count("ok") == len(stream.answers)
            known = []  # gaps before: a busy machine may not answer a beat in time
            for subscriber in subscribers:
                await subscriber.until(lambda s=subscriber: 49 in s.payloads("t"))
                known.append(subscriber.payloads("t").count(GAP))
            redis.master.kill()
            await redis.until_master_is(redis.replica.port)
            await servers.healed(())
            before = stream.count("ok")
            await stream.more(50)
            await stream.stop()
            assert stream.count("ok") > before
            assert stream.count("ok") + stream.count("degraded") == len(stream.answers)
            assert (await servers.publish(1, "t", "end"))[0] == 200
            for subscriber, gaps in zip(subscribers, known, strict=True):
                await subscriber.until(lambda s=subscriber: s.payloads("t")[-1] == "end")
                assert gaps_told(subscriber.payloads("t")) == gaps + 1
            with redis.replica.client() as client:
                assert client.pubsub_channels("ws:topic:*") == ["ws:topic:t"]


async def said_before_the_gap(subscriber: Subscriber, stream: Stream, number: int) -> int:
    """Return the number of publishes answered before the gap is reported."""
    await subscriber.until(lambda: GAP in subscriber.payloads(f"to{number}"), PATIENCE)
    return len(stream.answers)


async def test_the_cluster_leaves_a_demoted_master(tmp_path: Path) -> None:
    """It keeps running, connected, while the sentinels name another: only they know about it.

    For some seconds there are two masters, and each node leaves the old one by itself.
    """
    with watched(tmp_path) as redis:
        await redis.until_master(redis.master.port)
        settings = {"REDIS_ADDR": redis.address, "REDIS_FAIL_MODE": "strict"}
        async with cluster(settings, settings) as servers:
            subscribers = [await servers.subscriber(n, f"to{n}") for n in range(2)]
            streams = [Stream(await servers.subscriber(1 - n), f"to{n}") for n in range(2)]
            with redis.sentinels[0].client() as client:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE)
            await redis.until_master_is(redis.replica.port)
            known = await asyncio.gather(*map(said_before_the_gap, subscribers, streams, (0, 1)))
            await servers.healed(())
            for number, subscriber in enumerate(subscribers):
                await streams[number].more(50)
                await streams[number].stop()
                topic = f"to{number}"
                status, answer = await servers.publish(0, topic, "end")
                assert (status, answer.get("nodes")) == (200, 1)
                await subscriber.until(lambda s=subscriber, t=topic: s.payloads(t)[-1] == "end")
                assert gaps_told(subscriber.payloads(topic)) == 1
                after = range(known[number] + 1, len(streams[number].answers))
                taken = {it for it in after if sort_of(streams[number].answers[it]) == "ok"}
                assert taken <= {it for it in subscriber.payloads(topic) if it != GAP}
            with redis.replica.client() as client:
                channels = sorted(client.pubsub_channels("ws:topic:*"))
                assert channels == ["ws:topic:to0", "ws:topic:to1"]
