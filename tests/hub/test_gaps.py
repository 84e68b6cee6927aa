"""What may have been lost is told: once, before the next event, whatever the client's bounds."""

from collections.abc import Iterable
from typing import Any

from hub.delivery.gaps import PACE
from hub.settings import Settings
from tests.support.node import Node

GAP = {"reason": "GAP"}


def payloads(heard: Iterable[Any]) -> list[Any]:
    return [it["message"]["payload"] for it in heard if isinstance(it, dict) and "message" in it]


def test_a_gap_is_told_once_before_the_next_event() -> None:
    node = Node()
    client = node.subscribed("t", "quiet")
    node.publish("t", 1)
    node.hub.missed("t")
    node.publish("t", 2)
    node.publish("t", 3)
    heard = client.hear()
    assert payloads(heard) == [1, GAP, 2, 3]
    told = heard[1]
    assert list(told) == ["type", "topic", "message", "reason", "ts"]
    assert told["reason"] == "GAP"
    assert (told["type"], told["topic"]) == ("info", "t")
    assert told["message"]["id"].startswith("info_")


def test_a_silent_topic_is_told_by_the_sweeper() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    assert client.hear() == []
    node.hub.gaps.sweep()
    assert payloads(client.hear()) == [GAP]
    node.hub.gaps.sweep()
    assert client.hear() == []


def test_the_sweeper_has_a_pace() -> None:
    node = Node()
    topics = [f"t{number}" for number in range(PACE)]
    client = node.subscribed(*topics)
    for topic in topics:
        node.hub.missed(topic)
    node.hub.gaps.sweep()
    first = len(client.hear())
    assert first == PACE // 2  # one for the topic, one for its client
    node.hub.gaps.sweep()
    assert first + len(client.hear()) == PACE


def test_who_joins_after_a_gap_is_not_told_of_it() -> None:
    node = Node()
    old = node.subscribed("t")
    node.hub.missed("t")
    new = node.subscribed("t")
    node.publish("t", 1)
    assert payloads(old.hear()) == [GAP, 1]
    assert payloads(new.hear()) == [1]


def test_who_leaves_is_told_before_the_answer() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    client.say({"type": "unsubscribe", "topic": "t", "client_id": "c"})
    heard = client.hear()
    assert payloads(heard) == [GAP]
    assert [it["type"] for it in heard] == ["info", "ack"]


def test_a_deletion_comes_behind_the_gap() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.broker.delete("t", lambda outcome: None)
    assert payloads(client.hear()) == [GAP, "Topic has been deleted"]


def test_who_is_dismissed_is_told_first() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.drain.begin()
    told = payloads(client.hear())
    assert told[0] == GAP
    assert told[1].startswith("Server is shutting down")


def test_nobody_is_told_of_a_topic_that_is_gone() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.hub.leave(client.client)
    node.hub.gaps.sweep()
    assert client.hear() == []
    node.hub.missed("t")
    node.hub.missed("never")
    node.hub.gaps.sweep()


def test_a_congested_client_is_told_outside_its_bounds() -> None:
    node = Node(Settings(max_queue_size=2))
    client = node.subscribed("t", room=0)
    for number in range(3):  # the transport holds the first, the outbox is full with the others
        node.publish("t", number)
        node.tick()
    node.hub.missed("t")
    node.hub.gaps.sweep()
    assert client.client.open
    client.transport.drain()
    assert payloads(client.hear()) == [0, 1, 2, GAP]
    assert client.client.open


def test_a_congested_client_is_told_in_the_place_of_the_gap() -> None:
    node = Node()
    client = node.subscribed("t", "u", room=0)
    for turn in range(3):
        for topic in ("t", "u"):
            node.publish(topic, turn)
            node.tick()
        if turn < 2:
            node.hub.missed("t")
    client.transport.drain()
    heard = client.hear()
    assert payloads(it for it in heard if it["topic"] == "t") == [0, GAP, 1, GAP, 2]
    assert payloads(it for it in heard if it["topic"] == "u") == [0, 1, 2]


def test_a_gap_that_waits_counts_for_nothing_and_is_never_dropped() -> None:
    node = Node(Settings(max_queue_size=1, backpressure="drop_oldest"))
    client = node.subscribed("t", room=0)
    node.publish("t", 0)
    node.tick()
    for _ in range(20):
        node.hub.missed("t")
        node.hub.gaps.sweep()
    node.publish("t", 1)
    node.publish("t", 2)
    node.tick()
    client.transport.drain()
    assert payloads(client.hear()) == [0, *[GAP] * 20, {"reason": "GAP", "dropped": 1}, 2]


def test_a_gap_and_dropped_events_are_told_in_their_places() -> None:
    node = Node(Settings(max_queue_size=2, backpressure="drop_oldest"))
    client = node.subscribed("t", room=0)
    for number in range(5):
        node.publish("t", number)
        node.tick()
    node.hub.missed("t")
    node.hub.gaps.sweep()
    client.transport.drain()
    assert payloads(client.hear()) == [0, {"reason": "GAP", "dropped": 2}, 3, 4, GAP]
