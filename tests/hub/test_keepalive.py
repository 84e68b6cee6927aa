"""The keepalive, with a clock that the test sets."""

from hub.delivery.keepalive import SLICES
from hub.protocol.websocket_frames import PING, PONG
from tests.support.node import Node


def test_a_silent_client_is_pinged_after_54_seconds_and_cut_after_60() -> None:
    node = Node()
    peer = node.connect()
    node.visit_all(0.0)
    node.visit_all(53.9)
    assert peer.frames() == []
    node.visit_all(54.0)
    assert peer.frames() == [(PING, b"")]
    node.visit_all(55.0)
    assert peer.frames() == []  # no second ping
    node.visit_all(59.9)
    assert peer.transport.ended == ""
    node.visit_all(60.0)
    assert peer.transport.ended == "abort"


def test_any_frame_is_a_sign_of_life() -> None:
    node = Node()
    peer = node.connect()
    node.visit_all(0.0)
    node.visit_all(54.0)
    peer.client.liveness.heard = True  # as the connection sets it for every frame, such as a pong
    node.visit_all(55.0)
    node.visit_all(108.0)
    assert peer.frames() == [(PING, b"")]
    node.visit_all(109.0)
    assert peer.frames() == [(PING, b"")]
    node.visit_all(115.0)
    assert peer.transport.ended == "abort"


def test_any_number_of_clients_is_visited_once_in_a_round() -> None:
    node = Node()
    peers = [node.connect() for _ in range(3 * SLICES + 1)]
    node.visit_all(0.0)
    node.visit_all(54.0)
    assert [peer.frames() for peer in peers] == [[(PING, b"")]] * len(peers)


def test_a_client_that_left_within_the_round_is_not_visited() -> None:
    node = Node()
    _, peer = node.connect(), node.connect()
    node.visit_all(0.0)
    node.visit_all(54.0)
    node.keepalive.sweep(60.0)  # the first of the two
    node.hub.leave(peer.client)
    node.visit_all(60.0)
    assert peer.transport.ended == ""


def test_a_new_client_is_visited_from_the_next_round_on() -> None:
    node = Node()
    node.connect()
    node.visit_all(0.0)
    newcomer = node.connect()
    node.visit_all(1.0)
    node.visit_all(55.0)
    assert newcomer.frames() == [(PING, b"")]


def test_pongs_and_pings_of_others_do_not_count() -> None:
    node = Node()
    silent, lively = node.connect(), node.connect()
    node.visit_all(0.0)
    for second in range(1, 61):
        lively.client.liveness.heard = True
        node.visit_all(float(second))
    assert silent.transport.ended == "abort"
    assert lively.transport.ended == ""
    assert all(opcode != PONG for opcode, _ in lively.frames())


def test_no_client_is_cut_without_a_ping() -> None:
    """The time between two visits may be longer than both timeouts."""
    node = Node()
    peer = node.connect()
    node.visit_all(0.0)
    node.visit_all(1_000.0)
    assert peer.frames() == [(PING, b"")]
    assert peer.transport.ended == ""
    node.visit_all(1_001.0)
    assert peer.transport.ended == "abort"
