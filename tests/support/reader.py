"""Model clients that recover, and check that no loss is unreported."""

from typing import Any

from tests.support.node import Peer, StreamPeer


class Truth:
    """The event at each position; all clients must receive the same one."""

    def __init__(self) -> None:
        self._payloads: dict[tuple[str, int], Any] = {}

    def said(self, epoch: str, offset: int, payload: Any) -> None:
        """Record the event at a position, as published or received."""
        assert self._payloads.setdefault((epoch, offset), payload) == payload, (epoch, offset)


class Reader:
    """A WebSocket client that keeps the position of each topic, and checks every message."""

    def __init__(self, truth: Truth) -> None:
        self.peer: Peer | None = None
        self.subscribed: set[str] = set()
        self.asked = 0  # number of unanswered subscribes
        self.positions: dict[str, tuple[str, int]] = {}
        self._truth = truth

    def connect(self, peer: Peer) -> None:
        """Use a new connection."""
        self.peer = peer
        self.subscribed.clear()
        self.asked = 0

    @property
    def open(self) -> bool:
        return self.peer is not None and self.peer.client.open

    def subscribe(self, topic: str, recover: bool) -> None:
        assert self.peer is not None
        request: dict[str, Any] = {"type": "subscribe", "request_id": "subscribe", "topic": topic}
        if recover and topic in self.positions:
            epoch, offset = self.positions[topic]
            request["recover"] = {"epoch": epoch, "offset": offset}
        self.asked += 1
        self.peer.say(request)

    def listen(self) -> None:
        assert self.peer is not None
        for message in self.peer.hear():
            if isinstance(message, tuple):
                continue  # a Close: the client was too slow
            topic = message.get("topic")
            if message.get("request_id") == "subscribe":
                self.asked -= 1
                if message["type"] == "ack":  # else Redis is out of reach
                    self._acked(topic, message)
            elif message["type"] == "event":
                epoch, offset = self.positions[topic]
                assert message["offset"] == offset + 1
                self._truth.said(epoch, offset + 1, message["message"]["payload"])
                self.positions[topic] = (epoch, offset + 1)
            elif message["type"] == "info":
                self._told(topic, message["message"]["payload"])

    def _told(self, topic: str, told: Any) -> None:
        if told == "Topic has been deleted":
            self.subscribed.discard(topic)
            return
        assert told["reason"] == "GAP"
        epoch, offset = self.positions[topic]
        if told["epoch"] == epoch:
            assert told["offset"] > offset
            assert told.get("dropped", told["offset"] - offset) == told["offset"] - offset
        self.positions[topic] = (told["epoch"], told["offset"])

    def _acked(self, topic: str, ack: Any) -> None:
        here = (ack["epoch"], ack["offset"])
        if topic in self.subscribed:  # it has its position already
            assert ack.get("recovered") is not True
            return
        self.subscribed.add(topic)
        if ack.get("recovered"):
            assert self.positions[topic][0] == here[0]
            assert self.positions[topic][1] <= here[1]
        else:
            self.positions[topic] = here


class StreamReader:
    """A client of an event stream that keeps the last id, and checks every message."""

    def __init__(self, truth: Truth) -> None:
        self.peer: StreamPeer | None = None
        self.topics: tuple[str, ...] = ()
        self.last_id = ""
        self._truth = truth
        self._acked: set[str] = set()

    def begin(self, peer: StreamPeer, topics: tuple[str, ...]) -> None:
        """Use a new stream; without `Last-Event-ID` it begins at the current position."""
        self.peer, self.topics, self.last_id = peer, topics, peer.listener.last_id
        self._acked.clear()

    def listen(self, count: int | None = None) -> None:
        """Handle all messages that have arrived, or `count` of them."""
        assert self.peer is not None
        for said in self.peer.hear(count):
            before, self.last_id = self.last_id, said.id
            topic, message = said.message.get("topic"), said.message
            if topic is None:
                continue  # the last message
            here, there = self.place(topic), self._place(before, topic)
            if message["type"] == "ack":
                assert topic not in self._acked
                self._acked.add(topic)
                given = self._place(self.peer.given, topic)
                assert message.get("recovered") in ((True, False) if given else (None,))
                assert here == (given if message.get("recovered") else position(message))
            elif message["type"] == "event":
                assert there is not None
                assert here == (there[0], there[1] + 1)
                self._truth.said(*here, message["message"]["payload"])
            elif "reason" in message["message"]["payload"]:
                told = message["message"]["payload"]
                assert there is not None
                assert here == position(told)
                assert told.get("dropped", 0) in (0, told["offset"] - there[1])

    def place(self, topic: str) -> tuple[str, int] | None:
        """Return the position in a topic."""
        return self._place(self.last_id, topic)

    def _place(self, last_id: str, topic: str) -> tuple[str, int] | None:
        part = dict(zip(self.topics, last_id.split(","), strict=False)).get(topic, "")
        epoch, _, offset = part.partition(":")
        return (epoch, int(offset)) if offset else None


def position(message: Any) -> tuple[str, int]:
    return message["epoch"], message["offset"]
