"""An encoding of a test's own: netstrings, whose first byte is a digit and last byte a comma."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from hub.brokers.memory import MemoryBroker
from hub.delivery.framing import WebSocketFraming
from hub.settings import Settings
from hub.values import Position, Rule
from tests.support.node import Node, Peer


class NetstringEncoding:
    personal = False

    def events(self, events: Sequence[bytes], epoch: str) -> list[bytes]:
        return [self.message(event) for event in events]

    def message(self, message: bytes) -> bytes:
        return b"%d:%b," % (len(message), message)

    def message_at(self, message: bytes, position: Position) -> bytes:
        return self.message(message)


NETSTRINGS = NetstringEncoding()


class NetstringFraming(WebSocketFraming):
    encoding = NETSTRINGS


def payloads(peer: Peer) -> list[Any]:
    """End the tick, and return the payloads of the events and notices since the last call."""
    peer.transport.drain()
    written, heard = peer.transport.written, []
    while written:
        size, _, _ = written.partition(b":")
        begin = len(size) + 1
        end = begin + int(size)
        assert written[end : end + 1] == b","
        heard.append(json.loads(written[begin:end])["message"]["payload"])
        del written[: end + 1]
    return heard


@pytest.mark.parametrize("room", [None, 0])
def test_every_event_arrives_in_order(room: int | None) -> None:
    node = Node()
    peer = subscribed(node)
    peer.transport.room = room
    for payload in range(5):
        node.publish("t", payload)
        node.tick()
    assert payloads(peer) == [0, 1, 2, 3, 4]


def test_dropped_events_are_reported_with_their_position() -> None:
    rules = {"": Rule(10, 300.0, 1_000_000)}
    settings = Settings(max_queue_size=2, backpressure="drop_oldest")
    node = Node(settings, MemoryBroker(lambda: 0.0, rules, lambda: "a"))
    peer = subscribed(node)
    peer.transport.room = 0
    for payload in range(1, 7):
        node.publish("t", payload)
        node.tick()
    gap = {"reason": "GAP", "dropped": 3, "epoch": "a", "offset": 4}
    assert payloads(peer) == [1, gap, 5, 6]


def test_events_dropped_around_an_ack_are_reported_in_their_places() -> None:
    node = Node(Settings(max_queue_size=1, backpressure="drop_oldest"))
    peer = subscribed(node)
    peer.transport.room = 0
    for payload in range(3):
        node.publish("t", payload)
        node.tick()
    node.hub.unsubscribe(peer.client, "t")
    node.hub.subscribe(peer.client, "t", lambda _: None)
    for payload in range(3, 5):
        node.publish("t", payload)
        node.tick()
    assert payloads(peer) == [
        0,
        {"reason": "GAP", "dropped": 2},
        {"reason": "GAP", "dropped": 1},
        4,
    ]


def subscribed(node: Node) -> Peer:
    """Return a new client of the encoding that is subscribed to a topic."""
    peer = node.connect(framing=NetstringFraming())
    node.hub.subscribe(peer.client, "t", lambda _: None)
    return peer
