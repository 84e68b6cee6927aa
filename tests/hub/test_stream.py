"""Streams of Server-Sent Events: the events of a WebSocket, with ids to recover from."""

from itertools import pairwise
from typing import Any

import pytest

from hub.brokers.base import SubscribeResult
from hub.brokers.memory import MemoryBroker
from hub.delivery.recovery import CHUNK
from hub.errors import ErrorCode, Refusal
from hub.event_stream import RETRY, preamble
from hub.protocol.connect_requests import MAX_STREAM_TOPICS, decode_stream_query
from hub.protocol.replies import encode_event
from hub.protocol.websocket_frames import TEXT
from hub.settings import Settings
from hub.values import Position, Rule
from tests.support.brokers import DeferredBroker, RefusingBroker
from tests.support.node import Node
from tests.support.sse import Listener, Said

TS = b"2026-01-01T00:00:00Z"


def remembering(size: int = 10, **settings: Any) -> Node:
    """Return a node whose topics, except `off/`, have histories with the epochs a, b, c."""
    epochs = iter("abcdefghijklmnop")
    rules = {"": Rule(size, 60.0, 10_000_000), "off/": Rule(0, 1.0, 1)}
    broker = MemoryBroker(lambda: 0.0, rules, lambda: next(epochs))
    return Node(Settings(recovery_limit=8, **settings), broker)


def publish(node: Node, topic: str, *payloads: Any) -> None:
    """Publish one event in each tick."""
    for payload in payloads:
        node.publish(topic, payload)
        node.tick()


def brief(heard: list[Said]) -> list[Any]:
    """Return the id of each message, with the payload of an event or info, or the content."""
    return [(it.id, word(it.message)) for it in heard]


def word(message: Any) -> Any:
    if message["type"] == "ack":
        return "ack" if "recovered" not in message else f"recovered: {message['recovered']}"
    return message["error"]["code"] if "error" in message else message["message"]["payload"]


def gap(dropped: int = 0, **position: Any) -> dict[str, Any]:
    return {"reason": "GAP", **({"dropped": dropped} if dropped else {}), **position}


# --- Format ---------------------------------------------------------------------------------------


def test_every_byte_of_a_stream_of_one_topic() -> None:
    node = remembering()
    stream = node.stream("t")
    node.publish("t", {"two": "lines\n\r"})
    node.tick()
    node.broker.delete("t", lambda _: None)
    node.tick()
    written = bytes(stream.transport.written)
    assert written == (
        b'id: a:0\ndata: {"type":"ack","topic":"t","status":"ok","epoch":"a","offset":0,"ts":"%b"}'
        b'\n\nid: a:1\ndata: {"type":"event","topic":"t","message":{"id":"%b",'
        b'"payload":{"two":"lines\\n\\r"}},"ts":"%b","offset":1}'
        b'\n\ndata: {"type":"info","topic":"t","message":{"id":"%b",'
        b'"payload":"Topic has been deleted"},"reason":"TOPIC_DELETED","ts":"%b"}\n\n'
        % (TS, *(word for it in ids(written) for word in (it, TS)))
    )


def ids(written: bytes) -> list[bytes]:
    return [part.partition(b'"')[0] for part in written.split(b'"id":"')[1:]]


# Line separators of Unicode, and characters that resemble them.
SEPARATORS = "a\u2028b\u2029c\x85d\u2027\xc2\u0084\\\u2028"


def test_line_separators_of_unicode_are_escaped_in_every_message() -> None:
    node = remembering()
    node.subscribed(SEPARATORS)
    publish(node, SEPARATORS, SEPARATORS)
    stream = node.stream(SEPARATORS, last_n="1")  # replays the event
    node.tick()
    node.hub.publish(SEPARATORS, SEPARATORS, {SEPARATORS: SEPARATORS}, lambda _: None)
    node.tick()
    node.broker.delete(SEPARATORS, lambda _: None)
    node.tick()
    text = stream.transport.written.decode()
    assert text.splitlines() == text.split("\n")[:-1]
    assert "c\\u0085d" in text
    ack, replayed, event, info = (it.message for it in stream.hear())
    assert ack["topic"] == replayed["topic"] == event["topic"] == info["topic"] == SEPARATORS
    assert replayed["message"]["payload"] == SEPARATORS
    assert event["message"] == {"id": SEPARATORS, "payload": {SEPARATORS: SEPARATORS}}


