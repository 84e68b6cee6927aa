"""Log lines about connections, with the reason for each end."""

import logging
import time
from collections.abc import Callable
from functools import partial

import pytest

from hub.errors import FAULTS, REASONS, ErrorCode
from hub.event_log import MANY, MANY_IN, EventLog
from hub.logs import events
from hub.settings import Settings
from tests.support.frames import CLOSE, PING, TEXT, client_frame
from tests.support.logs import fields, records, said
from tests.support.node import Node, Peer, Wired

SUBSCRIBE = client_frame(TEXT, b'{"type":"subscribe","topic":"t"}')


def lose(node: Node, peer: Wired) -> None:
    peer.connection.connection_lost(None)


def close(node: Node, peer: Wired) -> None:
    peer.send(client_frame(CLOSE, b"\x03\xe8"))
    lose(node, peer)


def half_close(node: Node, peer: Wired) -> None:
    peer.connection.eof_received()
    lose(node, peer)


def break_the_protocol(node: Node, peer: Wired) -> None:
    peer.send(client_frame(TEXT, b"{}", masked=False))
    lose(node, peer)


def send_no_utf8(node: Node, peer: Wired) -> None:
    peer.send(client_frame(TEXT, b"\xff"))
    lose(node, peer)


def send_too_much(node: Node, peer: Wired) -> None:
    peer.send(client_frame(TEXT, b"x" * 200))
    lose(node, peer)


def send_too_fast(node: Node, peer: Wired) -> None:
    for now in (0.0, 2.0, 4.0, 6.0, 8.0, 10.0):
        node.hub.clock = partial(float, now)
        peer.send(client_frame(TEXT, b"{}") * 5)
    lose(node, peer)


def never_finish(node: Node, peer: Wired) -> None:
    peer.send(client_frame(TEXT, b"{}")[:1])
    node.visit_all(0.0)
    node.visit_all(30.0)
    lose(node, peer)


def fall_silent(node: Node, peer: Wired) -> None:
    for now in (0.0, 54.0, 60.0):
        node.visit_all(now)
    lose(node, peer)


def take_nothing(node: Node, peer: Wired) -> None:
    peer.transport.room = 0
    peer.send(client_frame(PING))
    for now in (0.0, 1.0, 12.0):
        node.visit_all(now)
    lose(node, peer)


def read_too_slowly(node: Node, peer: Wired) -> None:
    peer.send(SUBSCRIBE)
    node.tick()
    peer.transport.room = 0
    for number in range(4):
        node.publish("t", number)
        node.tick()
    lose(node, peer)


def stay_to_the_end(node: Node, peer: Wired) -> None:
    node.drain.begin()
    lose(node, peer)


WIRED = {
    "connection": 1,
    "address": "192.0.2.7",
    "peer": "192.0.2.7:50000",
    "client_id": "wired",
}
ENDS: dict[Callable[[Node, Wired], None], str] = {
    lose: "lost",
    close: "left",
    half_close: "left",
    break_the_protocol: "protocol_error",
    send_no_utf8: "invalid_utf8",
    send_too_much: "too_big",
    send_too_fast: "rate_limited",
    never_finish: "message_timeout",
    fall_silent: "idle_timeout",
    take_nothing: "write_timeout",
    read_too_slowly: "slow_consumer",
    stay_to_the_end: "going_away",
}


