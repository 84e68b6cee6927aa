"""Recovery: a client that reconnects gets the events it missed, or a report of the loss."""

from itertools import pairwise
from typing import Any

import pytest

from hub.brokers.history import OVERHEAD
from hub.brokers.memory import MemoryBroker
from hub.delivery.recovery import CHUNK, SHARE
from hub.observer import Observer
from hub.reports import GapCause
from hub.settings import Settings
from hub.values import TOTAL_BYTES, Position, Rule
from tests.support.node import Node, Peer


class Gaps(Observer):
    """Records the topics with gaps, and their causes."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def gap(self, topic: str, cause: GapCause) -> None:
        self.heard.append((topic, cause))


class Remembering:
    """A node whose topics have a history, and its clock."""

    def __init__(
        self,
        size: int = 10,
        ttl: float = 60.0,
        total_bytes: int = TOTAL_BYTES,
        **settings: Any,
    ) -> None:
        self.now = 0.0
        epochs = iter("abcdefgh")
        rules = {"": Rule(size, ttl, 1_000_000), "off/": Rule(0, 1.0, 1)}
        broker = MemoryBroker(lambda: self.now, rules, lambda: next(epochs), total_bytes)
        self.gaps = Gaps()
        self.node = Node(Settings(recovery_limit=8, **settings), broker, self.gaps)

    def come_back(self, room: int | None = None, topic: str = "t", **fields: Any) -> Peer:
        peer = self.node.connect("me", room)
        peer.say({"type": "subscribe", "topic": topic, **fields})
        return peer

    def publish(self, *payloads: Any, topic: str = "t") -> None:
        for payload in payloads:
            self.node.publish(topic, payload)


def brief(heard: list[Any]) -> list[Any]:
    """Return events as offset and payload, and other messages by their content."""
    told: list[Any] = []
    for it in heard:
        if it["type"] == "event":
            told.append((it["offset"], it["message"]["payload"]))
        elif it["type"] == "ack":
            told.append({key: it[key] for key in ("epoch", "offset", "recovered") if key in it})
        else:
            told.append(it["message"]["payload"] if it["type"] == "info" else it["error"]["code"])
    return told


def since(offset: int, epoch: str = "a") -> dict[str, Any]:
    return {"recover": {"epoch": epoch, "offset": offset}}


def test_missed_events_follow_the_ack_and_precede_new_events() -> None:
    it = Remembering()
    it.come_back()
    it.publish("one", "two", "three")
    peer = it.come_back(**since(1))
    it.publish("four")
    assert brief(peer.hear()) == [
        {"epoch": "a", "offset": 3, "recovered": True},
        (2, "two"),
        (3, "three"),
        (4, "four"),
    ]
    it.publish("five")
    assert brief(peer.hear()) == [(5, "five")]


def test_a_second_subscribe_during_a_recovery_repeats_nothing() -> None:
    it = Remembering()
    it.come_back()
    it.publish("one")
    peer = it.come_back(**since(0))
    peer.say({"type": "subscribe", "topic": "t", **since(0)})
    assert brief(peer.hear()) == [
        {"epoch": "a", "offset": 1, "recovered": True},
        {"epoch": "a", "offset": 1, "recovered": False},
        (1, "one"),
    ]


def test_acks_of_publishes_and_subscribes_have_the_position() -> None:
    it = Remembering()
    peer = it.come_back()
    peer.say({"type": "publish", "topic": "t", "payload": "x"})
    assert brief(peer.hear()) in (
        [{"epoch": "a", "offset": 0}, (1, "x"), {"epoch": "a", "offset": 1}],
        [{"epoch": "a", "offset": 0}, {"epoch": "a", "offset": 1}, (1, "x")],
    )


@pytest.mark.parametrize(
    "fields",
    [since(4), since(3, "z"), since(0, ""), {"topic": "off/t", **since(0)}],
    ids=["ahead", "other epoch", "no epoch", "no history"],
)
def test_a_position_that_cannot_recover_gets_no_events(fields: dict[str, Any]) -> None:
    it = Remembering()
    it.come_back(topic=fields.get("topic", "t"))
    it.publish(1, 2, 3)
    heard = brief(it.come_back(**fields).hear())
    assert len(heard) == 1
    assert heard[0]["recovered"] is False


def test_too_many_dropped_or_expired_events_are_not_recovered() -> None:
    it = Remembering(size=10, ttl=5.0)
    it.come_back()
    it.publish(*range(12))
    assert brief(it.come_back(**since(1)).hear())[0]["recovered"] is False  # trimmed
    assert brief(it.come_back(**since(3)).hear())[0]["recovered"] is False  # 9 are over the limit
    assert len(brief(it.come_back(**since(4)).hear())) == 9
    it.now = 5.0
    assert brief(it.come_back(**since(11)).hear())[0]["recovered"] is False
    assert brief(it.come_back(**since(12)).hear())[0]["recovered"] is True


def test_the_newest_events_can_be_requested() -> None:
    it = Remembering()
    it.come_back()
    it.publish(*range(10))
    assert brief(it.come_back(last_n=2).hear()) == [{"epoch": "a", "offset": 10}, (9, 8), (10, 9)]
    assert len(it.come_back(last_n=100).hear()) == 1 + 8
    assert len(it.come_back(last_n=0).hear()) == 1


def test_a_repeated_subscribe_repeats_no_events() -> None:
    it = Remembering()
    peer = it.come_back()
    it.publish(1)
    peer.say({"type": "subscribe", "topic": "t", **since(0)})
    peer.say({"type": "subscribe", "topic": "t", "last_n": 5})
    assert brief(peer.hear()) == [
        {"epoch": "a", "offset": 0},
        (1, 1),
        {"epoch": "a", "offset": 1, "recovered": False},
        {"epoch": "a", "offset": 1},
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"recover": None},
        {"recover": {"epoch": "a"}},
        {"recover": {"epoch": 1, "offset": 1}},
        {"recover": {"epoch": "a", "offset": True}},
        {"recover": {"epoch": "a", "offset": -1}},
        {"recover": {"epoch": "a", "offset": 1.0}},
        {"last_n": "1"},
        {"last_n": -1},
        {"last_n": True},
        {"last_n": 1, "recover": {"epoch": "a", "offset": 1}},
    ],
)
def test_a_malformed_recovery_is_refused(fields: dict[str, Any]) -> None:
    it = Remembering()
    peer = it.come_back(**fields)
    assert brief(peer.hear()) == ["INVALID_MESSAGE"]
    assert it.node.topics() == {}


def test_an_automatic_topic_is_kept_for_its_ttl() -> None:
    it = Remembering(ttl=5.0)
    peer = it.come_back()
    it.publish("one")
    it.node.hub.leave(peer.client)
    it.now = 4.0
    it.publish("two")
    assert it.node.topics() == {"t": 0}
    back = it.come_back(**since(0))
    assert brief(back.hear())[1:] == [(1, "one"), (2, "two")]
    it.node.hub.leave(back.client)
    it.now = 8.9
    assert it.node.topics() == {"t": 0}
    it.now = 9.0  # publishes do not extend it
    assert it.node.topics() == {}
    assert it.node.publish("t", "x").code == "TOPIC_NOT_FOUND"
    heard = brief(it.come_back(**since(2)).hear())
    assert heard == [{"epoch": "b", "offset": 0, "recovered": False}]


def test_a_deletion_ends_the_history_and_recoveries() -> None:
    it = Remembering()
    it.come_back()
    it.publish(1, 2)
    behind = it.come_back(**since(0))
    it.node.broker.delete("t", lambda _: None)
    assert brief(behind.hear()) == [
        {"epoch": "a", "offset": 2, "recovered": True},
        "Topic has been deleted",
    ]
    assert brief(it.come_back(**since(2)).hear())[0]["epoch"] == "b"


def test_a_client_that_unsubscribes_during_its_recovery_gets_no_more() -> None:
    it = Remembering()
    it.come_back()
    it.publish(1)
    peer = it.come_back(**since(0))
    peer.say({"type": "unsubscribe", "topic": "t"})
    it.publish(2)
    heard = peer.hear()
    assert [message["type"] for message in heard] == ["ack", "ack"]
    assert it.node.topics() == {"t": 1}


def test_a_slow_client_recovers_without_a_send_queue() -> None:
    it = Remembering(max_queue_size=1, max_queue_bytes=1_024)
    it.come_back()
    size = CHUNK // 2
    it.publish(*(f"{number}{'x' * size}" for number in range(6)))
    peer = it.come_back(room=100, **since(0))
    it.node.tick()
    live = 6
    heard: list[Any] = []
    while len(heard) < 10:
        if live < 9:
            it.publish(live)  # during the recovery: it is not queued
            live += 1
        assert peer.client.open
        held = len(peer.transport.held)
        assert held <= 2 * CHUNK + 1_000
        peer.transport.drain(held // 2 + 1)
        it.node.hub.recovery.resume(peer.client)  # as the connection does when its transport drains
        heard += peer.hear()
    assert [told[0] for told in brief(heard)[1:]] == list(range(1, 10))
    peer.transport.drain()
    it.publish("live")
    assert brief(peer.hear()) == [(10, "live")]


def test_many_clients_recover_in_turns() -> None:
    it = Remembering()
    it.come_back()
    it.publish("x" * CHUNK)
    peers = [it.come_back(**since(0)) for _ in range(50)]
    counts = [0]  # clients that have the event, after each turn of the loop
    while counts[-1] < len(peers):
        it.node.turn()
        counts.append(sum(len(peer.transport.written) > CHUNK for peer in peers))
    assert max(new - old for old, new in pairwise(counts)) <= SHARE // CHUNK
    it.publish("new")
    for peer in peers:
        assert [told[0] for told in brief(peer.hear())[1:]] == [1, 2]


def test_a_client_that_is_disconnected_before_its_turn_reads_no_more() -> None:
    it = Remembering(max_queue_size=1)
    it.come_back(topic="t")
    it.come_back(topic="u")
    it.publish(1, topic="u")
    slow = it.come_back(room=0, topic="u", **since(0, "b"))
    slow.say({"type": "subscribe", "topic": "t"})
    it.node.tick()
    it.publish(1)
    it.node.tick()  # its send queue is full
    fast = it.come_back(**since(0))
    it.node.hub.recovery.resume(slow.client)
    it.publish(2)  # the queue exceeds its bounds when the other one becomes a subscriber
    assert brief(fast.hear())[1:] == [(1, 1), (2, 2)]
    assert not slow.client.open


def test_a_client_that_is_too_slow_for_the_history_gets_a_gap() -> None:
    it = Remembering(size=3)
    it.come_back()
    it.publish("1" + "x" * CHUNK, "2", "3")
    peer = it.come_back(room=1_000, **since(0))
    it.node.tick()
    it.publish("4", "5", "6")
    assert it.gaps.heard == []
    peer.transport.drain()
    it.node.hub.recovery.resume(peer.client)
    heard = brief(peer.hear())
    assert it.gaps.heard == [("t", "recovery")]
    assert [told if isinstance(told, dict) else told[0] for told in heard[1:]] == [
        1,
        {"reason": "GAP", "epoch": "a", "offset": 3},
        4,
        5,
        6,
    ]


def test_a_client_recovers_all_events_in_many_topics() -> None:
    it = Remembering()
    topics = [f"t{number}" for number in range(5)]
    for topic in topics:
        it.come_back(topic=topic)
        for number in range(6):
            it.publish(f"{number}{'x' * 9_000}", topic=topic)
    peer = it.node.connect("me")
    for number, topic in enumerate(topics):
        position = {"epoch": "abcde"[number], "offset": 0}
        peer.say({"type": "subscribe", "topic": topic, "recover": position})
    events = [message for message in peer.hear() if message["type"] == "event"]
    for topic in topics:
        offsets = [message["offset"] for message in events if message["topic"] == topic]
        assert offsets == [1, 2, 3, 4, 5, 6]


def test_messages_of_a_topic_without_history_have_no_positions() -> None:
    it = Remembering()
    peer = it.come_back(topic="off/t", request_id="r")
    it.publish("x", topic="off/t")
    ack, event = peer.hear()
    assert list(ack) == ["type", "request_id", "topic", "status", "ts"]
    assert list(event) == ["type", "topic", "message", "ts"]


def test_dropped_events_are_reported_with_their_position() -> None:
    it = Remembering(max_queue_size=2, backpressure="drop_oldest")
    slow = it.node.subscribed("t", room=0)
    it.publish(*range(1))
    it.node.tick()
    for number in range(1, 6):
        it.publish(number)
        it.node.tick()
    slow.transport.drain()
    assert brief(slow.hear()) == [
        (1, 0),
        {"reason": "GAP", "dropped": 3, "epoch": "a", "offset": 4},
        (5, 4),
        (6, 5),
    ]
    assert it.gaps.heard == [("t", "drop_oldest")]


def test_a_client_recovering_in_an_ended_epoch_gets_a_gap() -> None:
    """Over Redis a history may get another epoch (hub/redis/history_cache.py)."""
    it = Remembering()
    it.come_back()
    it.publish("1" + "x" * CHUNK, "2")
    peer = it.come_back(room=1_000, **since(0))
    it.node.tick()
    history = it.node.broker.history("t")
    assert history is not None
    history.reset(Position("z", 0))
    it.node.hub.missed("t")
    it.publish("new")
    peer.transport.drain()
    it.node.hub.recovery.resume(peer.client)
    heard = brief(peer.hear())
    assert heard[2:] == [{"reason": "GAP", "epoch": "z", "offset": 0}, (1, "new")]
    it.publish("newer")
    assert brief(peer.hear()) == [(2, "newer")]


BIG = "x" * 1_000
ROOM_FOR_THREE = 3 * (1_150 + OVERHEAD)  # events with a payload of BIG


def test_the_least_recently_used_topic_cannot_recover() -> None:
    it = Remembering(total_bytes=ROOM_FOR_THREE)

    def is_recovered(topic: str, epoch: str) -> bool:
        heard = brief(it.come_back(topic=topic, **since(0, epoch)).hear())
        assert heard[1:] == ([(1, BIG)] if heard[0]["recovered"] else [])
        return bool(heard[0]["recovered"])

    for topic in "tuv":
        it.come_back(topic=topic)
        it.publish(BIG, topic=topic)
    assert is_recovered("t", "a")  # counts as a use
    it.publish(BIG, topic="v")
    assert not is_recovered("u", "b")
    it.publish(BIG, topic="v")  # a failed recovery is not a use
    assert not is_recovered("t", "a")
    it.publish(BIG, topic="v")  # the only topic with events
    assert not is_recovered("v", "c")
    heard = brief(it.come_back(topic="v", **since(1, "c")).hear())
    assert heard[1:] == [(2, BIG), (3, BIG), (4, BIG)]


def test_a_client_whose_recovery_loses_events_to_the_budget_gets_a_gap() -> None:
    it = Remembering(total_bytes=ROOM_FOR_THREE)
    for topic in ("t", "u"):
        it.come_back(topic=topic)
    it.publish(1, 2, 3)
    slow = it.come_back(room=0, **since(0))
    it.node.tick()  # its transport does not take the ack; it reads on when it has
    it.publish(BIG, BIG, BIG, topic="u")
    it.node.tick()
    slow.transport.drain()
    it.node.hub.recovery.resume(slow.client)
    it.publish(4)
    assert brief(slow.hear()) == [
        {"epoch": "a", "offset": 3, "recovered": True},
        {"reason": "GAP", "epoch": "a", "offset": 3},
        (4, 4),
    ]
    assert it.node.hub.recovery._recovering == {}


def test_an_event_beyond_the_budget_is_delivered_and_not_kept() -> None:
    it = Remembering(total_bytes=1_024)
    peer = it.come_back()
    behind = it.come_back()
    it.publish(BIG)
    for each in (peer, behind):
        assert brief(each.hear()) == [{"epoch": "a", "offset": 0}, (1, BIG)]
    assert brief(it.come_back(**since(0)).hear())[0]["recovered"] is False
    it.publish("small")
    assert brief(it.come_back(**since(1)).hear())[1:] == [(2, "small")]
