"""The contract of the seam, which every broker must keep."""

from sys import getrefcount
from typing import Any

import pytest

from hub.brokers.base import Broker
from hub.brokers.memory import LocalBroker
from hub.errors import ErrorCode, Refusal
from hub.values import Rule


class RecordingNode:
    """What it hears are the very bytes that a history keeps."""

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
    broker = LocalBroker()
    broker.serve(node)
    return broker


def outcome(call: Any, *arguments: Any) -> Any:
    """What a call came to: "accepted" or the code of its refusal; it is told exactly once."""
    outcomes: list[Any] = []
    call(*arguments, outcomes.append)
    (only,) = outcomes
    return only.code if isinstance(only, Refusal) else "accepted"


def test_a_topic_exists_while_the_node_is_subscribed(broker: Broker, node: RecordingNode) -> None:
    assert outcome(broker.publish, "t", b"0") is ErrorCode.TOPIC_NOT_FOUND
    assert outcome(broker.subscribe, "t") == "accepted"
    assert outcome(broker.publish, "t", b"1") == "accepted"
    broker.unsubscribe("t")
    assert outcome(broker.publish, "t", b"2") is ErrorCode.TOPIC_NOT_FOUND
    assert node.heard == [("t", b"1")]


def test_a_publish_completes_after_the_node_has_the_event(
    broker: Broker, node: RecordingNode
) -> None:
    outcome(broker.subscribe, "t")
    seen: list[int] = []
    broker.publish("t", b"1", lambda _: seen.append(len(node.heard)))
    assert seen == [1]


def test_a_created_topic_exists_until_it_is_deleted(broker: Broker, node: RecordingNode) -> None:
    assert outcome(broker.create, "t") == "accepted"
    assert outcome(broker.create, "t") is ErrorCode.TOPIC_EXISTS
    assert list(broker.topics()) == ["t"]
    assert outcome(broker.publish, "t", b"0") == "accepted"  # nobody listens
    outcome(broker.subscribe, "t")
    broker.unsubscribe("t")
    assert outcome(broker.delete, "t") == "accepted"
    assert outcome(broker.delete, "t") is ErrorCode.TOPIC_NOT_FOUND
    assert list(broker.topics()) == []
    assert node.heard == ["t"]


def test_an_automatic_topic_cannot_be_created_but_deleted(
    broker: Broker, node: RecordingNode
) -> None:
    outcome(broker.subscribe, "t")
    assert outcome(broker.create, "t") is ErrorCode.TOPIC_EXISTS
    assert outcome(broker.delete, "t") == "accepted"
    assert outcome(broker.publish, "t", b"0") is ErrorCode.TOPIC_NOT_FOUND
    assert outcome(broker.subscribe, "t") == "accepted"
    assert outcome(broker.publish, "t", b"1") == "accepted"
    assert node.heard == ["t", ("t", b"1")]


def test_a_topic_that_is_left_again_and_again_ends_once_and_in_its_time() -> None:
    now = 0.0
    broker = LocalBroker(lambda: now, {"": Rule(5, 10.0, 1_000)}, lambda: "e")
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


def remembering(node: RecordingNode, now: list[float]) -> LocalBroker:
    broker = LocalBroker(lambda: now[0], {"": Rule(5, 10.0, 1_000)}, lambda: "e")
    broker.serve(node)
    return broker


def test_a_sweep_lets_go_of_events_that_are_too_old_though_nobody_reads(
    node: RecordingNode,
) -> None:
    now = [0.0]
    broker = remembering(node, now)
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
def test_the_events_of_a_topic_that_ends_go_with_it(node: RecordingNode, how: str) -> None:
    now = [0.0]
    broker = remembering(node, now)
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


def test_a_topic_whose_time_is_over_is_no_more_before_it_is_swept(
    node: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.brokers.memory.ENDED", 1)
    now = [0.0]
    broker = remembering(node, now)
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


def test_a_sweep_ends_only_some_of_the_topics_whose_time_is_over(
    node: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.brokers.memory.ENDED", 2)
    now = [0.0]
    broker = remembering(node, now)
    woken: list[str] = []
    for topic in "abcde":
        outcome(broker.subscribe, topic)
        history = broker.history(topic)
        assert history is not None
        history.waiting[lambda topic=topic: woken.append(topic)] = None  # type: ignore[misc]
        broker.unsubscribe(topic)
    now[0] = 10.0
    ended = []
    for _ in range(4):
        broker.sweep()
        ended.append(len(woken))
    assert ended == [2, 4, 5, 5]
