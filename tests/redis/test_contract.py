"""The contract of `Broker`, tested with the in-memory broker and with the one over Redis."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hub.brokers.base import PublishResult, SubscribeResult
from hub.brokers.idempotency import FirstPublish
from hub.brokers.memory import MemoryBroker
from hub.errors import ErrorCode
from tests.support.bus import RecordingNode, bus_node, refused


@pytest_asyncio.fixture(params=["local", "redis"])
async def node(
    request: pytest.FixtureRequest, address: str, prefix: str
) -> AsyncIterator[RecordingNode]:
    if request.param == "local":
        yield RecordingNode(MemoryBroker())
    else:
        async with bus_node(address, prefix) as over_redis:
            await over_redis.publish("warm-up")  # the grace ends in the next turn of the loop
            yield over_redis


async def test_topic_exists_while_the_node_is_subscribed(node: RecordingNode) -> None:
    assert refused(await node.publish("t")) == ErrorCode.TOPIC_NOT_FOUND
    assert isinstance(await node.subscribe("t"), SubscribeResult)
    assert isinstance(await node.publish("t", b'{"n":1}'), PublishResult)
    assert await node.hear(1) == [("event", "t", b'{"n":1}')]
    node.broker.unsubscribe("t")
    assert refused(await node.publish("t")) == ErrorCode.TOPIC_NOT_FOUND
    assert node.heard == []


async def test_publishes_are_delivered_and_complete_in_order(node: RecordingNode) -> None:
    await node.subscribe("a")
    await node.subscribe("b")
    completed: list[int] = []
    for number in range(200):
        topic = "ab"[number % 2]
        event = b'{"n":%d}' % number
        node.broker.publish(topic, event, lambda _, number=number: completed.append(number))  # type: ignore[misc]
    await node.publish("a", b'{"last":1}')
    assert completed == list(range(200))
    heard = await node.hear(201)
    assert [event for _, _, event in heard[:200]] == [b'{"n":%d}' % n for n in range(200)]


async def test_explicit_topic_stays_until_deleted(node: RecordingNode) -> None:
    assert await node.create("t") is None
    assert refused(await node.create("t")) == ErrorCode.TOPIC_EXISTS
    assert isinstance(await node.publish("t"), PublishResult)
    await node.subscribe("t")
    node.broker.unsubscribe("t")
    assert isinstance(await node.publish("t"), PublishResult)
    assert await node.delete("t") is None
    assert refused(await node.publish("t")) == ErrorCode.TOPIC_NOT_FOUND
    assert refused(await node.delete("t")) == ErrorCode.TOPIC_NOT_FOUND


async def test_automatic_topic_cannot_be_created(node: RecordingNode) -> None:
    await node.subscribe("t")
    assert refused(await node.create("t")) == ErrorCode.TOPIC_EXISTS


async def test_deletion_is_delivered_in_order(node: RecordingNode) -> None:
    await node.subscribe("t")
    await node.publish("t", b'{"n":1}')
    assert await node.delete("t") is None
    assert await node.hear(2) == [("event", "t", b'{"n":1}'), ("deleted", "t", b"")]
    assert refused(await node.publish("t")) == ErrorCode.TOPIC_NOT_FOUND
    assert isinstance(await node.subscribe("t"), SubscribeResult)
    await node.publish("t", b'{"n":2}')
    assert await node.hear(1) == [("event", "t", b'{"n":2}')]


async def test_unsubscribe_and_subscribe_within_a_tick(node: RecordingNode) -> None:
    await node.subscribe("t")
    node.broker.unsubscribe("t")
    assert isinstance(await node.subscribe("t"), SubscribeResult)
    await node.publish("t", b'{"n":1}')
    assert await node.hear(1) == [("event", "t", b'{"n":1}')]


@pytest.mark.parametrize("topic", ["a b", "ü/✓", "x" * 255, "a:b", "{t}", "\x00\r\n", "%s"])
async def test_topic_may_have_any_name(node: RecordingNode, topic: str) -> None:
    await node.subscribe(topic)
    await node.publish(topic, b'{"n":1}')
    assert await node.hear(1) == [("event", topic, b'{"n":1}')]


async def test_publishes_with_the_same_key_are_carried_out_once(node: RecordingNode) -> None:
    first = FirstPublish("m1", 5)
    assert refused(await node.publish_once("t", b"{}", "k", first)) == ErrorCode.TOPIC_NOT_FOUND
    await node.subscribe("t")
    outcome = await node.publish_once("t", b'{"n":1}', "k", first)
    assert isinstance(outcome, PublishResult)
    assert outcome.first is None
    again = await node.publish_once("t", b'{"n":2}', "k", FirstPublish({"any": "json"}, 0))
    assert again == outcome._replace(first=first)
    other = await node.publish_once("t", b'{"n":3}', "K", FirstPublish(None, 0))
    assert isinstance(other, PublishResult)
    assert other.first is None
    assert [event for _, _, event in await node.hear(2)] == [b'{"n":1}', b'{"n":3}']
