"""What waits for one congested client: whole frames in order, bounded in count and bytes.

State: the waiting frames, their bytes, and how many events of which topic were dropped and not yet
told. Overflow is a verdict, not an exception. Nothing here writes to a socket.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hub.topic import Topic

# An event's frame with its topic, or any other frame with None. Events of one topic and tick share
# these pairs among all clients that wait for them. A topic with one of the marks below for a frame
# says what has happened to it in this place.
Entry = tuple[bytes, Topic | None]

# Marks begin below every frame's first byte (RFC 6455 section 5.2: FIN is set).
_FRAMES: Final = b"\x80"
_LEFT: Final = b""  # the client left the topic: what was dropped of it is told here at the latest
_MISSED: Final = b"?%d"  # events up to an offset may have been lost before they got as far as this

_CHUNK: Final = 65_536  # bytes handed to the transport at once: what is there can't be dropped


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits that every outbox of a server shares."""

    messages: int  # that may wait in the outbox
    size: int  # bytes of them, the transport's buffer included
    drop_oldest: bool  # what overflow costs: the oldest event, or (False) the connection
    # Makes the frame that tells of n lost events (0: of some) up to an offset.
    gap: Callable[[Topic, int, int], bytes]


class Outbox:
    """A bounded queue between the tick and a transport that takes no more."""

    __slots__ = ("_bounds", "_dropped", "_entries", "_marks", "_size")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._entries: deque[Entry] = deque()
        self._size = 0  # bytes of `_entries`
        self._marks = 0  # how many of them are marks; these are no messages
        # Events gone, to be told before the topic's next: how many, and the newest one's offset.
        self._dropped: dict[Topic, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        """Whether anything is to be said: a frame, or that events were dropped."""
        return bool(self._entries or self._dropped)

    def offer(self, entry: Entry, buffered: int) -> bool:
        """Take one more frame while the transport holds `buffered` bytes.

        Returns:
            False where the bounds are overrun and no event is there to drop.
        """
        self._entries.append(entry)
        self._size += len(entry[0])
        bounds = self._bounds
        while (
            len(self._entries) - self._marks > bounds.messages
            or self._size + buffered > bounds.size
        ):
            if not (bounds.drop_oldest and self._drop_oldest_event()):
                return False
        return True

    def append(self, frame: bytes) -> None:
        """Take a frame whatever the bounds: the last words before a Close."""
        self._entries.append((frame, None))
        self._size += len(frame)

    def _drop_oldest_event(self) -> bool:
        for place, (frame, topic) in enumerate(self._entries):
            if topic is not None and frame > _FRAMES:  # no mark
                del self._entries[place]
                self._size -= len(frame)
                count = self._dropped.get(topic, (0, 0))[0] + 1
                self._dropped[topic] = (count, _offset(frame) if topic.history is not None else 0)
                return True
        return False

    def take(self) -> bytes:
        """The next bytes for the transport, in order; empty where nothing waits.

        Every dropped event is told before its topic's next event, at the latest with the last
        frame that waits.
        """
        parts: list[bytes] = []
        size = 0
        while self._entries and size < _CHUNK:
            frame, topic = self._entries.popleft()
            self._size -= len(frame)
            if topic in self._dropped:
                parts.append(self._tell(topic))
            if topic is not None and frame < _FRAMES:
                self._marks -= 1
                frame = self._bounds.gap(topic, 0, int(frame[1:])) if frame else b""
            parts.append(frame)
            size += len(frame)
        if not self._entries:
            parts += [self._tell(topic) for topic in list(self._dropped)]
        return b"".join(parts)

    def leave(self, topic: Topic) -> None:
        """The client leaves a topic here: what is dropped of it, before and after, is told here."""
        if topic in self._dropped or any(of is topic for _, of in self._entries):
            self._mark(_LEFT, topic)

    def missed(self, topic: Topic, offset: int) -> None:
        """Events of the topic never got as far as this: that is told here, whatever the bounds."""
        self._mark(_MISSED % offset, topic)

    def _mark(self, mark: bytes, topic: Topic) -> None:
        self._entries.append((mark, topic))
        self._size += len(mark)
        self._marks += 1

    def _tell(self, topic: Topic) -> bytes:
        return self._bounds.gap(topic, *self._dropped.pop(topic))


def _offset(frame: bytes) -> int:
    """The offset that an event's frame ends with (hub/history.py)."""
    return int(frame[frame.rindex(b":") + 1 : -1])
