"""The bytes of Server-Sent Events: messages with their ids, and an id taken apart.

Pure: bytes in, bytes out. An id says where the stream is in each of its topics, in their order, so
whoever sends the last one back can be given what follows. JSON has no line breaks, so a message is
one line of data; what is a line break to Unicode alone (and Python's `splitlines`) is escaped.
"""

import re
from collections.abc import Sequence
from typing import Final

from hub.values import NOWHERE, Position, offset_of

COMMENT: Final = b":\n\n"  # says nothing, and that the connection lives
_ID: Final = b"id: "
_NOWHERE: Final = b"-"  # in a topic without history, or before its subscribe is answered
_SEPARATORS: Final = tuple(
    (character.encode(), b"\\u%04x" % ord(character)) for character in "\u2028\u2029\x85"
)
_PLACE: Final = re.compile(r"([0-9A-Za-z]{1,64}):([0-9]{1,15})")


def message(text: bytes, position: Position = NOWHERE) -> bytes:
    """A message, ready for any number of streams; with a position, whoever has it is there."""
    if not text.isascii():
        text = _without_separators(text)
    if not position.epoch:
        return b"data: %b\n\n" % text
    return b"id: %b\ndata: %b\n\n" % (_place(position), text)


def _without_separators(text: bytes) -> bytes:
    """JSON with the line separators of Unicode escaped: they can only be within its strings."""
    for raw, escape in _SEPARATORS:
        if raw[0] in text:  # most often not, and one byte is found much faster than three
            text = text.replace(raw, escape)
    return text


def retry(milliseconds: int) -> bytes:
    """A line that says after which pause the client is to come back; a message may follow."""
    return b"retry: %d\n" % milliseconds


def event(text: bytes, epoch: str) -> bytes:
    """An encoded event, with its place in the topic's epoch, if there is one."""
    offset = offset_of(text) if epoch else 0
    return message(text, Position(epoch, offset) if offset else NOWHERE)


def _place(position: Position) -> bytes:
    return b"%b:%d" % (position.epoch.encode(), position.offset)


def parse_id(text: str, topics: int) -> list[Position] | None:
    """Where an id says that its stream was in each of so many topics; None where it is no id."""
    places: list[Position] = []
    for part in text.split(","):
        place = _PLACE.fullmatch(part)
        if place is not None:
            places.append(Position(place[1], int(place[2])))
        elif part == "-":
            places.append(NOWHERE)
        else:
            return None
    return places if len(places) == topics else None


class Cursor:
    """Where a stream of several topics is in each of them. State: what its next id says."""

    __slots__ = ("_places", "_topics")

    def __init__(self, topics: Sequence[str], places: Sequence[Position]) -> None:
        """`places`: where its client says that it was."""
        self._topics = {topic: number for number, topic in enumerate(topics)}
        self._places = [_place(it) if it.epoch else _NOWHERE for it in places]

    def move(self, topic: str, data: bytes) -> bytes:
        """A message about a topic, with the stream's own id where it has the topic's."""
        if not data.startswith(_ID):
            return data
        end = data.index(b"\n")
        self._places[self._topics[topic]] = data[len(_ID) : end]
        return _ID + b",".join(self._places) + data[end:]
