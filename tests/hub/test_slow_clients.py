"""Slow clients, on a node whose 'kernel' takes as many bytes as the test sets."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.settings import Settings
from tests.support.node import Node, Peer, StreamPeer

FAREWELL = "Server is shutting down. Please disconnect gracefully."
SLOW = ["SLOW_CONSUMER", ("close", 1013, "slow_consumer")]


def brief(heard: list[Any]) -> list[Any]:
    """Return events and infos as payloads, errors as codes, and other answers as types."""
    return [message if isinstance(message, tuple) else _brief(message) for message in heard]


def _brief(message: dict[str, Any]) -> Any:
    if message["type"] == "error":
        return message["error"]["code"]
    return message["message"]["payload"] if "message" in message else message["type"]


def gap(dropped: int) -> dict[str, Any]:
    return {"reason": "GAP", "dropped": dropped}


def publish(node: Node, topic: str, *payloads: Any) -> None:
    """Publish one event in each tick."""
    for payload in payloads:
        node.publish(topic, payload)
        node.tick()


def read_all(peer: Peer) -> list[Any]:
    peer.transport.drain()
    return brief(peer.hear())


def test_a_congested_client_catches_up_in_order() -> None:
    node = Node()
    slow, healthy = node.subscribed("t", room=100), node.subscribed("t")
    publish(node, "t", *range(10))
    slow.say({"type": "ping"})
    publish(node, "t", *range(10, 20))
    assert brief(healthy.hear()) == list(range(20))
    assert brief(slow.hear()) == []
    slow.transport.drain(room=1_000)
    assert brief(slow.hear()) == list(range(9))
    assert read_all(slow) == [9, "pong", *range(10, 20)]
    publish(node, "t", "flows again")
    assert brief(slow.hear()) == ["flows again"]


def test_one_event_beyond_the_limit_disconnects() -> None:
    node = Node(Settings(max_queue_size=4))
    slow, healthy = node.subscribed("t", room=10), node.subscribed("t")
    publish(node, "t", 0, 1, 2, 3, 4)  # the transport holds 0, four are queued
    assert slow.client.open
    publish(node, "t", 5)
    assert not slow.client.open
    publish(node, "t", 6)
    assert brief(healthy.hear()) == [0, 1, 2, 3, 4, 5, 6]
    assert read_all(slow) == [0, *SLOW]
    assert node.topics() == {"t": 1}


def test_a_joined_batch_counts_every_event() -> None:
    node = Node(Settings(max_queue_size=4))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0)
    for number in range(1, 6):
        node.publish("t", number)
    node.tick()
    assert read_all(slow) == [0, *SLOW]


def test_queued_bytes_and_those_of_the_transport_count() -> None:
    node = Node(Settings(max_queue_bytes=2_048))
    slow = node.subscribed("t", room=10)
    publish(node, "t", "x" * 1_200)
    publish(node, "t", "y" * 500)
    assert slow.client.open
    publish(node, "t", "z" * 500)
    assert read_all(slow) == ["x" * 1_200, *SLOW]


def test_a_write_to_a_flowing_client_is_never_an_overflow() -> None:
    node = Node(Settings(max_queue_size=4, max_queue_bytes=2_048))
    client = node.subscribed("t", room=10)
    for number in range(50):
        node.publish("t", number)
    node.tick()
    assert client.client.open
    assert read_all(client) == list(range(50))


def test_queued_answers_count() -> None:
    node = Node(Settings(max_queue_size=4))
    client = node.subscribed("t", room=10)
    publish(node, "t", 0)
    for _ in range(5):
        client.say({"type": "ping"})
    client.say({"type": "ping"})  # it is ignored
    assert read_all(client) == [0, *SLOW]


def test_drop_oldest_drops_events_and_reports_them_before_the_next() -> None:
    node = Node(Settings(max_queue_size=3, backpressure="drop_oldest"))
    slow, healthy = node.subscribed("t", room=10), node.subscribed("t")
    publish(node, "t", *range(10))
    assert brief(healthy.hear()) == list(range(10))
    assert read_all(slow) == [0, gap(6), 7, 8, 9]
    publish(node, "t", 10)
    assert brief(slow.hear()) == [10]


def test_dropped_events_are_reported_once_for_each_topic() -> None:
    node = Node(Settings(max_queue_size=2, backpressure="drop_oldest"))
    slow = node.subscribed("a", "b", room=10)
    publish(node, "a", "a0", "a1", "a2")
    publish(node, "b", "b0", "b1")
    slow.transport.drain()
    heard = slow.hear()
    assert brief(heard) == ["a0", "b0", "b1", gap(2)]
    assert heard[3]["topic"] == "a"
    publish(node, "a", "a3")
    assert brief(slow.hear()) == ["a3"]


def test_dropped_events_of_many_topics_are_reported_in_parts() -> None:
    settings = Settings(max_queue_size=2, backpressure="drop_oldest", max_subscriptions=2_000)
    node = Node(settings)
    topics = [f"t{number}" for number in range(2_000)]
    slow = node.subscribed(*topics, room=10)
    for topic in topics:
        publish(node, topic, 0)
    slow.transport.drain(room=1_000)
    assert 0 < len(slow.transport.held) < 70_000
    slow.transport.drain()
    told = [it["topic"] for it in slow.hear() if it["type"] == "info"]
    assert sorted(told) == sorted(topics[1:-2])  # the first was written, the last two were queued


def test_drop_oldest_makes_room_for_answers_but_never_drops_one() -> None:
    node = Node(Settings(max_queue_size=3, backpressure="drop_oldest"))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1)
    slow.say({"type": "ping"})
    slow.say({"type": "ping"})
    assert slow.client.open
    slow.say({"type": "ping"})  # 1 is dropped
    publish(node, "t", 2)  # it is the only event, so it is dropped itself
    assert slow.client.open
    assert read_all(slow) == [0, "pong", "pong", "pong", gap(2)]


def test_drop_oldest_disconnects_if_there_is_no_event_to_drop() -> None:
    node = Node(Settings(max_queue_size=2, backpressure="drop_oldest"))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0)
    for _ in range(3):
        slow.say({"type": "ping"})
    assert read_all(slow) == [0, *SLOW]


def test_an_event_larger_than_the_bounds_is_dropped_and_reported() -> None:
    node = Node(Settings(max_queue_bytes=1_024, backpressure="drop_oldest"))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, "x" * 2_000)
    assert read_all(slow) == [0, gap(1)]


def test_dropped_events_are_reported_before_the_ack_of_the_unsubscribe() -> None:
    node = Node(Settings(max_queue_size=3, backpressure="drop_oldest"))
    slow = node.subscribed("a", "b", room=10)
    publish(node, "a", "a0", "a1")
    publish(node, "b", "b0", "b1", "b2")  # a1 is dropped
    slow.say({"type": "unsubscribe", "topic": "a"})  # b0 is dropped for the ack
    slow.transport.drain()
    heard = slow.hear()
    assert brief(heard) == ["a0", gap(1), "b1", "b2", gap(1), "ack"]
    assert [message["topic"] for message in heard] == ["a", "b", "b", "b", "a", "a"]


def test_events_dropped_after_an_unsubscribe_are_reported_before_its_ack() -> None:
    node = Node(Settings(max_queue_size=3, backpressure="drop_oldest"))
    slow = node.subscribed("t", "u", room=10)
    publish(node, "t", 0, 1, 2)
    node.broker.delete("t", lambda outcome: None)
    slow.say({"type": "subscribe", "topic": "t"})  # 1 is dropped
    publish(node, "t", "new")  # 2 is dropped
    slow.transport.drain()
    assert brief(slow.hear()) == [0, gap(2), "Topic has been deleted", "ack", "new"]


def test_dropped_events_are_reported_before_a_queued_event_of_the_topic() -> None:
    node = Node(Settings(max_queue_size=3, backpressure="drop_oldest"))
    slow = node.subscribed("a", room=10)
    publish(node, "a", 0, 1, 2, 3, 4)  # 1 is dropped
    slow.say({"type": "unsubscribe", "topic": "a"})  # 2 is dropped for the ack
    assert read_all(slow) == [0, gap(2), 3, 4, "ack"]


def test_a_congested_client_gets_a_deletion_in_order() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1)
    node.publish("t", 2)
    node.broker.delete("t", lambda outcome: None)
    assert read_all(slow) == [0, 1, 2, "Topic has been deleted"]


def test_a_slow_consumer_that_does_not_read_its_close_is_cut_in_ten_seconds() -> None:
    node = Node(Settings(max_queue_size=1))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1, 2)
    node.visit_all(100.0)
    node.visit_all(109.0)
    assert slow.transport.ended == ""
    node.visit_all(110.0)
    assert slow.transport.ended == "abort"


def test_a_slow_consumer_may_answer_its_close() -> None:
    node = Node(Settings(max_queue_size=1))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1, 2)
    assert read_all(slow) == [0, *SLOW]
    node.hub.client_closed(slow.client, b"")
    assert slow.transport.ended == "close"


@pytest.mark.parametrize("make", [Node.subscribed, Node.stream])
def test_a_client_that_takes_no_byte_is_cut_after_the_write_timeout(
    make: Callable[..., Peer | StreamPeer],
) -> None:
    node = Node()
    stalled, slow = make(node, "t", room=10), make(node, "t", room=10)
    publish(node, "t", "x" * 1_000)
    for second in range(11):
        slow.transport.drain(room=1)
        node.visit_all(float(second))
        assert stalled.transport.ended == ("abort" if second >= 10 else "")
    assert slow.transport.ended == ""


def test_each_byte_taken_by_a_congested_client_is_a_sign_of_life() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", "x" * 10_000)
    for second in range(200):
        slow.transport.drain(room=1)
        node.visit_all(float(second))
    assert slow.transport.ended == ""
    assert "pong" not in read_all(slow)


def test_a_transport_that_empties_and_fills_to_the_same_size_has_taken_bytes() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    event = "x" * 1_000
    publish(node, "t", event)
    for second in range(30):
        node.visit_all(float(second))
        held = len(slow.transport.held)
        slow.transport.drain()  # it flows, and is filled again
        slow.hear()
        slow.transport.room = 10
        publish(node, "t", event)
        assert len(slow.transport.held) == held
    assert slow.transport.ended == ""


def test_queued_events_go_to_the_transport_in_parts() -> None:
    """Events in the transport cannot be dropped, so it gets no more than it takes."""
    node = Node(Settings(backpressure="drop_oldest"))
    slow = node.subscribed("t", room=10)
    publish(node, "t", *("x" * 4_000 for _ in range(51)))  # 50 are queued, 200 KB
    writes = slow.transport.writes
    slow.transport.drain(room=4_200 + 70_000)
    assert slow.transport.writes - writes == 2  # one was taken, the transport holds the next
    assert 60_000 < len(slow.transport.held) < 70_000
    slow.transport.drain()
    assert slow.transport.writes - writes == 4
    assert len(slow.hear()) == 51


def test_sent_bytes_do_not_count() -> None:
    node = Node(Settings(max_queue_bytes=200_000))
    slow = node.subscribed("t", room=10)
    for _ in range(3):
        publish(node, "t", *("x" * 4_000 for _ in range(40)))
        slow.transport.drain(room=150_000)
        assert slow.client.open
        slow.transport.room = 10


def test_a_queue_may_be_as_large_as_its_bounds() -> None:
    node = Node()
    probe = node.subscribed("t")
    publish(node, "t", "x" * 1_000)
    size = len(probe.transport.written)
    node = Node(Settings(max_queue_bytes=3 * size - 10))
    slow = node.subscribed("t", room=10)
    publish(node, "t", *("x" * 1_000 for _ in range(3)))
    assert slow.client.open
    publish(node, "t", "")
    assert not slow.client.open


def test_dropped_events_are_reported_just_before_the_topics_next_event() -> None:
    node = Node(Settings(max_queue_size=40, backpressure="drop_oldest"))
    slow = node.subscribed("a", "b", room=10)
    publish(node, "b", "b0")
    publish(node, "a", "a0")  # to be dropped
    publish(node, "b", *("x" * 4_000 for _ in range(39)))
    publish(node, "a", "a1")
    slow.transport.drain()
    payloads = brief(slow.hear())
    assert payloads[0] == "b0"
    assert payloads[-2:] == [gap(1), "a1"]


def test_a_stalled_client_does_not_delay_the_shutdown() -> None:
    node = Node()
    stalled = node.subscribed("t", room=10)
    publish(node, "t", 0)
    node.drain.begin()
    node.visit_all(0.0)
    node.visit_all(9.0)
    assert stalled.transport.ended == ""
    node.visit_all(10.0)
    assert stalled.transport.ended == "abort"


def test_a_client_that_closes_early_in_the_shutdown_still_gets_its_queue() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1)
    node.drain.begin()
    node.hub.client_closed(slow.client, b"")
    assert slow.transport.ended == ""
    assert read_all(slow)[:3] == [0, FAREWELL, 1]
    assert slow.transport.ended == "close"


def test_the_shutdown_notice_precedes_the_queue_and_the_close_follows_it() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1)
    node.publish("t", 2)
    node.drain.begin()
    slow.say({"type": "ping"})
    assert read_all(slow) == [0, FAREWELL, 1, 2, ("close", 1001, "going_away")]


def test_a_client_with_an_empty_queue_has_3_seconds_to_answer_the_close() -> None:
    node = Node()
    silent = node.connect()
    node.drain.begin()
    assert silent.hear()[-1] == ("close", 1001, "going_away")
    node.visit_all(0.0)
    node.visit_all(2.9)
    assert silent.transport.ended == ""
    node.visit_all(3.0)
    assert silent.transport.ended == "abort"


def test_a_client_that_still_takes_bytes_in_the_shutdown_is_not_cut() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", "x" * 1_000)
    node.drain.begin()
    for second in range(0, 600, 5):
        slow.transport.drain(room=1)
        node.visit_all(second)
    assert slow.transport.ended == ""
    slow.transport.drain()
    node.visit_all(601.0)
    node.visit_all(604.0)
    assert slow.transport.ended == "abort"


def test_a_client_that_acknowledges_bytes_is_not_stalled() -> None:
    """The kernel takes more from the transport only when a third of its buffer is free."""
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0)
    for second in range(0, 300, 5):
        slow.transport.taken += 1
        node.visit_all(second)
    assert slow.transport.ended == ""
    node.visit_all(305.0)
    assert slow.transport.ended == "abort"


def test_events_beyond_the_bounds_during_a_close_end_the_client_as_slow() -> None:
    node = Node(Settings(max_queue_size=2))
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0)
    for number in range(1, 4):
        node.publish("t", number)  # in the batch, which is sent before the Close
    node.drain.begin()
    assert read_all(slow) == [0, *SLOW]


def test_a_congested_client_with_an_empty_queue_gets_the_shutdown_notice() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0)
    node.drain.begin()
    assert read_all(slow)[0] == 0
    assert slow.client.state.value == "closing"


def test_no_message_is_queued_for_a_client_that_was_cut() -> None:
    node = Node()
    stalled = node.subscribed("t", room=10)
    publish(node, "t", 0)
    node.visit_all(0.0)
    node.visit_all(10.0)
    assert stalled.transport.ended == "abort"
    publish(
        node, "t", *range(500)
    )  # before the server knows of the loss; a write would fail the test
    node.hub.leave(stalled.client)
    assert node.topics() == {}


def test_a_congested_client_that_closes_gets_its_queue_and_then_its_answer() -> None:
    node = Node()
    slow = node.subscribed("t", room=10)
    publish(node, "t", 0, 1)
    node.hub.client_closed(slow.client, b"\x88\x02\x03\xe8")
    assert slow.transport.ended == ""
    assert read_all(slow) == [0, 1, ("close", 1000, "")]
    assert slow.transport.ended == "close"
