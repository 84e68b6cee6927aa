"""The broker of a single server, and the contract of every broker."""

from sys import getrefcount
from typing import Any

import pytest

from hub.brokers.base import Broker
from hub.brokers.memory import MemoryBroker
from hub.errors import ErrorCode, Refusal
from hub.values import Rule


class RecordingNode:
    """Records the calls of a broker. Events are the same objects as in the history."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def deliver(self, topic: str, event: bytes) -> None:
        self.heard.append((topic, event))

    def deleted(self, topic: str) -> None:
        self.heard.append(topic)


@pytest.fixture
def node() -> RecordingNode:
    return RecordingNode()


@pytest.fixture
def broker(node: RecordingNode) -> Broker:
    broker = MemoryBroker()
    broker.serve(node)
    return broker


def outcome(call: Any, *arguments: Any) -> Any:
    """Return "accepted" or the code of the refusal; `done` must be called exactly once."""
    outcomes: list[Any] = []
    call(*arguments, outcomes.append)
    (only,) = outcomes
    return only.code if isinstance(only, Refusal) else "accepted"


def test_an_automatic_topic_exists_while_the_node_is_subscribed(
    broker: Broker, node: RecordingNode
) -> None:
    assert outcome(broker.publish, "t", b"0") is ErrorCode.TOPIC_NOT_FOUND
    assert outcome(broker.subscribe, "t") == "accepted"
    assert outcome(broker.publish, "t", b"1") == "accepted"
    broker.unsubscribe("t")
    assert outcome(broker.publish, "t", b"2") is ErrorCode.TOPIC_NOT_FOUND
    assert node.heard == [("t", b"1")]


def test_a_publish_completes_after_its_event_is_delivered(
    broker: Broker, node: RecordingNode
) -> None:
    outcome(broker.subscribe, "t")
    seen: list[int] = []
    broker.publish("t", b"1", lambda _: seen.append(len(node.heard)))
    assert seen == [1]


def test_an_explicit_topic_exists_until_it_is_deleted(broker: Broker, node: RecordingNode) -> None:
    assert outcome(broker.create, "t") == "accepted"
    assert outcome(broker.create, "t") is ErrorCode.TOPIC_EXISTS
    assert list(broker.topics()) == ["t"]
    assert outcome(broker.publish, "t", b"0") == "accepted"  # it has no subscriber
    outcome(broker.subscribe, "t")
    broker.unsubscribe("t")
    assert outcome(broker.delete, "t") == "accepted"
    assert outcome(broker.delete, "t") is ErrorCode.TOPIC_NOT_FOUND
    assert list(broker.topics()) == []
    assert node.heard == ["t"]


def test_an_automatic_topic_can_be_deleted_and_not_created(
    broker: Broker, node: RecordingNode
) -> None:
    outcome(broker.subscribe, "t")
    assert outcome(broker.create, "t") is ErrorCode.TOPIC_EXISTS
    assert outcome(broker.delete, "t") == "accepted"
    assert outcome(broker.publish, "t", b"0") is ErrorCode.TOPIC_NOT_FOUND
    assert outcome(broker.subscribe, "t") == "accepted"
    assert outcome(broker.publish, "t", b"1") == "accepted"
    assert node.heard == ["t", ("t", b"1")]


def test_a_topic_that_is_left_often_ends_one_ttl_after_the_last_time() -> None:
    now = 0.0
    broker = MemoryBroker(lambda: now, {"": Rule(5, 10.0, 1_000)}, lambda: "e")
    broker.serve(RecordingNode())
    for now in (0.0, 1.0, 2.0, 9.0):  # noqa: B007
        outcome(broker.subscribe, "t")
        broker.unsubscribe("t")
    now = 18.9
    assert list(broker.topics()) == ["t"]
    now = 19.0
    assert list(broker.topics()) == []
    outcome(broker.subscribe, "t")
    broker.unsubscribe("t")
    assert list(broker.topics()) == ["t"]
    now = 29.0
    assert list(broker.topics()) == []


def with_history(node: RecordingNode, now: list[float]) -> MemoryBroker:
    broker = MemoryBroker(lambda: now[0], {"": Rule(5, 10.0, 1_000)}, lambda: "e")
    broker.serve(node)
    return broker


def test_a_sweep_drops_expired_events_that_are_never_read(
    node: RecordingNode,
) -> None:
    now = [0.0]
    broker = with_history(node, now)
    outcome(broker.subscribe, "t")
    broker.publish("t", b"{}", lambda _: None)
    event = node.heard.pop()[1]
    kept = getrefcount(event)
    now[0] = 9.9
    broker.sweep()
    assert getrefcount(event) == kept
    now[0] = 10.0
    broker.sweep()
    assert getrefcount(event) == kept - 1


@pytest.mark.parametrize("how", ["deleted", "left"])
def test_a_topic_that_ends_frees_its_events(node: RecordingNode, how: str) -> None:
    now = [0.0]
    broker = with_history(node, now)
    outcome(broker.subscribe, "t")
    broker.publish("t", b"{}", lambda _: None)
    event = node.heard.pop()[1]
    kept = getrefcount(event)
    if how == "deleted":
        outcome(broker.delete, "t")
    else:
        broker.unsubscribe("t")
        now[0] = 10.0
        assert broker.history("t") is None
    assert getrefcount(event) == kept - 1


def test_an_expired_topic_does_not_exist_although_it_is_not_swept(
    node: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.brokers.memory.ENDED", 1)
    now = [0.0]
    broker = with_history(node, now)
    for topic in "abcde":
        outcome(broker.subscribe, topic)
        broker.publish(topic, b"{}", lambda _: None)
        broker.unsubscribe(topic)
    now[0] = 10.0
    assert outcome(broker.publish, "a", b"{}") is ErrorCode.TOPIC_NOT_FOUND
    assert outcome(broker.delete, "b") is ErrorCode.TOPIC_NOT_FOUND
    assert broker.history("c") is None
    assert outcome(broker.create, "d") == "accepted"
    assert outcome(broker.subscribe, "e") == "accepted"
    for topic in "de":
        history = broker.history(topic)
        assert history is not None
        assert history.top == 0
    for _ in range(6):
        broker.sweep()
    assert list(broker.topics()) == ["d"]
    assert [topic for topic in "abcde" if broker.history(topic)] == ["d", "e"]


def test_one_sweep_removes_some_of_the_expired_topics(
    node: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.brokers.memory.ENDED", 2)
    now = [0.0]
    broker = with_history(node, now)
    woken: list[str] = []
    for topic in "abcde":
        outcome(broker.subscribe, topic)
        history = broker.history(topic)
        assert history is not None
        history.waiters[lambda topic=topic: woken.append(topic)] = None  # type: ignore[misc]
        broker.unsubscribe(topic)
    now[0] = 10.0
    ended = []
    for _ in range(4):
        broker.sweep()
        ended.append(len(woken))
    assert ended == [2, 4, 5, 5]
