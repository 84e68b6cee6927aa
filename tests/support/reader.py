"""A client that recovers, as one writes it, and finds out what it was not told."""

from typing import Any

from tests.support.node import Peer


class Truth:
    """What was said in each place: no two may have heard two things there."""

    def __init__(self) -> None:
        self._payloads: dict[tuple[str, int], Any] = {}

    def said(self, epoch: str, offset: int, payload: Any) -> None:
        """This is what was published there, or heard."""
        assert self._payloads.setdefault((epoch, offset), payload) == payload, (epoch, offset)


class Reader:
    """A client as one writes it: of each topic it keeps a position, and checks what comes."""

    def __init__(self, truth: Truth) -> None:
        self.peer: Peer | None = None
        self.subscribed: set[str] = set()
        self.asked = 0  # subscribes that are not answered
        self.positions: dict[str, tuple[str, int]] = {}
        self._truth = truth

    def connect(self, peer: Peer) -> None:
        """Be there anew, on this connection."""
        self.peer = peer
        self.subscribed.clear()
        self.asked = 0

    @property
    def open(self) -> bool:
        return self.peer is not None and self.peer.client.open

    def subscribe(self, topic: str, recover: bool) -> None:
        assert self.peer is not None
        wish: dict[str, Any] = {"type": "subscribe", "request_id": "subscribe", "topic": topic}
        if recover and topic in self.positions:
            epoch, offset = self.positions[topic]
            wish["recover"] = {"epoch": epoch, "offset": offset}
        self.asked += 1
        self.peer.say(wish)

    def listen(self) -> None:
        assert self.peer is not None
        for message in self.peer.hear():
            if isinstance(message, tuple):
                continue  # a Close: it was too slow
            topic = message.get("topic")
            if message.get("request_id") == "subscribe":
                self.asked -= 1
                if message["type"] == "ack":  # else Redis is away
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
        if topic in self.subscribed:  # nothing new: what it has, it has
            assert ack.get("recovered") is not True
            return
        self.subscribed.add(topic)
        if ack.get("recovered"):
            assert self.positions[topic][0] == here[0]
            assert self.positions[topic][1] <= here[1]
        else:
            self.positions[topic] = here
