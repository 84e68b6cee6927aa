"""Gaps are reported once, before the next event, regardless of the client's bounds."""

from collections.abc import Iterable
from typing import Any

from hub.delivery.gaps import PACE
from hub.settings import Settings
from tests.support.node import Node

GAP = {"reason": "GAP"}


def payloads(heard: Iterable[Any]) -> list[Any]:
    return [it["message"]["payload"] for it in heard if isinstance(it, dict) and "message" in it]


def test_a_gap_is_reported_once_before_the_next_event() -> None:
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


def test_a_gap_without_a_next_event_is_reported_by_the_sweep() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    assert client.hear() == []
    node.hub.gaps.sweep()
    assert payloads(client.hear()) == [GAP]
    node.hub.gaps.sweep()
    assert client.hear() == []


def test_a_sweep_reports_gaps_to_a_limited_number_of_clients() -> None:
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


def test_a_later_subscriber_gets_no_notice_of_an_earlier_gap() -> None:
    node = Node()
    old = node.subscribed("t")
    node.hub.missed("t")
    new = node.subscribed("t")
    node.publish("t", 1)
    assert payloads(old.hear()) == [GAP, 1]
    assert payloads(new.hear()) == [1]


def test_an_unsubscribing_client_gets_the_notice_before_the_ack() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    client.say({"type": "unsubscribe", "topic": "t", "client_id": "c"})
    heard = client.hear()
    assert payloads(heard) == [GAP]
    assert [it["type"] for it in heard] == ["info", "ack"]


def test_a_gap_is_reported_before_a_deletion() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.broker.delete("t", lambda outcome: None)
    assert payloads(client.hear()) == [GAP, "Topic has been deleted"]


def test_a_gap_is_reported_before_the_shutdown() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.drain.begin()
    told = payloads(client.hear())
    assert told[0] == GAP
    assert told[1].startswith("Server is shutting down")


def test_a_gap_in_a_removed_topic_is_not_reported() -> None:
    node = Node()
    client = node.subscribed("t")
    node.hub.missed("t")
    node.hub.leave(client.client)
    node.hub.gaps.sweep()
    assert client.hear() == []
    node.hub.missed("t")
    node.hub.missed("never")
    node.hub.gaps.sweep()


def test_a_notice_does_not_count_against_the_bounds() -> None:
    node = Node(Settings(max_queue_size=2))
    client = node.subscribed("t", room=0)
    for number in range(3):  # the transport holds the first; the others fill the send queue
        node.publish("t", number)
        node.tick()
    node.hub.missed("t")
    node.hub.gaps.sweep()
    assert client.client.open
    client.transport.drain()
    assert payloads(client.hear()) == [0, 1, 2, GAP]
    assert client.client.open


def test_a_queued_notice_has_the_place_of_the_gap() -> None:
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


def test_a_queued_notice_is_not_counted_and_never_dropped() -> None:
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


def test_a_gap_and_dropped_events_are_reported_in_their_places() -> None:
    node = Node(Settings(max_queue_size=2, backpressure="drop_oldest"))
    client = node.subscribed("t", room=0)
    for number in range(5):
        node.publish("t", number)
        node.tick()
    node.hub.missed("t")
    node.hub.gaps.sweep()
    client.transport.drain()
    assert payloads(client.hear()) == [0, {"reason": "GAP", "dropped": 2}, 3, 4, GAP]
