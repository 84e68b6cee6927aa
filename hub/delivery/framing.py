"""The two ways to write messages to a connection: WebSocket frames and Server-Sent Events.

An `Encoding` is shared by all connections of its kind: a batch of events is encoded once for all
of their clients. A `Framing` belongs to one client and adds what differs from client to client,
such as the ids of its stream. To add a third way, write one of each and register the
framing in hub/wires.py.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from hub.errors import Close
from hub.protocol import sse
from hub.protocol.websocket_frames import PING_FRAME, close_frame, text_frame
from hub.reports import ConnectionKind
from hub.values import Position


class Ending(Enum):
    """The way to end a connection after the last message."""

    AWAIT = "await"  # wait for the client's Close
    HALF_CLOSE = "half_close"  # close the sending side and read on, after invalid frames
    HANG_UP = "hang_up"  # close the connection


class Encoding(Protocol):
    """Encodes messages for every connection of one kind."""

    @property
    def personal(self) -> bool:
        """Whether `Framing.place` must be called for each client."""

    def events(self, events: Sequence[bytes], epoch: str) -> list[bytes]:
        """Encode events of a topic; `epoch` is empty for a topic without history."""

    def message(self, message: bytes, /) -> bytes:
        """Encode any other message."""

    def message_at(self, message: bytes, position: Position) -> bytes:
        """Encode a message that puts its receiver at a position of a topic."""


class FrameEncoding:
    """Text frames of RFC 6455."""

    personal = False

    def events(self, events: Sequence[bytes], epoch: str) -> list[bytes]:
        return list(map(text_frame, events))

    def message_at(self, message: bytes, position: Position) -> bytes:
        return text_frame(message)

    message = staticmethod(text_frame)  # one call less for every reply


class SseEncoding:
    """Server-Sent Events."""

    def __init__(self, *, personal: bool) -> None:
        self.personal = personal

    def events(self, events: Sequence[bytes], epoch: str) -> list[bytes]:
        return [sse.event(event, epoch) for event in events]

    def message_at(self, message: bytes, position: Position) -> bytes:
        return sse.message(message, position)

    message = staticmethod(sse.message)


FRAMES: Final = FrameEncoding()
STREAM_OF_ONE: Final = SseEncoding(personal=False)  # an id is the topic's position
STREAM_OF_MANY: Final = SseEncoding(personal=True)  # an id has the positions of all its topics


class Framing(Protocol):
    """Writes messages to one client."""

    kind: ConnectionKind  # its name in lists and reports
    ping: bytes  # sent to a client that is silent
    answers_pings: bool  # whether a client that is alive answers `ping`
    ends_with_topics: bool  # whether the connection ends with its last subscription
    ending: Ending  # how the connection ends if the server ends it, unless because of a fault

    @property
    def encoding(self) -> Encoding:
        """The encoding that all connections of the kind share."""

    def place(self, topic: str, data: bytes) -> bytes:
        """Return an encoded message about a topic, with the id of this client's stream if any."""

    def replay(self, topic: str, events: Sequence[bytes], start: Position) -> bytes:
        """Encode the events of a topic that follow a position, for this client."""

    def reconnect(self, milliseconds: int) -> bytes:
        """Encode the time after which to reconnect; empty if the shutdown notice has it."""

    def close(self, close: Close) -> bytes:
        """Encode the reason for the end; empty if the protocol has no such message."""


class WebSocketFraming:
    """WebSocket frames. All clients share one instance, because it has no state."""

    kind = ConnectionKind.WEBSOCKET
    encoding: Encoding = FRAMES
    ping = PING_FRAME
    answers_pings = True
    ends_with_topics = False
    ending = Ending.AWAIT

    def place(self, topic: str, data: bytes) -> bytes:
        return data

    def replay(self, topic: str, events: Sequence[bytes], start: Position) -> bytes:
        return b"".join(self.encoding.events(events, start.epoch))

    def reconnect(self, milliseconds: int) -> bytes:
        return b""

    def close(self, close: Close) -> bytes:
        return close_frame(close.code, close.reason)


WEBSOCKET: Final = WebSocketFraming()


class SseFraming:
    """A stream of Server-Sent Events, of one topic or several."""

    kind = ConnectionKind.SSE
    ping = sse.COMMENT
    answers_pings = False  # a comment is acknowledged by TCP alone
    ends_with_topics = True
    ending = Ending.HANG_UP

    def __init__(self, topics: Sequence[str], positions: Sequence[Position]) -> None:
        """`positions`: the client's position in each topic."""
        several = len(topics) > 1
        self.encoding = STREAM_OF_MANY if several else STREAM_OF_ONE
        self._stream_id = sse.StreamId(topics, positions) if several else None

    def place(self, topic: str, data: bytes) -> bytes:
        return data if self._stream_id is None else self._stream_id.move(topic, data)

    def replay(self, topic: str, events: Sequence[bytes], start: Position) -> bytes:
        return b"".join([self.place(topic, sse.event(event, start.epoch)) for event in events])

    def reconnect(self, milliseconds: int) -> bytes:
        return sse.retry(milliseconds)

    def close(self, close: Close) -> bytes:
        return b""