def test_without_history_there_are_no_ids() -> None:
    node = Node()
    stream = node.stream("t", "u")
    publish(node, "t", 1)
    publish(node, "u", 2)
    assert brief(stream.hear()) == [("", "ack"), ("", "ack"), ("", 1), ("", 2)]


def test_an_id_has_the_position_in_every_topic() -> None:
    node = remembering()
    stream = node.stream("t", "off/u", "v")
    for number in range(2):
        for topic in ("t", "off/u", "v"):
            publish(node, topic, f"{topic} {number}")
    assert brief(stream.hear()) == [
        ("a:0,-,-", "ack"),
        ("a:0,-,-", "ack"),
        ("a:0,-,b:0", "ack"),
        ("a:1,-,b:0", "t 0"),
        ("a:1,-,b:0", "off/u 0"),
        ("a:1,-,b:1", "v 0"),
        ("a:2,-,b:1", "t 1"),
        ("a:2,-,b:1", "off/u 1"),
        ("a:2,-,b:2", "v 1"),
    ]


def test_messages_of_any_length_arrive() -> None:
    node = Node()
    socket, stream = node.subscribed("t"), node.stream("t")
    stream.hear()
    payloads = [
        "x" * size for size in (0, 20, 30, 200, 66_000)
    ]  # with each form of a frame's length
    publish(node, "t", *payloads)
    assert [it.message for it in stream.hear()] == socket.hear()


def test_each_stream_has_a_random_time_to_reconnect() -> None:
    listeners = [Listener() for _ in range(30)]
    for listener in listeners:
        assert listener.take(bytearray(preamble())) == []
    times = {listener.retry for listener in listeners}
    assert len(times) > 20
    assert RETRY[0] <= min(times) <= max(times) <= RETRY[1]


# --- Shared encoding ------------------------------------------------------------------------------


def test_an_event_is_written_once_for_all_streams_of_its_topic_alone() -> None:
    node = remembering()
    given: list[bytes] = []
    for _ in range(3):
        stream = node.stream("t")
        node.tick()
        stream.transport.write = given.append  # type: ignore[method-assign]
    node.publish("t", "x")
    node.publish("t", "y")
    node.tick()
    assert len(given) == 3
    assert given[0] is given[1] is given[2]


def test_streams_do_not_change_frames() -> None:
    node = remembering()
    socket, alone = node.subscribed("t"), node.subscribed("u")
    stream = node.stream("t", "u")
    publish(node, "t", 1, 2)
    publish(node, "u", 3)
    assert [it[0] for it in socket.frames()] == [TEXT] * 2
    assert [it[0] for it in alone.frames()] == [TEXT]
    assert [word(it.message) for it in stream.hear()] == ["ack", "ack", 1, 2, 3]


@pytest.mark.parametrize("topics", [["t"], ["t", "u"]])
def test_the_events_of_a_tick_are_one_write(topics: list[str]) -> None:
    node = remembering()
    stream = node.stream(*topics)
    stream.hear()
    before = stream.transport.writes
    for number in range(8):
        node.publish("t", number)
    assert [word(it.message) for it in stream.hear()] == list(range(8))
    assert stream.transport.writes - before == 1


def test_streams_count_as_clients_and_subscribers() -> None:
    node = remembering()
    node.subscribed("t")
    one, both = node.stream("t"), node.stream("t", "u")
    node.publish("t", 1)
    node.stream("t", last_id="a:0")  # it recovers
    assert node.topics() == {"t": 4, "u": 1}
    assert node.hub.subscriber_count("t") == 4
    assert len(node.hub.clients) == 4
    node.hub.leave(one.client)
    node.hub.leave(both.client)
    assert node.topics() == {"t": 2, "u": 0}


# --- Recovery -------------------------------------------------------------------------------------


def test_missed_events_follow_the_ack_whose_id_is_before_them() -> None:
    node = remembering()
    node.stream("t")
    publish(node, "t", 1, 2, 3)
    stream = node.stream("t", last_id="a:1")
    node.publish("t", 4)
    heard = stream.hear()
    assert brief(heard) == [("a:1", "recovered: True"), ("a:2", 2), ("a:3", 3), ("a:4", 4)]
    assert heard[0].message["offset"] == 3
    publish(node, "t", 5)
    assert brief(stream.hear()) == [("a:5", 5)]


