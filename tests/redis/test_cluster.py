"""Several brokers that share one Redis."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from hub.brokers.base import PublishResult, SubscribeResult
from hub.brokers.idempotency import FirstPublish
from hub.errors import ErrorCode
from hub.logs import events
from tests.support.bus import BusNode, bus_node, refused
from tests.support.eventually import eventually
from tests.support.logs import records
from tests.support.patience import PATIENCE
from tests.support.redis import RedisServer


async def cluster(stack: AsyncExitStack, address: str, prefix: str, count: int) -> list[BusNode]:
    return [await stack.enter_async_context(bus_node(address, prefix)) for _ in range(count)]


async def test_three_nodes_deliver_in_the_same_order(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, address, prefix, 3)
        for node in nodes:
            await node.subscribe("t")

        async def publish_100(number: int) -> None:
            for count in range(100):
                await nodes[number].publish("t", b'{"from":%d,"n":%d}' % (number, count))

        await asyncio.gather(*map(publish_100, range(3)))
        heard = [await node.hear(300) for node in nodes]
        assert len(heard[0]) == 300
        assert heard[0] == heard[1] == heard[2]
        for number in range(3):
            mine = [event for _, _, event in heard[0] if b'"from":%d' % number in event]
            assert mine == [b'{"from":%d,"n":%d}' % (number, n) for n in range(100)]


async def test_topics_exist_on_all_nodes(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, address, prefix, 2)
        await one.subscribe("auto")
        await one.create("made")
        assert await two.publish("auto") == PublishResult(nodes=1)
        assert await two.publish("made") == PublishResult(nodes=0)
        for topic in ("auto", "made"):
            outcome = await two.create(topic)
            assert refused(outcome) == ErrorCode.TOPIC_EXISTS
        one.broker.unsubscribe("auto")
        await one.publish("made")  # a later command on the same connection
        outcome = await two.publish("auto")
        assert refused(outcome) == ErrorCode.TOPIC_NOT_FOUND


async def test_deletion_reaches_every_node_in_order(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, address, prefix, 2)
        for node in (one, two):
            await node.subscribe("t")
        calls = [one.publish("t", b'{"n":1}'), one.delete("t")]
        published, refusal = await asyncio.gather(*calls)
        assert isinstance(published, PublishResult)
        assert refusal is None
        for node in (one, two):
            assert await node.hear(2) == [("event", "t", b'{"n":1}'), ("deleted", "t", b"")]
        outcome = await two.publish("t")
        assert refused(outcome) == ErrorCode.TOPIC_NOT_FOUND
        await two.subscribe("t")
        assert await one.publish("t", b'{"n":2}') == PublishResult(nodes=1)
        assert await two.hear(1) == [("event", "t", b'{"n":2}')]
        assert one.heard == []


async def test_concurrent_subscribe_and_delete_end_consistent(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    """A node that was not told of the deletion is subscribed to the existing topic."""
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, address, prefix, 2)
        for turn in range(60):
            topic = f"t{turn}"
            await two.create(topic)
            joining = asyncio.create_task(one.subscribe(topic))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            await two.delete(topic)
            assert isinstance(await joining, SubscribeResult)
            outcome = await two.publish(topic, b'{"n":1}')
            if isinstance(outcome, PublishResult):
                await one.until(lambda: one.heard and one.heard[-1][0] != "missed")
                told = one.heard[-1]
                assert told in (("event", topic, b'{"n":1}'), ("deleted", topic, b""))
            else:
                await one.until(lambda topic=topic: ("deleted", topic, b"") in one.heard)  # type: ignore[misc]
            one.heard.clear()


async def test_foreign_message_is_counted_and_dropped(
    shared_redis: RedisServer, address: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bus_node(address, prefix) as node:
        await node.subscribe("t")
        with shared_redis.client() as client:
            for text in ("hello", "", "wsE1" + "x" * 16 + "not json", "wsD1" + "x" * 16 + "{}"):
                client.publish(f"{prefix}:topic:t", text)
            # It would be two Server-Sent Events.
            client.publish(f"{prefix}:topic:t", "wsE1" + "x" * 16 + '{}\n\ndata: {"n":"forged"}')
            client.publish(f"{prefix}:topic:t", b"wsE1" + b"x" * 16 + b'{"n":"\xff"}')
            forged = b"wsE1" + bytes.fromhex(node.bus.node_id) + b"\x40" + bytes(7) + b"{}"
            client.publish(f"{prefix}:topic:t", forged)
            for text in ("not a number", "0", "9" * 15, "9" * 5_000):
                client.publish(f"{prefix}:node:{node.bus.node_id}", text)
        await node.publish("t", b'{"n":1}')
        assert await node.hear(1) == [("event", "t", b'{"n":1}')]
        assert (await node.bus.cluster_stats()).poisoned == 11
    assert len(records(caplog, events.POISONED)) == 1


async def test_two_deployments_can_share_a_redis(address: str, prefix: str) -> None:
    async with bus_node(address, prefix) as one, bus_node(address, f"{prefix}b") as other:
        await one.subscribe("t")
        await other.subscribe("t")
        assert await one.publish("t", b'{"n":1}') == PublishResult(nodes=1)
        assert await one.hear(1) == [("event", "t", b'{"n":1}')]
        assert await other.publish("t", b'{"n":2}') == PublishResult(nodes=1)
        assert await other.hear(1) == [("event", "t", b'{"n":2}')]


async def test_node_deletes_its_leases_when_it_leaves(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with bus_node(address, prefix) as one:
        async with bus_node(address, prefix) as two:
            await two.subscribe("t")
            assert isinstance(await one.publish("t"), PublishResult)
        outcome = await one.publish("t")
        assert refused(outcome) == ErrorCode.TOPIC_NOT_FOUND
        with shared_redis.client() as client:
            assert client.zcard(f"{prefix}:nodes") == 1
            assert client.keys(f"{prefix}:leases:*") == [f"{prefix}:leases:{one.bus.node_id}"]
            assert client.ttl(f"{prefix}:leases:{one.bus.node_id}") in range(10, 15)


async def test_many_topics_are_subscribed_with_few_commands(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with bus_node(address, prefix) as node:
        with shared_redis.client() as client:
            before = client.info("commandstats")
            await asyncio.gather(*(node.subscribe(f"t{n}") for n in range(2_500)))
            after = client.info("commandstats")
            subscribes = after["cmdstat_subscribe"]["calls"] - before["cmdstat_subscribe"]["calls"]
            assert subscribes == 3
            assert len(client.pubsub_channels(f"{prefix}:topic:*")) == 2_500
            for number in range(2_500):
                node.broker.unsubscribe(f"t{number}")
            await node.publish("t0")
            assert client.hlen(f"{prefix}:leases:{node.bus.node_id}") == 1
            await eventually(lambda: not client.pubsub_channels(f"{prefix}:topic:*"))


async def test_nodes_that_race_with_one_key_deliver_once(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await cluster(stack, address, prefix, 2)
        await one.subscribe("t")
        for turn in range(50):
            calls = [
                node.publish_once("t", b"{}", f"k{turn}", FirstPublish(number, 0))
                for number, node in enumerate((one, two))
            ]
            outcomes = await asyncio.gather(*calls)
            firsts = [it.first for it in outcomes if isinstance(it, PublishResult)]
            assert sorted(first is None for first in firsts) == [False, True]
            winner = firsts.index(None)
            assert firsts[1 - winner] == FirstPublish(winner, 0)
        await one.publish("t", b'{"end":1}')
        heard = await one.hear(51)
        assert [event for _, _, event in heard] == [b"{}"] * 50 + [b'{"end":1}']
        with shared_redis.client() as client:
            keys = client.keys(f"{prefix}:once:*")
            assert len(keys) == 50
            assert all(client.ttl(key) in range(280, 301) for key in keys)


async def test_unknown_topic_is_refused_after_the_grace(address: str, prefix: str) -> None:
    """Just after a connect, other nodes may not have written their leases yet."""
    async with bus_node(address, prefix, grace=PATIENCE) as node:
        assert await node.publish("unknown") == PublishResult(nodes=0)
    async with bus_node(address, prefix, grace=0.1) as node:
        async with asyncio.timeout(PATIENCE):
            while isinstance(outcome := await node.publish("unknown"), PublishResult):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # there is no event for it
        assert refused(outcome) == ErrorCode.TOPIC_NOT_FOUND
