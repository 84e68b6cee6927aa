"""The send queue of one congested client: messages in order, bounded in number and bytes.

Theory of operation. A client that keeps up has no queue: its messages go to the transport at the
end of each tick. While the transport holds bytes, messages are queued here one by one, so that the
bounds count each of them and BACKPRESSURE=drop_oldest can drop a single event. Dropped events are
reported before the next event of the same topic, or after all queued messages if there is none.

Some entries are marks. A mark belongs to a topic, keeps its place in the order, and is never
dropped. There are three kinds: the client unsubscribed here; events were dropped here, between two
other marks; or a message about the topic other than an event, such as an ack. Dropped events are
reported at the next mark of their topic at the latest.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hub.delivery.framing import Framing
from hub.delivery.topic import Topic
from hub.reports import DropReason
from hub.values import NOWHERE, Position


class Entry(NamedTuple):
    """A queued message.

    An event is one entry for all clients with the same encoding: their queues share the object.
    """

    data: bytes  # encoded
    topic: Topic[Any] | None = None  # of an event; None for any other message
    position: Position = NOWHERE  # of an event; NOWHERE without history


class _Mark(NamedTuple):
    """A place in a topic's order: of an unsubscribe, a message, or dropped events."""

    topic: Topic[Any]
    message: bytes = b""  # encoded, about the topic, but no event
    dropped: int = 0  # events that were dropped here
    position: Position = NOWHERE  # of the newest of them


# Bytes given to the transport at once. A small number, since what the transport holds can no longer
# be dropped.
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits that all send queues of a server share."""

    messages: int  # in the queue
    size: int  # bytes in the queue and in the transport together
    drop_oldest: bool  # whether events may be dropped to keep within the limits
    # Encodes the gap notice: for a topic, the number of dropped events, and the position of the
    # newest of them.
    gap: Callable[[str, int, Position], bytes]
    dropped: Callable[[DropReason, int], None]  # called with a number of dropped messages
    dropping: Callable[[Any], None]  # called with a client at the first dropped event of its queue


class SendQueue:
    """State: the entries, their bytes, and the dropped events that are not reported yet."""

    __slots__ = ("_bounds", "_dropped", "_entries", "_framing", "_marks", "_size", "has_dropped")

    def __init__(self, bounds: Bounds, framing: Framing) -> None:
        self._bounds = bounds
        self._framing = framing
        self._entries: deque[Entry | _Mark] = deque()
        self._size = 0  # bytes of the entries that are no marks
        self._marks = 0  # number of marks, which are no messages
        self.has_dropped = False  # whether any event was dropped
        # The dropped events that have no mark of their topic before them: by topic, their number
        # and the position of the newest one.
        self._dropped: dict[Topic[Any], tuple[int, Position]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to send: a message, or a notice about dropped events."""
        return bool(self._entries or self._dropped)

    @property
    def messages(self) -> int:
        """The number of queued messages, as the bounds count them."""
        return len(self._entries) - self._marks

    @property
    def size(self) -> int:
        """The bytes of the queued messages, as the bounds count them."""
        return self._size

    def offer(self, entry: Entry, buffered: int) -> bool:
        """Queue one more message.

        Args:
            entry: the message.
            buffered: the bytes that the transport holds.

        Returns:
            False if the bounds are exceeded and no event may be dropped.
        """
        self._entries.append(entry)
        self._size += len(entry.data)
        bounds = self._bounds
        while (
            len(self._entries) - self._marks > bounds.messages
            or self._size + buffered > bounds.size
        ):
            if not (bounds.drop_oldest and self._drop_oldest_event()):
                return False
        return True

    def append(self, message: bytes) -> None:
        """Queue a message regardless of the bounds: the last one before a Close."""
        self._entries.append(Entry(message))
        self._size += len(message)

    def put_first(self, message: bytes) -> None:
        """Queue a message ahead of all others, regardless of the bounds."""
        self._entries.appendleft(Entry(message))
        self._size += len(message)

    def _drop_oldest_event(self) -> bool:
        marks: dict[Topic[Any], int] = {}  # the last mark of each topic before the event
        for place, entry in enumerate(self._entries):
            topic = entry.topic
            if topic is None:
                continue
            if isinstance(entry, _Mark):
                marks[topic] = place
                continue
            self._size -= len(entry.data)
            self._bounds.dropped(DropReason.DROP_OLDEST, 1)
            self.has_dropped = True
            mark = self._entries[marks[topic]] if topic in marks else None
            if mark is None:
                del self._entries[place]
                count, _ = self._dropped.get(topic, (0, NOWHERE))
                self._dropped[topic] = (count + 1, entry.position)
            elif isinstance(mark, _Mark) and mark.dropped:
                del self._entries[place]
                dropped = mark._replace(dropped=mark.dropped + 1, position=entry.position)
                self._entries[marks[topic]] = dropped
            else:  # the dropped event must be reported after that mark
                self._entries[place] = _Mark(topic, dropped=1, position=entry.position)
                self._marks += 1
            return True
        return False

    def take(self) -> bytes:
        """Remove and return the next bytes for the transport; empty if nothing is queued."""
        parts: list[bytes] = []
        size = 0
        while self._entries and size < _CHUNK:
            entry = self._entries.popleft()
            topic = entry.topic
            if topic in self._dropped:
                parts.append(self._gap(topic))
            if isinstance(entry, Entry):
                self._size -= len(entry.data)
                data = entry.data
            else:
                self._marks -= 1
                if entry.dropped:
                    self._dropped[entry.topic] = (entry.dropped, entry.position)
                    continue
                data = entry.message
            if topic is not None:
                data = self._framing.place(topic.name, data)
            parts.append(data)
            size += len(data)
        while self._dropped and not self._entries and size < _CHUNK:
            parts.append(self._gap(next(iter(self._dropped))))
            size += len(parts[-1])
        return b"".join(parts)

    def leave(self, topic: Topic[Any]) -> None:
        """Mark that the client unsubscribes from a topic here."""
        if topic in self._dropped or any(entry.topic is topic for entry in self._entries):
            self._mark(_Mark(topic))

    def leave_all(self) -> None:
        """Mark that the client unsubscribes from every topic here."""
        queued = (entry.topic for entry in self._entries if entry.topic is not None)
        for topic in dict.fromkeys([*self._dropped, *queued]):
            self._mark(_Mark(topic))

    def tell(self, topic: Topic[Any], message: bytes) -> None:
        """Queue a message about a topic, other than an event, regardless of the bounds."""
        self._mark(_Mark(topic, message))

    def _mark(self, mark: _Mark) -> None:
        self._entries.append(mark)
        self._marks += 1

    def _gap(self, topic: Topic[Any]) -> bytes:
        """Remove the record of a topic's dropped events, and return the notice about them."""
        count, position = self._dropped.pop(topic)
        message = self._bounds.gap(topic.name, count, position)
        encoded = self._framing.encoding.message_at(message, position)
        return self._framing.place(topic.name, encoded)