def test_a_failed_recovery_is_reported_and_the_id_moves_on() -> None:
    node = remembering(size=3)
    node.stream("t")
    publish(node, "t", *range(5))
    for stale in ("z:4", "a:1", "a:6", "a:999999999999999"):
        assert brief(node.stream("t", last_id=stale).hear()) == [("a:5", "recovered: False")]
    assert brief(node.stream("off/t", last_id="z:4").hear()) == [("z:4", "recovered: False")]


def test_each_topic_of_a_stream_recovers_independently() -> None:
    node = remembering()
    node.stream("t", "u", "v", "w")
    for topic in ("t", "u", "v", "w"):
        publish(node, topic, *(f"{topic}{number}" for number in (1, 2)))
    stream = node.stream("t", "u", "v", "off/x", "w", last_id="a:1,z:1,-,-,d:2", last_n="1")
    assert brief(stream.hear()) == [
        ("a:1,z:1,-,-,d:2", "recovered: True"),
        ("a:1,b:2,-,-,d:2", "recovered: False"),
        ("a:1,b:2,c:1,-,d:2", "ack"),  # the id has no position, so last_n applies
        ("a:1,b:2,c:1,-,d:2", "ack"),
        ("a:1,b:2,c:1,-,d:2", "recovered: True"),
        ("a:2,b:2,c:1,-,d:2", "t2"),
        ("a:2,b:2,c:2,-,d:2", "v2"),
    ]


def test_the_newest_events_can_be_requested() -> None:
    node = remembering()
    node.stream("t")
    publish(node, "t", *range(10))
    assert brief(node.stream("t", last_n="2").hear()) == [("a:8", "ack"), ("a:9", 8), ("a:10", 9)]
    assert len(node.stream("t", last_n="100").hear()) == 1 + 8
    assert brief(node.stream("t", last_n="0").hear()) == [("a:10", "ack")]


def events_by_topic(heard: list[Said]) -> dict[str, list[int]]:
    """Return the payloads by topic, with the reported losses in their places."""
    told: dict[str, list[int]] = {"t": [], "u": []}
    for it in heard:
        if it.message["type"] == "event":
            told[it.message["topic"]].append(it.message["message"]["payload"])
        elif it.message["type"] == "info":
            lost = it.message["message"]["payload"]
            end = lost["offset"] + 1
            told[it.message["topic"]] += range(end - lost["dropped"], end)
    return told


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("topics", [["t"], ["t", "u"]])
def test_a_stream_cut_anywhere_loses_and_repeats_nothing(topics: list[str], slow: bool) -> None:
    """Event n of a topic has the payload n; another stream continues after each cut."""
    for cut in range(1, 21):
        node = remembering(size=100, max_queue_size=2, backpressure="drop_oldest")
        node.stream("t", "u")
        publish(node, "t", 1, 2)
        stream = node.stream(*topics, last_id="a:1" if topics == ["t"] else "a:1,b:0")
        node.tick()
        stream.transport.room = 10 if slow else None
        for number in range(3, 7):
            node.publish("t", number)
            publish(node, "u", number - 2)
        stream.drain()
        publish(node, "t", 7)
        heard = stream.hear(cut)
        if cut == 20:
            assert slow == any("GAP" in str(it.message) for it in heard)
        node.hub.leave(stream.client)
        publish(node, "t", 8)
        heard += node.stream(*topics, last_id=stream.listener.last_id).hear()
        told = events_by_topic(heard)
        assert told["t"] == list(range(2, 9))
        assert told["u"] == (list(range(1, 5)) if "u" in topics else [])


