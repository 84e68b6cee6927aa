"""The slices in which a connection's frames are handled, and the timeout of messages."""

import gc

import pytest

from hub.protocol.websocket_frames import SLICE_FRAMES, FrameReader
from hub.settings import Settings
from tests.support.brokers import DeferredBroker
from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame
from tests.support.node import Node
from tests.support.objects import objects_of

MANY = 10 * SLICE_FRAMES
FLOODS = {
    "pings": client_frame(PING),
    "messages": client_frame(TEXT, b'{"type":"ping"}'),
    "empty messages": client_frame(TEXT),
    "binary messages": client_frame(BINARY),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_answered_one_slice_a_turn(flood: bytes) -> None:
    node = Node()
    loud, quiet = node.connection(), node.connection()
    loud.send(flood * MANY)
    assert not loud.transport.reading
    node.turn()
    assert len(loud.frames()) <= 2 * SLICE_FRAMES
    quiet.send(client_frame(PING, b"?"))
    node.turn()
    assert quiet.frames() == [(PONG, b"?")]
    turns, answers = 0, 0
    while not loud.transport.reading:
        node.turn()
        turns += 1
        answers += len(loud.frames())
    assert turns >= MANY // SLICE_FRAMES - 4
    node.tick()
    answers += len(loud.frames())
    assert answers > MANY - 4 * SLICE_FRAMES


def test_fragments_count_as_frames() -> None:
    node = Node()
    loud = node.connection()
    loud.send(client_frame(TEXT, b"", fin=False))
    loud.send(client_frame(0, b"", fin=False) * MANY)
    assert not loud.transport.reading
    node.tick()
    assert loud.transport.reading
    assert loud.frames() == []


def test_a_slice_has_fewer_large_messages() -> None:
    node = Node()
    loud = node.connection()
    loud.send(client_frame(TEXT, b" " * 60_000 + b'{"type":"ping"}') * 20)
    node.turn()
    assert 0 < len(loud.frames()) <= 10
    node.tick()
    assert loud.transport.reading


def test_answers_keep_the_order_of_commands_across_slices() -> None:
    node = Node()
    peer = node.connection()
    peer.send(b"".join(client_frame(PING, b"%d" % number) for number in range(MANY)))
    node.tick()
    assert peer.frames() == [(PONG, b"%d" % number) for number in range(MANY)]


def test_many_floods_take_turns() -> None:
    node = Node()
    loud = [node.connection() for _ in range(50)]
    for peer in loud:
        peer.send(client_frame(PING) * MANY)
    node.turn()  # each read's own slice, and those of the first few
    for peer in loud:
        peer.frames()
    node.turn()
    assert sum(len(peer.frames()) for peer in loud) <= 8 * SLICE_FRAMES
    node.tick()
    assert all(peer.transport.reading for peer in loud)


def test_a_client_that_awaits_the_broker_is_read_on_after_the_answer() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    peer = node.connection()
    peer.send(client_frame(TEXT, b'{"type":"subscribe","topic":"t"}'))
    broker.complete_all()
    node.tick()
    assert len(peer.frames()) == 1
    publish = client_frame(TEXT, b'{"type":"publish","topic":"t","payload":1}')
    peer.send(publish * MANY)
    node.tick()
    assert not peer.transport.reading
    answers = 0
    while not peer.transport.reading:
        assert 0 < len(broker) <= SLICE_FRAMES
        broker.complete_all()
        node.tick()
        answers += len(peer.frames())
    assert answers == 2 * MANY  # an ack and an event each


def test_frames_after_a_close_are_ignored_in_later_slices() -> None:
    node = Node()
    peer = node.connection()
    close = client_frame(CLOSE, b"\x03\xe8")
    peer.send(client_frame(PING) * SLICE_FRAMES + close + client_frame(PING) * MANY)
    node.tick()
    assert peer.frames()[-1] == (CLOSE, b"\x03\xe8")
    assert len(node.hub.clients) == 1


def test_the_frames_of_a_lost_connection_are_ignored() -> None:
    node = Node()
    peer = node.connection()
    publish = client_frame(TEXT, b'{"type":"ping"}')
    peer.send(publish * MANY)
    peer.connection.connection_lost(None)
    node.tick()
    assert peer.frames() == []
    assert not node.hub.clients


def test_a_connection_that_is_lost_is_freed_with_what_was_not_read() -> None:
    """It needs no garbage collection, which is rare in the server."""
    node = Node()
    gc.collect()
    before = readers()
    gc.disable()
    try:
        peer = node.connection()
        peer.send(client_frame(PING) * MANY)
        peer.connection.connection_lost(None)
        node.tick()
        assert readers() == before + 1
        del peer
        assert readers() == before
    finally:
        gc.enable()


def readers() -> int:
    return len(objects_of(FrameReader))


# A message that never ends.


@pytest.mark.parametrize(
    "start",
    [
        client_frame(TEXT, b"x" * 1_000)[:-1],
        client_frame(TEXT, b"x", fin=False),
        client_frame(TEXT, b"x")[:1],
    ],
    ids=["in a frame", "between fragments", "in a header"],
)
def test_an_unfinished_message_is_closed_with_3008(start: bytes) -> None:
    node = Node(Settings(message_timeout=5.0))
    peer = node.connection()
    peer.send(start)
    node.visit_all(100.0)
    node.visit_all(104.9)
    assert peer.frames() == []
    node.visit_all(105.0)
    (code, payload) = peer.frames()[-1]
    assert (code, payload) == (CLOSE, (3008).to_bytes(2, "big") + b"message_timeout")


def test_pongs_do_not_extend_the_timeout_of_a_fragmented_message() -> None:
    node = Node(Settings(message_timeout=5.0))
    peer = node.connection()
    peer.send(client_frame(TEXT, b"x", fin=False))
    for second in range(5):
        node.visit_all(100.0 + second)
        peer.send(client_frame(PONG))
        assert peer.frames() == []
    node.visit_all(105.0)
    assert peer.frames()[-1][0] == CLOSE


def test_each_message_has_its_own_timeout() -> None:
    node = Node(Settings(message_timeout=5.0))
    peer = node.connection()
    whole = client_frame(TEXT, b'{"type":"ping"}')
    peer.send(whole[:3])
    for second in range(20):
        node.visit_all(100.0 + second)
        peer.send(whole[3:] + whole[:3])  # always one that has begun
    assert {opcode for opcode, _ in peer.frames()} == {TEXT}


@pytest.mark.parametrize("pause", [0.5, 60.0])
def test_the_timeout_of_a_message_ends_with_it(pause: float) -> None:
    """Each visit of the keepalive finds another unfinished message."""
    node = Node(Settings(message_timeout=5.0))
    peer = node.connection()
    whole = client_frame(TEXT, b'{"type":"ping"}')
    for number in range(20):
        peer.send(whole[:3])
        node.visit_all(100.0 + pause * number)
        peer.send(whole[3:])
    assert {opcode for opcode, _ in peer.frames()} <= {TEXT, PING}


def test_the_timeout_does_not_run_while_reading_is_paused() -> None:
    broker = DeferredBroker()
    node = Node(Settings(message_timeout=5.0), broker)
    peer = node.connection()
    subscribe = client_frame(TEXT, b'{"type":"subscribe","topic":"t"}')
    peer.send(subscribe * 2 + subscribe[:5])
    assert not peer.transport.reading
    for second in (0.0, 5.0, 10.0):
        node.visit_all(100.0 + second)
    assert peer.frames() == []
    broker.complete_all()
    node.tick()
    peer.send(subscribe[5:])
    node.tick()
    assert [opcode for opcode, _ in peer.frames()] == [TEXT] * 3
