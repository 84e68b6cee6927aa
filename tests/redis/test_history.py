"""Topics with a history, over Redis."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from functools import partial
from sys import getrefcount

import orjson
import pytest
import redis

from hub.brokers.base import PublishResult, SubscribeResult
from hub.brokers.history import History
from hub.brokers.idempotency import FirstPublish
from hub.errors import ErrorCode, Refusal
from hub.redis.broker import Bus
from hub.values import Position, Rule
from tests.support.bus import BusNode, bus_node
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.redis import RedisServer, redis_server

RULES = {
    "": Rule(5, 60.0, 1_000_000),
    "long/": Rule(100, 60.0, 1_000_000),
    "off/": Rule(0, 1.0, 1),
}
QUICK = 0.1  # seconds between beats


def event(number: int) -> bytes:
    return b'{"n":%d}' % number


def refused(outcome: object) -> ErrorCode:
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


def place(outcome: PublishResult | Refusal) -> Position:
    assert isinstance(outcome, PublishResult), outcome
    assert outcome.position is not None
    return outcome.position


def heard_events(node: BusNode) -> list[tuple[int, int]]:
    """Return the number and the offset of each event that a node delivered."""
    heard = [orjson.loads(it) for what, _, it in node.heard if what == "event"]
    return [(it["n"], it["offset"]) for it in heard]


async def nodes(stack: AsyncExitStack, address: str, prefix: str, count: int = 2) -> list[BusNode]:
    return [
        await stack.enter_async_context(
            bus_node(address, prefix, rules=RULES, beat=QUICK, patience=10.0)
        )
        for _ in range(count)
    ]


def top(node: BusNode, topic: str = "t") -> Position:
    history = node.broker.history(topic)
    assert history is not None
    return history.position


async def test_all_nodes_deliver_the_same_order_with_offsets(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        both = await nodes(stack, address, prefix)
        for node in both:
            assert await node.subscribe("t") == SubscribeResult()
        places = [place(await both[n % 2].publish("t", event(n))) for n in range(20)]
        assert {it.epoch for it in places} == {top(both[0]).epoch}
        assert [it.offset for it in places] == list(range(1, 21))
        for node in both:
            await eventually(lambda node=node: len(node.heard) == 20)  # type: ignore[misc]
            assert heard_events(node) == [(n, n + 1) for n in range(20)]
            assert top(node) == places[-1]
        await both[0].subscribe("off/t")
        await both[0].publish("off/t", event(0))
        assert both[0].broker.history("off/t") is None


async def test_later_subscriber_reads_history_from_redis(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        await one.subscribe("t")
        for number in range(7):
            await one.publish("t", event(number))
        await two.subscribe("t")
        history = two.broker.history("t")
        assert history is not None
        assert history.position == top(one) == Position(history.epoch, 7)
        assert [orjson.loads(it)["n"] for it in history.page(None, 10, False)] == [2, 3, 4, 5, 6]
        assert two.heard == [] or heard_events(two) == []


async def test_events_missed_while_disconnected_are_repaired(address: str, prefix: str) -> None:
    with redis_server() as server, server.client() as client:
        async with AsyncExitStack() as stack:
            here = f"127.0.0.1:{server.port}"
            one, two = await nodes(stack, here, prefix)
            for node in (one, two):
                await node.subscribe("long/t")
            numbers = itertools.count()
            for _ in range(10):
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                for _ in range(4):
                    await one.publish("long/t", event(next(numbers)))
            for node in (one, two):
                await eventually(lambda node=node: len(heard_events(node)) == 40)  # type: ignore[misc]
                assert heard_events(node) == [(n, n + 1) for n in range(40)]
                assert not [it for it in node.heard if it[0] == "missed"]


async def test_idle_topic_is_repaired_and_lost_events_are_reported(
    address: str, prefix: str
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        for node in (one, two):
            await node.subscribe("t")
        for count, lost in ((3, 0), (12, 7)):
            before = top(two).offset
            two.heard.clear()
            two.supervisor._session.pushes.abort("cut by the test")
            for number in range(count):
                await one.publish("t", event(number))
            await eventually(lambda before=before, count=count: top(two).offset == before + count)  # type: ignore[misc]
            expected = [(n, before + n + 1) for n in range(lost, count)]
            if heard_events(two) != expected:  # it reconnected before all events were published
                assert heard_events(two)[-1] == expected[-1]
            offsets = [offset for _, offset in heard_events(two)]
            assert offsets == list(range(offsets[0], before + count + 1))
            told = [it for it in two.heard if it[0] == "missed"]
            assert len(told) == (1 if offsets[0] > before + 1 else 0)


async def test_flushall_begins_a_new_epoch_and_is_reported(prefix: str) -> None:
    with redis_server() as server, server.client() as client:
        async with bus_node(f"127.0.0.1:{server.port}", prefix, rules=RULES, beat=QUICK) as node:
            await node.subscribe("t")
            for number in range(3):
                await node.publish("t", event(number))
            before = top(node)
            await node.hear(3)
            client.flushall()
            now = place(await node.publish("t", event(3)))
            assert now == Position(now.epoch, 1)
            assert now.epoch != before.epoch
            await node.until(lambda: len(node.heard) == 2)
            assert node.heard[0] == ("missed", "t", b"")
            assert heard_events(node) == [(3, 1)]
            assert top(node) == now


async def test_topic_with_history_refuses_publish_without_redis() -> None:
    with redis_server() as server:
        async with bus_node(f"127.0.0.1:{server.port}", "p", rules=RULES, beat=QUICK) as node:
            await node.subscribe("t")
            await node.subscribe("off/t")
            first = place(await node.publish("t", event(0)))
            server.shut_down()
            await eventually(lambda: node.bus.bus is Bus.OUT)
            assert refused(await node.publish("t")) == ErrorCode.UNAVAILABLE
            assert refused(await node.subscribe("u")) == ErrorCode.UNAVAILABLE
            assert refused(await node.ask(node.broker.join, "t")) == ErrorCode.UNAVAILABLE
            assert await node.publish("off/t") == PublishResult(degraded=True)
            found = await node.broker.fetch_history("u", None)
            assert isinstance(found, Refusal)
            assert found.code == ErrorCode.UNAVAILABLE
            assert top(node) == first
            server.start()
            await eventually(lambda: node.bus.bus is Bus.UP)
            await eventually(lambda: top(node).epoch != first.epoch)
            assert ("missed", "t", b"") in node.heard
            assert place(await node.publish("t", event(1))).offset == 1


async def test_topic_lives_on_for_its_ttl(shared_redis: RedisServer, prefix: str) -> None:
    address = f"127.0.0.1:{shared_redis.port}"
    rules, now, lives = {"": Rule(5, 3_600.0, 10_000)}, 0.0, f"{prefix}:lives"
    async with (
        bus_node(address, prefix, rules=rules, beat=QUICK) as one,
        bus_node(address, prefix, rules=rules, beat=QUICK, clock=lambda: now) as two,
    ):
        await one.subscribe("t")
        first = place(await one.publish("t", event(0)))
        one.broker.unsubscribe("t")
        assert place(await two.publish("t", event(1))) == Position(first.epoch, 2)
        assert "t" in (await two.bus.cluster_stats()).topics
        found = await two.broker.fetch_history("t", None)
        assert isinstance(found, History)
        assert [orjson.loads(it)["n"] for it in found.page(None, 9, False)] == [0, 1]
        await two.subscribe("t")
        assert top(two) == Position(first.epoch, 2)
        with shared_redis.client() as client:

            async def put_off() -> None:
                hour = (client.time()[0] + 3_590) * 1_000
                await eventually(lambda: client.zscore(lives, "t") > hour)

            await put_off()
            client.zadd(lives, {"t": 1})  # expired, but a subscriber keeps it alive
            await eventually(lambda: client.zscore(lives, "t") > 1)
            now += 3_600
            two.broker.sweep()
            await put_off()
            assert place(await one.publish("t", event(2))) == Position(first.epoch, 3)
            client.zadd(lives, {"t": 1})
            two.broker.unsubscribe("t")
            await put_off()  # the last extension
            client.zadd(lives, {"t": 1})
            await eventually(lambda: not client.exists(f"{prefix}:history:t"))
            assert client.keys(f"{prefix}:events:*") == []
            assert client.zcard(lives) == 0
        assert refused(await one.publish("t")) == ErrorCode.TOPIC_NOT_FOUND
        missing = await one.broker.fetch_history("t", None)
        assert isinstance(missing, Refusal)
        assert missing.code == ErrorCode.TOPIC_NOT_FOUND
        await one.subscribe("t")
        assert top(one).epoch != first.epoch


async def test_repeated_key_returns_the_first_position(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        await one.subscribe("t")
        outcome = await one.publish_once("t", event(0), "k", FirstPublish("m1", 1))
        first = place(outcome)
        again = await two.publish_once("t", event(1), "k", FirstPublish("m2", 0))
        assert again == PublishResult(nodes=1, first=FirstPublish("m1", 1, first), position=first)
        assert place(await one.publish("t", event(2))).offset == 2
        await eventually(lambda: heard_events(one) == [(0, 1), (2, 2)])


async def test_deletion_ends_the_history(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        await one.subscribe("t")
        first = place(await one.publish("t", event(0)))
        assert await two.delete("t") is None
        await one.until(lambda: ("deleted", "t", b"") in one.heard)
        assert one.broker.history("t") is None
        await one.subscribe("t")
        assert top(one).offset == 0
        assert top(one).epoch != first.epoch


async def test_subscribes_are_answered_during_deletions(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        for turn in range(100):
            calls = [one.subscribe("t"), two.delete("t"), one.publish("t", event(turn))]
            outcomes = await asyncio.gather(*calls)
            assert outcomes[0] == SubscribeResult()
            if turn % 3 == 0:
                one.broker.unsubscribe("t")
        one.heard.clear()
        await one.subscribe("t")
        here = place(await one.publish("t", event(1_000)))
        await eventually(lambda: heard_events(one)[-1:] == [(1_000, here.offset)])
        assert top(one) == here


async def test_bytes_of_a_history_are_bounded(shared_redis: RedisServer, prefix: str) -> None:
    address = f"127.0.0.1:{shared_redis.port}"
    async with bus_node(address, prefix, rules={"": Rule(100, 60.0, 1_000)}) as node:
        await node.subscribe("t")
        for number in range(10):
            await node.publish("t", b'{"n":%d,"x":"%b"}' % (number, b"x" * 300))
        with redis.Redis("127.0.0.1", shared_redis.port) as client:
            kept = client.xrange(f"{prefix}:events:t")
            assert [json.loads(it[b"e"])["n"] for _, it in kept] == [7, 8, 9]
        await node.publish("t", b'{"x":"%b"}' % (b"x" * 1_000))  # larger than the limit
        with shared_redis.client() as client:
            assert client.xlen(f"{prefix}:events:t") == 0
        assert place(await node.publish("t", event(11))).offset == 12


@pytest.mark.parametrize("published_since", [0, 1, 5])
async def test_redis_that_lost_writes_begins_a_new_epoch(
    shared_redis: RedisServer, prefix: str, published_since: int
) -> None:
    """After a restart or a failover that lost writes, no offset is assigned twice."""
    async with AsyncExitStack() as stack:
        both = await nodes(stack, f"127.0.0.1:{shared_redis.port}", prefix)
        for node in both:
            await node.subscribe("t")
        for number in range(3):
            await both[0].publish("t", event(number))
        await eventually(lambda: top(both[0]) == top(both[1]))
        before = top(both[0])
        with shared_redis.client() as client:
            # Redis keeps two of the three events, and another node publishes more events, which
            # push out the newest event that this node knows.
            client.delete(f"{prefix}:events:t")
            client.hset(
                f"{prefix}:history:t", mapping={"top": 2 + published_since, "last": "another"}
            )
            for offset in range(3, 3 + published_since)[-4:]:
                entry = {"e": '{"n":9}', "t": 9**15, "b": 0, "p": "another"}
                client.xadd(f"{prefix}:events:t", entry, f"{offset}-0")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: all(top(node).epoch != before.epoch for node in both))
        await eventually(lambda: all(("missed", "t", b"") in node.heard for node in both))
        assert place(await both[0].publish("t", event(7))).offset == 1


async def test_idle_topic_is_compared_with_redis(shared_redis: RedisServer, prefix: str) -> None:
    rules = {"": Rule(5, 0.3, 10_000)}
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix, rules=rules) as node:
        await node.subscribe("t")
        before = top(node)
        with shared_redis.client() as client:
            client.delete(f"{prefix}:history:t")
        while not node.heard:
            node.broker.sweep()
            await asyncio.sleep(0.01)  # the broker uses the loop's clock
        assert node.heard == [("missed", "t", b"")]
        assert top(node) == Position(top(node).epoch, 0)
        assert top(node).epoch != before.epoch


async def test_missing_event_is_read_before_the_next(
    shared_redis: RedisServer, prefix: str
) -> None:
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix, rules=RULES) as node:
        await node.subscribe("t")
        await node.publish("t", event(0))
        with shared_redis.client() as client:
            client.hincrby(f"{prefix}:history:t", "top", 1)
            client.xadd(f"{prefix}:events:t", {"e": '{"n":1}', "t": 9**15}, "2-0")
        calls = [node.publish("t", event(number)) for number in (2, 3, 4)]
        await asyncio.gather(*calls)
        await node.until(lambda: len(node.heard) == 5)
        assert heard_events(node) == [(n, n + 1) for n in range(5)]


@pytest.mark.parametrize("bad", ['{"n":1\n}', '{"n":1}\r\rdata: {}', "text", b'{"n":"\xff"}'])
async def test_invalid_history_entry_is_a_gap(
    shared_redis: RedisServer, prefix: str, bad: str | bytes
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, f"127.0.0.1:{shared_redis.port}", prefix)
        await one.subscribe("t")
        await one.publish("t", event(0))
        with shared_redis.client() as client:
            client.hincrby(f"{prefix}:history:t", "top", 1)
            client.xadd(f"{prefix}:events:t", {"e": bad, "t": 9**15}, "2-0")
        await asyncio.gather(*(one.publish("t", event(number)) for number in (2, 3)))
        await one.until(lambda: len(one.heard) == 4)
        assert heard_events(one) == [(0, 1), (2, 3), (3, 4)]
        assert one.heard[1] == ("missed", "t", b"")
        asked = await two.broker.fetch_history("t", None)
        await two.subscribe("t")
        for history in (one.broker.history("t"), two.broker.history("t"), asked):
            assert isinstance(history, History)
            assert (history.first, history.top) == (3, 4)
            assert [orjson.loads(it)["n"] for it in history.page(None, 9, False)] == [2, 3]
        assert two.heard == []
        assert (
            (await one.bus.cluster_stats()).poisoned,
            (await two.bus.cluster_stats()).poisoned,
        ) == (1, 2)


async def test_history_entry_without_fields_is_not_read(
    shared_redis: RedisServer, prefix: str
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, f"127.0.0.1:{shared_redis.port}", prefix)
        await one.subscribe("t")
        await one.publish("t", event(0))
        with shared_redis.client() as client:
            for entry in ("1-1", "1-2"):
                client.xadd(f"{prefix}:events:t", {"e": '{"n":9}'}, entry)
        await one.publish("t", event(1))
        await two.subscribe("t")
        for node in (one, two):
            history = await node.broker.fetch_history("t", None)
            assert isinstance(history, History)
            assert (history.first, history.top) == (1, 2)
            assert [orjson.loads(it)["n"] for it in history.page(None, 9, False)] == [0, 1]
            assert ("missed", "t", b"") not in node.heard


async def test_history_that_cannot_be_appended_to_restarts(
    shared_redis: RedisServer, prefix: str
) -> None:
    """The connection to Redis stays, and so do the other topics."""
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix, rules=RULES) as node:
        for topic in ("newer", "string", "top", "off/t"):
            await node.subscribe(topic)
            await node.publish(topic, event(0))
        with shared_redis.client() as client:
            client.xadd(f"{prefix}:events:newer", {"x": "y"})
            client.delete(f"{prefix}:events:string")
            client.set(f"{prefix}:events:string", "x")
            client.hset(f"{prefix}:history:top", "top", "x")
        for topic in ("newer", "string", "top"):
            assert place(await node.publish(topic, event(1))).offset == 1
            assert place(await node.publish(topic, event(2))).offset == 2
        assert isinstance(await node.publish("off/t", event(1)), PublishResult)
        await node.until(lambda: len(heard_numbers(node, "off/t")) == 2)
        for topic in ("newer", "string", "top"):
            await node.until(lambda topic=topic: heard_numbers(node, topic)[-1] == 2)
            assert heard_numbers(node, topic) == [0, 1, 2]
            assert ("missed", topic, b"") in node.heard


def heard_numbers(node: BusNode, of: str) -> list[int]:
    return [
        orjson.loads(it)["n"] for what, topic, it in node.heard if (what, topic) == ("event", of)
    ]


async def test_invalid_epoch_is_replaced(shared_redis: RedisServer, prefix: str) -> None:
    """Epochs become part of the ids of Server-Sent Events."""
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, f"127.0.0.1:{shared_redis.port}", prefix)
        await one.subscribe("t")
        await one.publish("t", event(0))
        with shared_redis.client() as client:
            client.hset(f"{prefix}:history:t", "epoch", b"x\ndata: \xff")
        await two.subscribe("t")
        assert top(two) == Position(top(two).epoch, 0)
        assert top(two).epoch.isalnum()


async def test_node_without_the_rule_delivers_plain_events(address: str, prefix: str) -> None:
    async with (
        bus_node(address, prefix, rules=RULES) as one,
        bus_node(address, prefix) as two,
    ):
        for node in (one, two):
            await node.subscribe("t")
        await one.publish("t", event(0))
        await two.publish("t", event(1))
        assert await two.hear(2) == [("event", "t", event(0)), ("event", "t", event(1))]
        assert await one.hear(2) == [
            ("event", "t", b'{"n":0,"offset":1}'),
            ("event", "t", event(1)),
        ]


async def test_event_keeps_its_age_on_a_node_that_reads_it_later(
    shared_redis: RedisServer, prefix: str
) -> None:
    address, rules, now = f"127.0.0.1:{shared_redis.port}", {"": Rule(5, 3_600.0, 10_000)}, 0.0
    async with (
        bus_node(address, prefix, rules=rules) as one,
        bus_node(address, prefix, rules=rules, clock=lambda: now) as two,
    ):
        await one.subscribe("t")
        start = top(one)
        with shared_redis.client() as client:
            half_an_hour_ago = (client.time()[0] - 1_800) * 1_000
            client.hset(f"{prefix}:history:t", "top", 1)
            client.xadd(f"{prefix}:events:t", {"e": "{}", "t": half_an_hour_ago}, "1-0")
        await two.subscribe("t")
        for now, kept in ((0.0, True), (1_700.0, True), (1_801.0, False)):  # noqa: B007
            history = two.broker.history("t")
            assert history is not None
            assert (history.top, history.covers(start)) == (1, kept)


async def test_history_is_not_used_before_it_is_read(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        await one.subscribe("t")
        here = place(await one.publish("t", event(0)))
        opening = asyncio.create_task(two.subscribe("t"))
        while not opening.done():
            found = await two.broker.fetch_history("t", None)
            assert isinstance(found, History)
            assert found.position == here
            await asyncio.sleep(0)  # let `opening` continue


async def test_unsubscribe_extends_the_lifetime_by_the_whole_ttl(
    shared_redis: RedisServer, prefix: str
) -> None:
    address = f"127.0.0.1:{shared_redis.port}"
    async with bus_node(address, prefix, rules={"": Rule(5, 100.0, 10_000)}) as node:
        await node.subscribe("t")
        with shared_redis.client() as client:
            client.zadd(f"{prefix}:lives", {"t": 1})
            node.broker.unsubscribe("t")
            now = client.time()[0] * 1_000
            await eventually(lambda: client.zscore(f"{prefix}:lives", "t") >= now + 99_000)
            assert 100_000 < client.pttl(f"{prefix}:history:t") < 3_800_000
            client.zadd(f"{prefix}:lives", {"t": 1, "u": 1})
            assert (await node.bus.cluster_stats()).topics == {}


async def test_history_of_an_explicit_topic_does_not_expire(
    shared_redis: RedisServer, prefix: str
) -> None:
    address = f"127.0.0.1:{shared_redis.port}"
    async with bus_node(address, prefix, rules=RULES, beat=QUICK) as node:
        await node.create("t")
        first = place(await node.publish("t", event(0)))
        with shared_redis.client() as client:
            client.zadd(f"{prefix}:lives", {"t": 1})
            await eventually(lambda: client.ttl(f"{prefix}:history:t") == -1)
        assert place(await node.publish("t", event(1))) == Position(first.epoch, 2)


async def test_remembered_accepts_any_offset(address: str, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, address, prefix)
        await one.subscribe("t")
        here = place(await one.publish("t", event(0)))
        found = await two.broker.fetch_history("t", Position(here.epoch, 999_999_999_999_999))
        assert isinstance(found, History)
        assert found.position == here


async def test_sweep_drops_expired_events_without_reads(
    prefix: str,
) -> None:
    """With Redis, and during an outage."""
    with redis_server() as server:
        address = f"127.0.0.1:{server.port}"
        rules = {"": Rule(5, 0.3, 10_000)}
        async with bus_node(address, prefix, rules=rules, beat=QUICK) as node:
            await node.subscribe("t")
            for lost in (False, True):
                await node.publish("t", event(0))
                ((_, _, delivered),) = await node.hear(1)
                references = partial(getrefcount, delivered)
                kept = references()
                if lost:
                    server.shut_down()
                    await eventually(lambda: node.bus.bus is Bus.OUT)

                async with asyncio.timeout(PATIENCE):
                    while references() == kept:
                        await asyncio.sleep(0.02)  # the broker uses the loop's clock
                        node.broker.sweep()


async def test_cache_without_budget_is_repaired_and_reports_missing_events(
    address: str, prefix: str
) -> None:
    async with (
        bus_node(address, prefix, rules=RULES, beat=QUICK, total_bytes=1) as one,
        bus_node(address, prefix, rules=RULES, beat=QUICK) as two,
    ):
        for node in (one, two):
            await node.subscribe("long/t")
        numbers = itertools.count()
        for _ in range(5):
            one.supervisor._session.pushes.abort("cut by the test")
            for _ in range(4):
                here = place(await two.publish("long/t", event(next(numbers))))
        await eventually(lambda: top(one, "long/t") == here)
        assert heard_events(one) == [(n, n + 1) for n in range(20)]
        assert not [it for it in one.heard if it[0] == "missed"]
        for node, first in ((one, 20), (two, 0)):
            history = node.broker.history("long/t")
            assert history is not None
            known = [n for n in range(21) if history.covers(Position(here.epoch, n))]
            assert known == list(range(first, 21))


async def test_unsubscribe_drops_cached_events(address: str, prefix: str) -> None:
    async with bus_node(address, prefix, rules=RULES) as node:
        await node.subscribe("t")
        await node.publish("t", event(0))
        ((_, _, delivered),) = await node.hear(1)
        kept = getrefcount(delivered)
        node.broker.unsubscribe("t")
        assert getrefcount(delivered) == kept - 1