def test_a_replay_follows_the_streams_pace_without_a_queue() -> None:
    node = remembering(max_queue_size=1, max_queue_bytes=1_024)
    node.stream("t", "u")
    publish(node, "t", *(f"{number}{'x' * (CHUNK // 2)}" for number in range(6)))
    stream = node.stream("t", "u", last_id="a:0,b:0", room=100)
    node.tick()
    heard: list[Said] = []
    while len(heard) < 8:
        assert stream.client.open
        assert len(stream.transport.held) <= 2 * CHUNK
        stream.drain(len(stream.transport.held) // 2 + 1)
        heard += stream.hear()
    assert [it.id for it in heard[2:]] == [f"a:{offset},b:0" for offset in range(1, 7)]
    stream.drain()
    publish(node, "u", "live")
    assert brief(stream.hear()) == [("a:6,b:1", "live")]


def test_a_stream_that_is_too_slow_for_the_history_gets_a_gap_with_its_position() -> None:
    node = remembering(size=3)
    node.stream("t", "u")
    publish(node, "t", "1" + "x" * CHUNK, 2, 3)
    stream = node.stream("u", "t", last_id="b:0,a:0", room=1_000)
    node.tick()
    publish(node, "t", 4, 5, 6)
    stream.drain()
    told = [(it.id, word(it.message)) for it in stream.hear()[3:]]
    lost = gap(epoch="a", offset=3)
    assert told == [("b:0,a:3", lost), ("b:0,a:4", 4), ("b:0,a:5", 5), ("b:0,a:6", 6)]


# --- Gaps -----------------------------------------------------------------------------------------


def another_epoch(node: Node, topic: str, epoch: str, top: int) -> None:
    """Begin another epoch after `top`, as hub/redis/history_cache.py does."""
    history = node.broker.history(topic)
    assert history is not None
    history.reset(Position(epoch, top))
    node.hub.missed(topic)


@pytest.mark.parametrize("room", [None, 0])
def test_a_new_epoch_is_reported_with_its_id_after_events_with_the_old_one(
    room: int | None,
) -> None:
    node = remembering()
    streams = [node.stream("t"), node.stream("u", "t")]
    node.tick()
    for stream in streams:
        stream.hear()
        stream.transport.room = room
    publish(node, "t", 1)
    node.publish("t", 2)
    another_epoch(node, "t", "z", 7)  # in the same tick
    node.publish("t", 3)
    node.tick()
    expected = [("a:1", 1), ("a:2", 2), ("z:7", gap(epoch="z", offset=7)), ("z:8", 3)]
    for stream, before in zip(streams, ("", "b:0,"), strict=True):
        stream.drain()
        assert brief(stream.hear()) == [(before + place, told) for place, told in expected]


def test_a_stream_recovering_in_an_epoch_that_ends_gets_a_gap() -> None:
    node = remembering()
    node.stream("t")
    publish(node, "t", "1" + "x" * CHUNK, 2, 3)
    stream = node.stream("t", last_id="a:0", room=1_000)
    node.tick()
    another_epoch(node, "t", "z", 1)  # the offset up to which it has read the old epoch
    publish(node, "t", 4)
    stream.drain()
    assert brief(stream.hear())[2:] == [("z:1", gap(epoch="z", offset=1)), ("z:2", 4)]


def test_events_dropped_before_and_after_a_new_epoch_are_reported_apart() -> None:
    node = remembering(max_queue_size=2, backpressure="drop_oldest")
    stream, socket = node.stream("t"), node.subscribed("t")
    stream.hear()
    stream.transport.room = socket.transport.room = 0
    publish(node, "t", 1, 2, 3)
    another_epoch(node, "t", "z", 0)
    publish(node, "t", 4)
    publish(node, "t", 5, 6)
    stream.drain()
    told = [
        ("a:1", 1),
        ("a:3", gap(2, epoch="a", offset=3)),
        ("z:0", gap(epoch="z", offset=0)),
        ("z:1", gap(1, epoch="z", offset=1)),
        ("z:2", 5),
        ("z:3", 6),
    ]
    assert brief(stream.hear()) == told
    socket.transport.drain()
    assert [word(message) for message in socket.hear()] == [what for _, what in told]


def test_a_gap_in_a_silent_topic_is_reported_by_the_sweep() -> None:
    node = remembering()
    stream = node.stream("t", "off/u")
    stream.hear()
    publish(node, "t", 1)
    node.hub.missed("t")
    node.hub.missed("off/u")
    node.hub.gaps.sweep()
    told = brief(stream.hear())
    assert told == [("a:1,-", 1), ("a:1,-", gap(epoch="a", offset=1)), ("a:1,-", gap())]


def test_a_queued_ack_precedes_the_report_of_later_dropped_events() -> None:
    node = remembering(max_queue_size=1, backpressure="drop_oldest")
    broker = node.broker
    deferred: list[Any] = []
    node.stream("t")
    subscribe = broker.join
    broker.join = lambda topic, done: deferred.append((topic, done))  # type: ignore[method-assign]
    stream = node.stream("u", "t", room=0)
    node.tick()  # the ack of the first topic, which is new, is in the transport
    publish(node, "u", 1)
    subscribe(*deferred[0])
    publish(node, "t", 1, 2, 3)
    stream.drain()
    assert brief(stream.hear()) == [
        ("b:0,-", "ack"),
        ("b:0,a:0", "ack"),
        ("b:0,a:2", gap(2, epoch="a", offset=2)),
        ("b:0,a:3", 3),
        ("b:1,a:3", gap(1, epoch="b", offset=1)),
    ]


@pytest.mark.parametrize("room", [None, 0])
def test_an_event_without_an_offset_has_no_id(room: int | None) -> None:
    """A server on which the topic has no history sends such events."""
    node = remembering(max_queue_size=1, backpressure="drop_oldest")
    stream = node.stream("t")
    stream.hear()
    stream.transport.room = room
    publish(node, "t", 1)
    for _ in range(3):
        event = encode_event("t", "m", "stray", "2026-01-01T00:00:00Z")
        node.hub.deliver("t", event)
        node.tick()
    stream.drain()
    stray = ("a:1", "stray")
    lost = ("a:1", gap(2))
    assert brief(stream.hear()) == [("a:1", 1), *([lost, stray] if room == 0 else [stray] * 3)]


# --- Slow streams ---------------------------------------------------------------------------------


def test_one_event_beyond_the_limit_ends_a_stream_after_an_error() -> None:
    node = remembering(max_queue_size=4)
    slow, healthy = node.stream("t", "u"), node.stream("t")
    node.tick()
    slow.transport.room = 10
    publish(node, "t", 0, 1, 2, 3, 4)
    assert slow.client.open
    publish(node, "t", 5)
    assert not slow.client.open
    assert node.topics() == {"t": 1, "u": 0}
    assert len(healthy.hear()) == 1 + 6
    slow.drain()
    heard = slow.hear()
    # The id is before the dropped events, so a client that reconnects recovers them.
    assert brief(heard)[2:] == [("a:1,b:0", 0), ("a:1,b:0", "SLOW_CONSUMER")]
    assert slow.transport.ended == "close"
    back = node.stream("t", "u", last_id=slow.listener.last_id)
    assert [word(it.message) for it in back.hear()[2:]] == [1, 2, 3, 4, 5]


def test_a_stream_that_does_not_read_its_end_is_cut_in_ten_seconds() -> None:
    node = Node(Settings(max_queue_size=1))
    slow = node.stream("t")
    node.tick()
    slow.transport.room = 10
    publish(node, "t", 0, 1, 2)
    node.visit_all(100.0)
    node.visit_all(109.0)
    assert slow.transport.ended == ""
    node.visit_all(110.0)
    assert slow.transport.ended == "abort"


def test_drop_oldest_reports_dropped_events_with_an_id_before_the_next() -> None:
    node = remembering(max_queue_size=3, backpressure="drop_oldest")
    slow = node.stream("t", "u")
    slow.hear()
    slow.transport.room = 10
    publish(node, "t", 0, 1, 2)
    publish(node, "u", "u")
    publish(node, "t", 3, 4)
    slow.drain()
    assert brief(slow.hear()) == [
        ("a:1,b:0", 0),
        ("a:1,b:1", "u"),
        ("a:3,b:1", gap(2, epoch="a", offset=3)),
        ("a:4,b:1", 3),
        ("a:5,b:1", 4),
    ]


def test_drop_oldest_without_history_reports_the_number() -> None:
    node = Node(Settings(max_queue_size=1, backpressure="drop_oldest"))
    slow = node.stream("t")
    slow.hear()
    slow.transport.room = 10
    publish(node, "t", 0, 1, 2, 3)
    slow.drain()
    assert brief(slow.hear()) == [("", 0), ("", gap(2)), ("", 3)]


def test_queued_events_are_shared_by_all_streams_of_a_topic_and_bounded_in_bytes() -> None:
    node = Node(Settings(max_queue_bytes=2_048))
    slow = node.stream("t")
    slow.hear()
    slow.transport.room = 10
    publish(node, "t", "x" * 1_200)
    publish(node, "t", "y" * 500)
    assert slow.client.open
    publish(node, "t", "z" * 500)
    slow.drain()
    assert [it[1] for it in brief(slow.hear())] == ["x" * 1_200, "SLOW_CONSUMER"]


# --- End ------------------------------------------------------------------------------------------


def test_a_stream_ends_with_the_last_of_its_topics() -> None:
    node = remembering()
    stream, other = node.stream("t", "u"), node.stream("t")
    for stays in (stream, other):
        stays.hear()
    node.broker.delete("t", lambda _: None)
    assert brief(stream.hear()) == [("a:0,b:0", "Topic has been deleted")]
    assert brief(other.hear()) == [("a:0", "Topic has been deleted")]
    assert (stream.transport.ended, other.transport.ended) == ("", "close")
    publish(node, "u", 1)
    node.broker.delete("u", lambda _: None)
    assert brief(stream.hear()) == [("a:0,b:1", 1), ("a:0,b:1", "Topic has been deleted")]
    assert stream.transport.ended == "close"


def test_a_deletion_ends_a_stream_that_recovers_or_is_slow() -> None:
    node = remembering()
    slow = node.stream("t")
    slow.hear()
    slow.transport.room = 0
    publish(node, "t", 1, 2)
    behind = node.stream("t", last_id="a:0")
    node.broker.delete("t", lambda _: None)
    assert brief(behind.hear())[1:] == [("a:0", "Topic has been deleted")]
    assert behind.transport.ended == "close"
    slow.drain()
    assert brief(slow.hear())[2:] == [("a:2", "Topic has been deleted")]
    assert slow.transport.ended == "close"


def test_a_stream_that_waits_for_another_topic_outlives_a_deletion() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    stream = node.stream("t", "u")
    broker.complete()
    broker.delete("t", lambda _: None)
    broker.complete_last()
    assert brief(stream.hear()) == [("", "ack"), ("", "Topic has been deleted")]
    assert stream.transport.ended == ""
    broker.complete()
    assert brief(stream.hear()) == [("", "ack")]


@pytest.mark.parametrize("room", [None, 100])
def test_a_shutdown_is_reported_and_ends_the_stream_after_queued_events(room: int | None) -> None:
    node = Node()
    stream = node.stream("t", room=room)
    stream.hear()
    node.publish("t", 1)
    node.drain.begin()
    stream.drain()
    told = [it[1] for it in brief(stream.hear())]
    assert any(str(it).startswith("Server is shutting down") for it in told)
    assert 1 in told
    assert 0 <= stream.listener.retry <= 2
    assert stream.transport.ended == "close"


def test_a_pending_subscribe_of_a_stream_is_answered_before_the_shutdown() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    stream = node.stream("t", "u")
    node.drain.begin()
    broker.complete()
    assert [it[1][:6] for it in brief(stream.hear())] == ["Server", "ack"]
    broker.complete()
    assert brief(stream.hear()) == [("", "ack")]
    assert stream.transport.ended == "close"


def test_a_refusal_of_the_broker_is_reported_and_ends_the_stream() -> None:
    asked: list[str] = []

    class Refusing(RefusingBroker):
        def subscribe(self, topic: str, done: Any) -> None:
            asked.append(topic)
            super().subscribe(topic, done)

    node = Node(broker=Refusing())
    stream = node.stream("t", "u")
    assert brief(stream.hear()) == [("", "TOPIC_NOT_FOUND")]
    assert stream.transport.ended == "close"
    assert node.topics() == {}
    assert asked == ["t"]


def test_a_refusal_of_one_topic_ends_the_others_too() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    stream = node.stream("t", "u", "v")
    broker.complete()
    broker.refusal = Refusal(ErrorCode.UNAVAILABLE, "away")
    broker.complete_all()
    assert brief(stream.hear()) == [("", "ack"), ("", "UNAVAILABLE")]
    assert stream.transport.ended == "close"
    assert node.topics() == {}


def test_a_stream_that_ends_before_the_brokers_answer_is_not_subscribed() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    stream = node.stream("t")
    node.hub.leave(stream.client)
    broker.complete()
    assert node.topics() == {}
    assert stream.transport.writes == 0


def test_an_ack_is_degraded_during_an_outage() -> None:
    class Away(MemoryBroker):
        def subscribe(self, topic: str, done: Any) -> None:
            super().subscribe(topic, lambda _: done(SubscribeResult(degraded=True)))

    (said,) = Node(broker=Away()).stream("t").hear()
    assert said.message["degraded"] is True


def test_a_half_closed_connection_ends_the_stream() -> None:
    node = Node()
    stream = node.stream("t")
    node.publish("t", 1)
    node.hub.client_closed(stream.client, b"")  # as the connection does
    assert [it[1] for it in brief(stream.hear())] == ["ack", 1]
    assert stream.transport.ended == "close"


# --- Signs of life --------------------------------------------------------------------------------


def test_a_comment_is_sent_every_54_seconds_without_an_answer() -> None:
    node = Node()
    stream = node.stream("t")
    for second in range(54 * 4):
        node.visit_all(float(second))
        publish(node, "t", second)  # messages to the stream are no signs of life
    assert len(stream.hear()) == 1 + 54 * 4
    assert stream.listener.comments == 3
    assert stream.transport.ended == ""


def test_a_transport_closed_without_notice_affects_only_its_own_stream() -> None:
    def closed(data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    node = Node()
    streams = [node.stream("t", "u") for _ in range(3)]
    node.tick()
    streams[1].transport.write = closed  # type: ignore[method-assign]
    publish(node, "t", 1)
    for stream in (streams[0], streams[2]):
        assert [word(it.message) for it in stream.hear()] == ["ack", "ack", 1]
    assert node.topics() == {"t": 2, "u": 2}


# --- Query ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "last_id", "code"),
    [
        ("", "", "INVALID_TOPIC"),
        ("topic=", "", "INVALID_TOPIC"),
        ("topic=t topic=t", "", "INVALID_TOPIC"),
        ("topic=" + "x" * 256, "", "INVALID_TOPIC"),
        (" ".join(f"topic={it}" for it in range(MAX_STREAM_TOPICS + 1)), "", "INVALID_TOPIC"),
        ("topic=t last_n=-1", "", "INVALID_MESSAGE"),
        ("topic=t last_n=many", "", "INVALID_MESSAGE"),
        ("topic=t", "a", "INVALID_MESSAGE"),
        ("topic=t", "a:", "INVALID_MESSAGE"),
        ("topic=t", ":1", "INVALID_MESSAGE"),
        ("topic=t", "a:-1", "INVALID_MESSAGE"),
        ("topic=t", "a:1 ", "INVALID_MESSAGE"),
        ("topic=t", "a:\u0661", "INVALID_MESSAGE"),
        ("topic=t", "a:1,b:1", "INVALID_MESSAGE"),
        ("topic=t topic=u", "a:1", "INVALID_MESSAGE"),
        ("topic=t topic=u", "a:1,", "INVALID_MESSAGE"),
        ("topic=t last_event_id=a", "", "INVALID_MESSAGE"),
        ("topic=t last_event_id=a:1", "b", "INVALID_MESSAGE"),
        ("topic=t last_event_id=b", "a:1", "INVALID_MESSAGE"),
        ("topic=t last_event_id=a:1,a:1", "a:1", "INVALID_MESSAGE"),
    ],
)
def test_an_invalid_query_is_refused(query: str, last_id: str, code: str) -> None:
    fields = [tuple(field.split("=")) for field in query.split()]
    refusal = decode_stream_query(fields, last_id, 255)  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


def test_the_id_of_the_header_overrides_that_of_the_query() -> None:
    query = [("topic", "t"), ("topic", "u"), ("last_event_id", "a:1,-"), ("colour", "red")]
    by_query, by_header = (decode_stream_query(query, header, 255) for header in ("", "-,b:2"))
    assert not isinstance(by_query, Refusal)
    assert not isinstance(by_header, Refusal)
    assert [by_query.recover_from(0), by_query.recover_from(1)] == [("a", 1), None]
    assert [by_header.recover_from(0), by_header.recover_from(1)] == [None, ("b", 2)]


def test_a_stream_may_have_sixteen_topics() -> None:
    node = remembering(size=1)
    topics = [f"t{number}" for number in range(MAX_STREAM_TOPICS)]
    stream = node.stream(*topics)
    for topic in topics:
        publish(node, topic, topic)
    heard = stream.hear()
    assert len(heard) == 2 * MAX_STREAM_TOPICS
    for before, after in pairwise(it.id for it in heard):
        assert sum(a != b for a, b in zip(before.split(","), after.split(","), strict=True)) == 1
    assert heard[-1].id == ",".join(f"{epoch}:1" for epoch in "abcdefghijklmnop")