@pytest.mark.parametrize(
    ("end", "reason"), ENDS.items(), ids=lambda it: getattr(it, "__name__", it)
)
def test_each_end_of_a_connection_is_logged_with_its_reason(
    end: Callable[[Node, Wired], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = Settings(
        max_message_bytes=128, max_queue_size=2, require_client_id=False, message_rate=2
    )
    node = Node(settings, observer=EventLog(time.monotonic))
    end(node, node.connection())
    (line,) = [*records(caplog, events.ENDED), *records(caplog, events.FAILED)]
    seconds = line.__dict__["fields"]["seconds"]
    assert fields(line) == {**WIRED, "reason": reason, "seconds": seconds}
    assert line.levelno == (logging.INFO if reason in FAULTS else logging.DEBUG)


def test_every_reason_of_a_websocket_is_tested_above() -> None:
    of_streams = {"topic_deleted", "refused"}
    of_access = {"unauthorized", "token_expired", "disconnected", "forbidden", "auth_timeout"}
    assert REASONS - of_streams - of_access - {"internal_error"} == set(ENDS.values())


def test_the_end_of_a_stream_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    node = Node(observer=EventLog(time.monotonic))
    stream = node.stream("t")
    node.tick()
    node.broker.delete("t", lambda _: None)
    node.tick()
    node.hub.leave(stream.client)
    stream_ = "connection=1 address=192.0.2.7 peer=192.0.2.7:50000"
    assert said(caplog) == [
        f"connection begun: {stream_}",
        f"subscribed: {stream_} topic=t",
        f"unsubscribed: {stream_} topic=t",
        f"connection ended: {stream_} reason=topic_deleted seconds=0",
    ]


def test_a_subscribe_that_is_repeated_is_not_reported_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    node = Node(observer=EventLog(time.monotonic))
    peer = node.subscribed("t")
    peer.say({"type": "subscribe", "topic": "t", "client_id": "me"})
    assert [message["type"] for message in peer.hear()] == ["ack"]
    assert len(records(caplog, events.SUBSCRIBED)) == 1


def test_a_name_with_line_breaks_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    node = Node(Settings(require_client_id=False), observer=EventLog(time.monotonic))
    peer = node.connect("ann\nERROR forged")
    peer.say({"type": "subscribe", "topic": "t\nERROR forged"})
    lines = said(caplog)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


# --- What needs attention -------------------------------------------------------------------------


def congested(backpressure: str) -> tuple[Node, Peer]:
    """Return a node, and a subscriber that has read nothing of five events."""
    settings = Settings(max_queue_size=2, backpressure=backpressure)
    node = Node(settings, observer=EventLog(time.monotonic))
    peer = node.subscribed("t", room=0)
    for number in range(5):
        node.publish("t", number)
        node.tick()
    return node, peer


@pytest.mark.parametrize("backpressure", ["disconnect", "drop_oldest"])
def test_a_slow_consumer_is_one_warning(
    backpressure: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    node, peer = congested(backpressure)
    node.hub.leave(peer.client)
    first, *others = records(caplog)
    assert first.levelno == logging.WARNING
    assert fields(first)["action"] == backpressure
    assert fields(first)["connection"] == 1
    # One whose events were dropped was lost only later.
    reasons = [fields(it)["reason"] for it in others]
    assert reasons == (["lost"] if backpressure == "drop_oldest" else [])


def test_a_consumer_that_becomes_slow_again_is_another_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, peer = congested("drop_oldest")
    peer.transport.drain()
    peer.transport.drain(0)
    for number in range(5):
        node.publish("t", number)
        node.tick()
    assert len(records(caplog, events.SLOW_CONSUMER)) == 2


def test_a_blocked_event_loop_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(time.monotonic)
    for seconds in (0.0, 0.99, 2.5):
        log.lagged(seconds)
    (line,) = said(caplog)
    assert line == "event loop was blocked: seconds=2.5"


def refuse(log: EventLog, count: int) -> None:
    for _ in range(count):
        log.refused(ErrorCode.UNAUTHORIZED)
        log.refused(ErrorCode.INVALID_TOPIC)


def test_many_refused_credentials_are_one_warning_until_they_are_few(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = EventLog(lambda: now)
    refuse(log, MANY - 1)
    assert said(caplog) == []
    now = 30.0
    refuse(log, 5 * MANY)
    assert said(caplog) == [f"many invalid credentials: count={MANY} seconds=30"]
    for _ in range(5):
        now += MANY_IN
        refuse(log, 2 * MANY)
    assert len(said(caplog)) == 1
    now += MANY_IN
    refuse(log, MANY - 1)
    assert len(said(caplog)) == 1
    now += MANY_IN
    refuse(log, MANY)
    assert len(said(caplog)) == 2
    now += 10 * MANY_IN
    refuse(log, MANY)
    assert len(said(caplog)) == 3


def test_few_refused_credentials_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = EventLog(lambda: now)
    for _ in range(10):
        refuse(log, MANY - 1)
        now += MANY_IN
    assert said(caplog) == []
