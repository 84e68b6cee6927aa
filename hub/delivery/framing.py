"""How things are said to a client: by frames of RFC 6455, or as a stream of Server-Sent Events.

State: none, but for where a stream of several topics is. What is shared by all clients of a wire is
made by `say`; what a client has of its own, its stream's ids, `place` puts in as the bytes go out.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from hub.errors import Close
from hub.protocol import sse
from hub.protocol.websocket_frames import PING_FRAME, close_frame, text_frame
from hub.values import NOWHERE, Position


class Ending(Enum):
    """What follows the last words, once the transport has them."""

    AWAIT = "await"  # the client's own Close
    HALF_CLOSE = "half_close"  # an end of stream, for a client whose frames make no sense any more
    HANG_UP = "hang_up"  # the end of the connection


class Wire(Protocol):
    """One way to say things."""

    streams: bool  # whether the topics keep its clients apart, as streams
    shares: bool  # whether `place` changes nothing
    ping: bytes  # said to a client that is silent
    answers: bool  # whether it has to answer that, to be alive
    ending: Ending  # what follows the last words that the server says by itself

    def say(self, message: bytes, position: Position = NOWHERE) -> bytes:
        """One message; who has it is at `position` in the topic that it is about."""

    def place(self, topic: str, data: bytes) -> bytes:
        """What `say` has made of a message about a topic, as this client is to get it next."""

    def replay(self, topic: str, events: Sequence[bytes], since: Position) -> bytes:
        """Events of a topic that follow a position, as this client is to get them next."""

    def close(self, close: Close) -> bytes:
        """What says that the server ends the connection; empty where only the end says it."""


class WebSocket:
    """Frames. All of its clients share one of these."""

    streams = False
    shares = True
    ping = PING_FRAME
    answers = True
    ending = Ending.AWAIT

    def say(self, message: bytes, position: Position = NOWHERE) -> bytes:
        return text_frame(message)

    def place(self, topic: str, data: bytes) -> bytes:
        return data

    def replay(self, topic: str, events: Sequence[bytes], since: Position) -> bytes:
        return b"".join(map(text_frame, events))

    def close(self, close: Close) -> bytes:
        return close_frame(close.code, close.reason)


WEBSOCKET: Final = WebSocket()


class EventStream:
    """Server-Sent Events, on one topic or several."""

    streams = True
    ping = sse.COMMENT
    answers = False  # its client has nothing to say
    ending = Ending.HANG_UP

    def __init__(self, topics: Sequence[str], places: Sequence[Position]) -> None:
        """`places`: where its client says that it was, in each of the topics."""
        # None where an id of the topic is one of the stream.
        self._cursor = sse.Cursor(topics, places) if len(topics) > 1 else None
        self.shares = self._cursor is None

    def say(self, message: bytes, position: Position = NOWHERE) -> bytes:
        return sse.message(message, position)

    def place(self, topic: str, data: bytes) -> bytes:
        return data if self._cursor is None else self._cursor.move(topic, data)

    def replay(self, topic: str, events: Sequence[bytes], since: Position) -> bytes:
        said = [self.place(topic, sse.event(event, since.epoch)) for event in events]
        return b"".join(said)

    def close(self, close: Close) -> bytes:
        return b""
