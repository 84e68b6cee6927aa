"""What waits for one congested client: whole frames in order, bounded in count and bytes.

State: the waiting frames, their bytes, and how many events of which topic were dropped and not yet
told. Overflow is a verdict, not an exception. Nothing here writes to a socket.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hub.delivery.framing import Wire
from hub.delivery.topic import Topic
from hub.values import NOWHERE, Position, offset_of

# An event as bytes, its topic and epoch; or anything else with None and nothing. Events of one
# topic and tick share these among all clients of a wire that wait for them. A topic with one of the
# marks below for bytes says what has happened to it in this place.
Entry = tuple[bytes, Topic | None, str]

# Marks begin below every event's first byte: RFC 6455 section 5.2 sets FIN, and a stream's is a
# letter.
_EVENTS: Final = b"@"
_LEFT: Final = b""  # the client left the topic: what was dropped of it is told here at the latest
_SAID: Final = b"!"  # what comes behind it is said here, whatever the bounds
_DROPPED: Final = b"?%d:%d"  # so many events were dropped here, the last one with this offset

_CHUNK: Final = 65_536  # bytes handed to the transport at once: what is there can't be dropped


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits that every outbox of a server shares."""

    messages: int  # that may wait in the outbox
    size: int  # bytes of them, the transport's buffer included
    drop_oldest: bool  # what overflow costs: the oldest event, or (False) the connection
    # Makes the message that tells of n lost events of a topic up to a position.
    gap: Callable[[str, int, Position], bytes]


class Outbox:
    """A bounded queue between the tick and a transport that takes no more."""

    __slots__ = ("_bounds", "_dropped", "_entries", "_marks", "_size", "_wire")

    def __init__(self, bounds: Bounds, wire: Wire) -> None:
        self._bounds = bounds
        self._wire = wire
        self._entries: deque[Entry] = deque()
        self._size = 0  # bytes of those that are no marks
        self._marks = 0  # how many of them are marks; these are no messages
        # Events gone from behind no mark of their topic, to be told before whatever of it is next:
        # how many, and the newest one's position.
        self._dropped: dict[Topic, tuple[int, Position]] = {}

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
        self._entries.append((frame, None, ""))
        self._size += len(frame)

    def put_first(self, message: bytes) -> None:
        """Take a message whatever the bounds, ahead of all that waits."""
        self._entries.appendleft((message, None, ""))
        self._size += len(message)

    def _drop_oldest_event(self) -> bool:
        marks: dict[Topic, int] = {}  # the last one of each topic, ahead of the event
        for place, (data, topic, epoch) in enumerate(self._entries):
            if topic is None:
                continue
            if data < _EVENTS:
                marks[topic] = place
                continue
            self._size -= len(data)
            offset = offset_of(data) if epoch else 0
            if topic not in marks:
                del self._entries[place]
                count, _ = self._dropped.get(topic, (0, None))
                self._dropped[topic] = (count + 1, _position(epoch, offset))
            elif count := _dropped_here(self._entries[marks[topic]][0]):
                del self._entries[place]
                self._entries[marks[topic]] = (_DROPPED % (count + 1, offset), topic, epoch)
            else:  # it is told behind that mark
                self._entries[place] = (_DROPPED % (1, offset), topic, epoch)
                self._marks += 1
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
            data, topic, epoch = self._entries.popleft()
            if topic in self._dropped:
                parts.append(self._tell(topic))
            if topic is None:
                self._size -= len(data)
            elif data > _EVENTS:
                self._size -= len(data)
                data = self._wire.place(topic.name, data)
            else:
                self._marks -= 1
                if count := _dropped_here(data):
                    self._dropped[topic] = (count, _position(epoch, offset_of(data)))
                    continue
                data = self._wire.place(topic.name, data[1:])
            parts.append(data)
            size += len(data)
        if not self._entries:
            parts += [self._tell(topic) for topic in list(self._dropped)]
        return b"".join(parts)

    def leave(self, topic: Topic) -> None:
        """The client leaves a topic here: what is dropped of it, before and after, is told here."""
        if topic in self._dropped or any(of is topic for _, of, _ in self._entries):
            self._mark(_LEFT, topic)

    def leave_all(self) -> None:
        """The client leaves every topic here."""
        queued = (topic for _, topic, _ in self._entries if topic is not None)
        for topic in dict.fromkeys([*self._dropped, *queued]):
            self._mark(_LEFT, topic)

    def tell(self, topic: Topic, said: bytes) -> None:
        """Say something of a topic here that is no event, whatever the bounds."""
        self._mark(_SAID + said, topic)

    def _mark(self, mark: bytes, topic: Topic) -> None:
        self._entries.append((mark, topic, ""))
        self._marks += 1

    def _tell(self, topic: Topic) -> bytes:
        count, position = self._dropped.pop(topic)
        message = self._bounds.gap(topic.name, count, position)
        return self._wire.place(topic.name, self._wire.say(message, position))


def _dropped_here(mark: bytes) -> int:
    """How many events a mark says were dropped; 0 where it says something else."""
    return int(mark[1 : mark.index(b":")]) if mark.startswith(b"?") else 0


def _position(epoch: str, offset: int) -> Position:
    return Position(epoch, offset) if offset else NOWHERE
