"""Log lines about connections, with the reason for each end."""

import logging
from collections.abc import Callable
from functools import partial

import pytest

from hub.errors import FAULTS, REASONS
from hub.event_log import EventLog
from hub.settings import Settings
from tests.support.frames import CLOSE, PING, TEXT, client_frame
from tests.support.node import Node, Wired

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
    node = Node(settings, observer=EventLog())
    end(node, node.connection())
    ended = [record for record in caplog.records if "ended" in record.message]
    assert [record.message for record in ended] == [
        f"connection 1 from 192.0.2.7:50000 ('wired') ended: {reason}"
    ]
    assert ended[0].levelno == (logging.INFO if reason in FAULTS else logging.DEBUG)


def test_every_reason_of_a_websocket_is_tested_above() -> None:
    of_streams = {"topic_deleted", "refused"}
    of_access = {"unauthorized", "token_expired", "disconnected", "forbidden", "auth_timeout"}
    assert REASONS - of_streams - of_access - {"internal_error"} == set(ENDS.values())


def test_the_end_of_a_stream_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    node = Node(observer=EventLog())
    stream = node.stream("t")
    node.tick()
    node.broker.delete("t", lambda _: None)
    node.tick()
    node.hub.leave(stream.client)
    assert caplog.messages == [
        "connection 1 from 192.0.2.7:50000 connected",
        "connection 1 from 192.0.2.7:50000 subscribed to 't'",
        "connection 1 from 192.0.2.7:50000 unsubscribed from 't'",
        "connection 1 from 192.0.2.7:50000 ended: topic_deleted",
    ]


def test_a_subscribe_that_is_repeated_is_not_reported_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    node = Node(observer=EventLog())
    peer = node.subscribed("t")
    peer.say({"type": "subscribe", "topic": "t", "client_id": "me"})
    assert [message["type"] for message in peer.hear()] == ["ack"]
    assert sum("subscribed to" in message for message in caplog.messages) == 1


def test_a_name_with_line_breaks_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    node = Node(observer=EventLog())
    peer = node.connect("ann\nERROR forged")
    peer.say({"type": "subscribe", "topic": "t\nERROR forged"})
    assert all("\n" not in message for message in caplog.messages)
