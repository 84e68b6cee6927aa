"""The registry of topics under deletions, FLUSHALL and concurrent commands."""

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hub.brokers.base import PublishResult, SubscribeResult
from hub.brokers.idempotency import FirstPublish
from hub.errors import ErrorCode, Refusal
from hub.logs import events
from hub.redis.broker import Bus
from tests.support.bus import HubNode, bus_node, hub_node, refused
from tests.support.eventually import eventually
from tests.support.logs import records
from tests.support.node import Peer
from tests.support.patience import PATIENCE
from tests.support.proxy import proxy
from tests.support.redis import RedisServer, redis_server, taken_and_cut

TOPIC = "t"


async def test_lease_after_a_flush_does_not_hide_it(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server, server.client() as client:
        address = f"127.0.0.1:{server.port}"
        async with bus_node(address, "p") as node, bus_node(address, "p") as other:
            await node.subscribe("held")
            node.broker.set_subscriber_count("held", 2)
            client.flushall()
            calls = [node.subscribe("new"), node.publish("held"), node.subscribe("newer")]
            for outcome in await asyncio.gather(*calls):
                assert not isinstance(outcome, Refusal)
            key = f"p:leases:{node.bus.node_id}"
            assert client.hgetall(key) == {"": "0", "held": "2", "new": "0", "newer": "0"}
            await eventually(lambda: client.exists(f"p:leases:{other.bus.node_id}"))
            for topic in ("held", "new", "newer"):
                assert await other.publish(topic) == PublishResult(nodes=1)
            outcome = await other.publish("unknown")
            assert isinstance(outcome, Refusal)
    assert len(records(caplog, events.LEASES_LOST)) == 2


async def test_changes_after_a_flush_look_at_channel_subscribers() -> None:
    with redis_server() as server, server.client() as client:
        address = f"127.0.0.1:{server.port}"
        rare = 5.0  # no beat during the test
        async with (
            bus_node(address, "p", beat=rare) as node,
            bus_node(address, "p", beat=rare) as other,
        ):
            await node.subscribe(TOPIC)
            await other.publish("warm-up")  # the beat after the join has been answered
            client.flushall()
            for asked in (other, node):
                assert refused(await asked.create(TOPIC)) == ErrorCode.TOPIC_EXISTS
            assert refused(await other.delete("unknown")) == ErrorCode.UNAVAILABLE
            assert await other.create("new") is None
            assert await other.delete(TOPIC) is None
            assert await node.hear(1) == [("deleted", TOPIC, b"")]


async def test_delete_during_the_grace_cannot_tell_unknown_topics(
    address: str, prefix: str
) -> None:
    async with bus_node(address, prefix, grace=60.0) as node:
        assert refused(await node.delete("unknown")) == ErrorCode.UNAVAILABLE
        assert await node.create("new") is None
        assert refused(await node.create("new")) == ErrorCode.TOPIC_EXISTS
        assert await node.delete("new") is None


async def test_late_commands_of_an_old_connection_are_discarded(
    shared_redis: RedisServer, prefix: str
) -> None:
    """Commands arrive late after a connection was stalled."""
    async with (
        proxy(shared_redis.port) as way,
        bus_node(f"127.0.0.1:{way.port}", prefix, beat=0.1) as node,
    ):
        await node.subscribe(TOPIC)
        way.hold()
        node.broker.unsubscribe(TOPIC)  # the proxy holds this command
        await eventually(lambda: node.bus.bus is not Bus.UP)
        await eventually(lambda: node.bus.bus is Bus.UP)
        assert await node.subscribe(TOPIC) == SubscribeResult()
        await way.release()
        with shared_redis.client() as client:
            assert client.hexists(f"{prefix}:leases:{node.bus.node_id}", TOPIC)


async def test_accepted_deletion_that_cannot_come_back_is_carried_out() -> None:
    with redis_server() as server, server.client() as client:
        async with bus_node(f"127.0.0.1:{server.port}", "p") as node:
            for _ in range(10):
                node.heard.clear()
                await node.subscribe(TOPIC)
                asked = [node.publish(TOPIC, b'{"n":1}'), node.delete(TOPIC)]
                outcomes = await taken_and_cut(server, client, *asked)
                assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
                assert node.heard == [("event", TOPIC, b'{"n":1}'), ("deleted", TOPIC, b"")]
                await eventually(lambda: node.bus.bus is Bus.UP)
                await eventually(lambda: client.pubsub_channels("p:topic:*") == [])
                assert ("missed", TOPIC, b"") not in node.heard


async def test_databases_are_separate(shared_redis: RedisServer, prefix: str) -> None:
    """Redis itself does not separate channels by database."""
    addresses = [f"redis://127.0.0.1:{shared_redis.port}/{db}" for db in (0, 1)]
    async with bus_node(addresses[0], prefix) as one, bus_node(addresses[1], prefix) as two:
        await one.subscribe(TOPIC)
        assert isinstance(await two.publish(TOPIC), Refusal)
        await two.subscribe(TOPIC)
        assert await one.publish(TOPIC, b'{"n":1}') == PublishResult(nodes=1)
        assert await two.publish(TOPIC, b'{"n":2}') == PublishResult(nodes=1)
        assert await one.hear(1) == [("event", TOPIC, b'{"n":1}')]
        assert await two.hear(1) == [("event", TOPIC, b'{"n":2}')]


class Churner:
    """A client that subscribes and unsubscribes, and waits for each answer."""

    def __init__(self, peer: Peer) -> None:
        self.heard: list[dict[str, Any]] = []
        self._peer = peer
        self._numbers = itertools.count()

    def listen(self) -> list[dict[str, Any]]:
        self.heard += self._peer.hear()
        return self.heard

    async def ask(self, kind: str) -> None:
        request_id = f"r{next(self._numbers)}"
        self._peer.say({"type": kind, "topic": TOPIC, "request_id": request_id})
        seen = len(self.heard)
        async with asyncio.timeout(PATIENCE):
            while not any(it.get("request_id") == request_id for it in self.listen()[seen:]):  # noqa: ASYNC110
                await asyncio.sleep(0.001)  # the test runs the ticks

    def payloads(self) -> list[Any]:
        return [it["message"]["payload"] for it in self.heard if it["type"] == "event"]


async def test_all_subscribes_are_answered_under_concurrent_deletions(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    """One topic that all nodes delete, while 24 clients on 3 nodes subscribe and unsubscribe."""
    turns = random.Random(4)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(hub_node(address, prefix)) for _ in range(3)]
        clients = [Churner(nodes[n % 3].connect("c")) for n in range(24)]
        numbers = itertools.count()

        async def come_and_go(client: Churner) -> None:
            for _ in range(60):
                await client.ask("subscribe")
                await asyncio.sleep(turns.random() * 0.01)  # so that the orders differ
                if turns.random() < 0.5:
                    await client.ask("unsubscribe")

        deletions = itertools.count()
        deleted: list[Any] = []

        async def delete(node: HubNode) -> None:
            while True:
                next(deletions)
                node.broker.delete(TOPIC, deleted.append)
                await asyncio.sleep(turns.random() * 0.005)

        async def publish(node: HubNode) -> None:
            while True:
                node.publish(TOPIC, next(numbers))
                await asyncio.sleep(0.001)

        others = [asyncio.create_task(do(node)) for do in (delete, publish) for node in nodes]
        await asyncio.gather(*map(come_and_go, clients))
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        asked = next(deletions)
        await eventually(lambda: len(deleted) == asked)
        await asyncio.gather(*(client.ask("subscribe") for client in clients))
        for node in nodes:
            await publish_through(node, "end")
        await eventually(lambda: all(c.payloads()[-3:] == ["end"] * 3 for c in heard_by(clients)))
        orders = [[it for it in client.payloads() if it != "end"] for client in clients]
        assert sum(map(len, orders)) > 100
        for one, other in itertools.combinations(orders, 2):
            both = set(one) & set(other)
            assert [it for it in one if it in both] == [it for it in other if it in both]
            assert len(set(one)) == len(one)
        with shared_redis.client() as client:
            assert client.pubsub_numsub(f"{prefix}:topic:{TOPIC}") == [
                (f"{prefix}:topic:{TOPIC}", 3)
            ]


def heard_by(clients: list[Churner]) -> list[Churner]:
    for client in clients:
        client.listen()
    return clients


async def publish_through(node: HubNode, payload: Any) -> None:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    node.hub.publish(TOPIC, None, payload, future.set_result)
    assert await asyncio.wait_for(future, 10) == PublishResult(nodes=3)


async def test_key_queued_twice_is_carried_out_once() -> None:
    with redis_server() as server:
        async with bus_node(f"127.0.0.1:{server.port}", "p", patience=0.5) as node:
            await node.subscribe(TOPIC)
            server.shut_down()
            await eventually(lambda: node.bus.bus is Bus.JOINING)
            first = FirstPublish("m1", 1)
            calls = [node.publish_once(TOPIC, b'{"n":%d}' % n, "k", first) for n in range(2)]
            one, two = await asyncio.gather(*calls)
            assert (one, two) == (PublishResult(degraded=True), PublishResult(first=first))
            assert node.heard == [("event", TOPIC, b'{"n":0}')]


async def test_expired_key_used_again_is_kept_as_new(
    shared_redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the oldest keys are deleted beyond LIMIT, by their newest use."""
    monkeypatch.setattr("hub.redis.scripts.LIMIT", 3)
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix) as node:
        await node.subscribe("t")

        async def is_new(key: str) -> bool:
            outcome = await node.publish_once("t", b"{}", key, FirstPublish("m", 1))
            return isinstance(outcome, PublishResult) and outcome.first is None

        with shared_redis.client() as client:
            assert await is_new("a")
            client.delete(*client.keys(f"{prefix}:once:*"))
            (entry,) = client.lrange(f"{prefix}:keys:{node.bus.node_id}", 0, -1)
            client.lset(f"{prefix}:keys:{node.bus.node_id}", 0, f"1 {entry.split()[1]}")
        assert [await is_new(key) for key in "abc"] == [True] * 3
        assert [await is_new(key) for key in "abc"] == [False] * 3
        assert await is_new("d")
        assert [await is_new(key) for key in "bcd"] == [False] * 3
        assert await is_new("a")  # the oldest was deleted


async def test_memory_of_a_key_does_not_grow_with_its_topic(
    shared_redis: RedisServer, prefix: str
) -> None:
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix) as node:
        longest = "t" * 65_535
        for topic in (f"{longest}1", f"{longest}2"):
            await node.subscribe(topic)
            for key in ("k" * 255, "k" * 254):
                first = FirstPublish("m" * 253, 1)
                assert await node.publish_once(topic, b"{}", key, first) == PublishResult(nodes=1)
                again = await node.publish_once(topic, b"{}", key, FirstPublish("other", 1))
                assert again == PublishResult(nodes=1, first=first)
        with shared_redis.client() as client:
            keys = client.keys(f"{prefix}:once:*")
            assert len(keys) == 4
            made = f"{prefix}:keys:{node.bus.node_id}"
            taken = sum(client.memory_usage(key, samples=0) for key in (*keys, made))
            assert taken < 4 * 700


async def test_similar_topics_and_keys_have_different_digests(
    shared_redis: RedisServer, prefix: str
) -> None:
    async with bus_node(f"127.0.0.1:{shared_redis.port}", prefix) as node:
        for topic, key in (("ab", "c"), ("a", "bc"), ("a:b", "c"), ("a", ":bc")):
            await node.subscribe(topic)
            outcome = await node.publish_once(topic, b"{}", key, FirstPublish("m", 1))
            assert outcome == PublishResult(nodes=1)
