"""Stats of the other nodes."""

import asyncio
from contextlib import AsyncExitStack

from hub.redis.cluster_stats import PAGE
from tests.support.bus import bus_node
from tests.support.patience import PATIENCE
from tests.support.redis import RedisServer


async def test_stats_include_other_nodes(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = [
            await stack.enter_async_context(bus_node(address, prefix)) for _ in range(3)
        ]
        two.clients += ["c1", "c2"]
        await two.subscribe("t")
        two.broker.set_subscriber_count("t", 2)
        await three.subscribe("t")
        three.broker.set_subscriber_count("t", 1)
        await three.create("made")
        async with asyncio.timeout(PATIENCE):
            while (stats := await one.bus.cluster_stats()).topics != {"t": 3, "made": 0}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # numbers are written with the beat
        assert (stats.nodes, stats.clients) == (2, 2)
        assert not stats.degraded
        await stack.enter_async_context(bus_node(address, prefix))


async def test_stats_are_read_in_pages_and_shared_by_concurrent_callers(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    topics = {f"t{number}": number for number in range(5 * PAGE)}
    made = [f"made{number}" for number in range(5 * PAGE)]
    async with bus_node(address, prefix) as one, bus_node(address, prefix) as two:
        await two.subscribe("t0")
        with shared_redis.client() as client:
            client.hset(f"{prefix}:leases:{two.bus.node_id}", mapping=topics)
            client.sadd(f"{prefix}:explicit", *made)
            before = client.info("commandstats").get("cmdstat_hscan", {"calls": 0})
            all_stats = await asyncio.gather(*(one.bus.cluster_stats() for _ in range(20)))
            after = client.info("commandstats")
        assert all(stats == all_stats[0] for stats in all_stats)
        assert (all_stats[0].topics, all_stats[0].nodes) == (topics | dict.fromkeys(made, 0), 1)
        assert 5 <= after["cmdstat_hscan"]["calls"] - before["calls"] <= 10
        assert "cmdstat_hgetall" not in after
        assert "cmdstat_smembers" not in after


async def test_stats_show_own_changes_at_once(address: str, prefix: str) -> None:
    async with bus_node(address, prefix) as node:
        for _ in range(3):
            assert (await node.bus.cluster_stats()).topics == {}
            await node.create("made")
            assert (await node.bus.cluster_stats()).topics == {"made": 0}
            await node.delete("made")


async def test_cancelled_caller_does_not_cancel_the_read_for_others(
    address: str, prefix: str
) -> None:
    async with bus_node(address, prefix) as node:
        askers = [asyncio.create_task(node.bus.cluster_stats()) for _ in range(2)]
        await asyncio.sleep(0)
        askers[0].cancel()
        assert not (await askers[1]).degraded
