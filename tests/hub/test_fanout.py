"""The fan-out: one write for each client and tick."""

import pytest

from hub.delivery.client import Client
from hub.observer import Observer
from tests.support.node import Node


def test_the_events_of_a_tick_are_one_write() -> None:
    node = Node()
    peers = [node.subscribed("t") for _ in range(3)]
    before = [peer.transport.writes for peer in peers]
    for number in range(16):
        node.publish("t", number)
    node.tick()
    assert [peer.transport.writes - count for peer, count in zip(peers, before, strict=True)] == [
        1,
        1,
        1,
    ]
    for peer in peers:
        assert [message["message"]["payload"] for message in peer.hear()] == list(range(16))


def test_a_client_in_several_topics_and_with_answers_gets_one_write() -> None:
    node = Node()
    peer = node.subscribed("a", "b")
    before = peer.transport.writes
    peer.say({"type": "ping"})
    node.publish("a", 1)
    node.publish("b", 2)
    peer.say({"type": "publish", "topic": "a", "payload": 3})
    node.tick()
    assert peer.transport.writes - before == 1
    assert [message["type"] for message in peer.hear()] == [
        "pong",
        "ack",
        "event",
        "event",
        "event",
    ]


def test_a_client_in_several_topics_gets_one_write() -> None:
    node = Node()
    peer = node.subscribed("a", "b")
    before = peer.transport.writes
    node.publish("a", 1)
    node.publish("b", 2)
    node.tick()
    assert peer.transport.writes - before == 1
    assert [message["message"]["payload"] for message in peer.hear()] == [1, 2]


def test_an_event_precedes_the_ack_of_a_later_unsubscribe_in_the_tick() -> None:
    node = Node()
    peer, other = node.subscribed("t"), node.subscribed("t")
    node.publish("t", 1)
    peer.say({"type": "unsubscribe", "topic": "t"})
    node.publish("t", 2)
    assert [message["type"] for message in peer.hear()] == ["event", "ack"]
    assert [message["message"]["payload"] for message in other.hear()] == [1, 2]
    assert peer.client.topics == []


@pytest.mark.parametrize("topics", [["t"], ["t", "u"]])
def test_a_transport_closed_without_notice_affects_only_its_own_client(topics: list[str]) -> None:
    def closed(data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    node = Node()
    peers = [node.subscribed("t", "u") for _ in range(3)]
    peers[1].transport.write = closed  # type: ignore[method-assign]
    for topic in topics:
        node.publish(topic, topic)
    for peer in (peers[0], peers[2]):
        assert [message["message"]["payload"] for message in peer.hear()] == topics
    assert node.topics() == {"t": 2, "u": 2}
    assert len(node.hub.clients) == 2


def test_an_event_is_encoded_once_for_all_subscribers() -> None:
    """Every subscriber's transport gets the same bytes object."""
    node = Node()
    given: list[bytes] = []
    for _ in range(3):
        peer = node.subscribed("t")
        peer.transport.write = given.append  # type: ignore[method-assign]
    node.publish("t", "x")
    node.tick()
    assert len(given) == 3
    assert given[0] is given[1] is given[2]


def test_a_new_subscriber_gets_no_earlier_event_of_the_tick() -> None:
    node = Node()
    old = node.subscribed("t")
    new = node.connect("new")
    node.publish("t", 1)
    new.say({"type": "subscribe", "topic": "t"})
    node.publish("t", 2)
    assert [message["message"]["payload"] for message in old.hear()] == [1, 2]
    assert [message.get("message", {}).get("payload") for message in new.hear()] == [None, 2]


def test_a_client_lost_within_the_tick_does_not_affect_others() -> None:
    node = Node()
    lost, other = node.subscribed("t", "u"), node.subscribed("t", "u")
    node.publish("t", 1)
    node.publish("u", 2)
    lost.say({"type": "ping"})
    node.hub.leave(lost.client)
    node.hub.leave(lost.client)  # leaving is idempotent
    writes = lost.transport.writes
    assert [message["message"]["payload"] for message in other.hear()] == [1, 2]
    assert lost.transport.writes == writes


def test_a_topic_whose_last_subscriber_left_within_the_tick() -> None:
    node = Node()
    lost = node.subscribed("t")
    node.publish("t", 1)
    node.hub.leave(lost.client)
    node.tick()
    assert node.topics() == {}


def test_a_fault_of_an_observer_leaves_no_client_with_a_closed_descriptor() -> None:
    class Faulty(Observer):
        def left(self, client: Client, reason: str, seconds: float) -> None:
            raise ZeroDivisionError

    node = Node(observer=Faulty())
    peer = node.subscribed("t")
    before = peer.transport.writes
    with pytest.raises(ZeroDivisionError):
        node.hub.leave(peer.client)
    node.publish("t", 1)
    node.tick()
    assert peer.transport.writes == before
