"""Writes Server-Sent Events, and reads their ids.

Pure: bytes in, bytes out. An id holds the client's position in each topic of its stream, in the
order of the topics, so that a client that sends back its last id can recover the events after it.
JSON has no line breaks, so a message is one line of data. Characters that are line breaks only in
Unicode (and in Python's `splitlines`) are escaped.
"""

import re
from collections.abc import Sequence
from typing import Final

from hub.values import NOWHERE, Position, position_of

COMMENT: Final = b":\n\n"  # ignored by clients; shows that the connection is alive
_ID: Final = b"id: "
_NOWHERE: Final = b"-"  # no position: a topic without history, or not yet subscribed
_SEPARATORS: Final = tuple(
    (character.encode(), b"\\u%04x" % ord(character)) for character in "\u2028\u2029\x85"
)
_POSITION: Final = re.compile(r"([0-9A-Za-z]{1,64}):([0-9]{1,15})")


def message(text: bytes, position: Position = NOWHERE) -> bytes:
    """Encode a message for any number of streams, with its position as its id if it has one."""
    if not text.isascii():
        text = _without_separators(text)
    if not position.epoch:
        return b"data: %b\n\n" % text
    return b"id: %b\ndata: %b\n\n" % (_encode(position), text)


def _without_separators(text: bytes) -> bytes:
    """Escape the line separators of Unicode, which JSON has only within strings."""
    for raw, escape in _SEPARATORS:
        if raw[0] in text:  # rarely; a search for one byte is much faster than for three
            text = text.replace(raw, escape)
    return text


def retry(milliseconds: int) -> bytes:
    """Encode the time after which a client reconnects; a message may follow."""
    return b"retry: %d\n" % milliseconds


def event(text: bytes, epoch: str) -> bytes:
    """Encode an event, with its position in the epoch as its id; an empty `epoch` gives no id."""
    return message(text, position_of(text, epoch))


def _encode(position: Position) -> bytes:
    return b"%b:%d" % (position.epoch.encode(), position.offset)


def parse_id(text: str, topics: int) -> list[Position] | None:
    """Return the positions in an id of a stream with `topics` topics; None if it is malformed."""
    positions: list[Position] = []
    for part in text.split(","):
        found = _POSITION.fullmatch(part)
        if found is not None:
            positions.append(Position(found[1], int(found[2])))
        elif part == "-":
            positions.append(NOWHERE)
        else:
            return None
    return positions if len(positions) == topics else None


class StreamId:
    """The id of one stream: its position in each of its topics, encoded."""

    __slots__ = ("_positions", "_topics")

    def __init__(self, topics: Sequence[str], positions: Sequence[Position]) -> None:
        """`positions`: where the stream begins in each topic, in the same order."""
        self._topics = {topic: number for number, topic in enumerate(topics)}
        self._positions = [_encode(it) if it.epoch else _NOWHERE for it in positions]

    def move(self, topic: str, data: bytes) -> bytes:
        """Move the stream to the position of a message, and give the message the stream's id.

        Args:
            topic: the topic's name.
            data: the encoded message, with its own position as its id.

        Returns:
            The message with the stream's id; a message without an id is returned as it is.
        """
        if not data.startswith(_ID):
            return data
        end = data.index(b"\n")
        self._positions[self._topics[topic]] = data[len(_ID) : end]
        return _ID + b",".join(self._positions) + data[end:]
