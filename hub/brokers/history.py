"""The history of a topic: its newest events, numbered in the topic's order."""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from hub.errors import ErrorCode, Refusal
from hub.values import MAX_SIZE, TOTAL_BYTES, Position, Rule

OVERHEAD: Final = 100  # bytes that an event takes beside its encoding: its time, two list items
# Limits of one sweep, which keep it to a few milliseconds. There are 8 sweeps a second.
SWEPT_TOPICS: Final = 1_000  # topics examined
SWEPT_EVENTS: Final = 20_000  # events dropped
NOT_REMEMBERED: Final = Refusal(
    ErrorCode.TOPIC_NOT_FOUND, "The topic does not exist, or has no history"
)


class HistoryBudget:
    """A memory limit that all histories of one process share.

    Beyond the limit, the least recently used history loses its oldest events. A history is used
    when an event is appended or read.

    State: the histories with events, the least recently used first, and the bytes that they use:
    the encoding of each event and OVERHEAD. A history without events counts nothing.
    """

    def __init__(self, limit: int = TOTAL_BYTES) -> None:
        """`limit`: bytes of all histories."""
        self.limit = limit
        self.used = 0  # bytes
        self.dropped = 0  # events that were dropped to keep within the limit
        self.latest: History | None = None  # the most recently used
        self._histories: OrderedDict[History, None] = OrderedDict()
        self._to_sweep: deque[History] = deque()  # each history at most once

    def touch(self, history: "History") -> None:
        """Mark a history as the most recently used."""
        self._histories[history] = None
        self._histories.move_to_end(history)
        self.latest = history
        if not history.to_be_swept:
            history.to_be_swept = True
            self._to_sweep.append(history)

    def enforce(self) -> None:
        """Drop events until the histories are within the limit."""
        while self.used > self.limit:
            oldest = next(iter(self._histories))
            if oldest.drop_oldest():
                self.dropped += 1
            else:
                self.leave(oldest)

    def leave(self, history: "History") -> None:
        """Remove a history that has no events; do nothing if it was removed before."""
        self._histories.pop(history, None)
        if self.latest is history:
            self.latest = None

    def sweep(self, now: float) -> None:
        """Drop expired events of the next histories in turn, within the limits of one sweep."""
        room = SWEPT_EVENTS
        for _ in range(min(SWEPT_TOPICS, len(self._to_sweep))):
            history = self._to_sweep.popleft()
            room -= history.expire(now, room)
            if history.first > history.top:
                history.to_be_swept = False
                self.leave(history)
            else:
                self._to_sweep.append(history)
            if room == 0:
                return


class History:
    """The newest events of one topic, encoded as subscribers get them.

    Events have the offsets 1, 2, 3 and so on within one `epoch`. A history that starts over gets a
    new epoch, so that an epoch and an offset together tell which events a client has missed. The
    events from `first` to `top` are kept; a history is empty if `first` is `top` + 1.

    The rule limits the number, the bytes and the age of the events, the budget the memory of all
    histories. Events are dropped from the oldest on. The caller passes the time, in seconds.
    """

    __slots__ = (
        "_budget",
        "_bytes",
        "_events",
        "_start",
        "_times",
        "epoch",
        "rule",
        "to_be_swept",
        "top",
        "waiters",
    )

    def __init__(
        self, epoch: str, rule: Rule, top: int = 0, budget: HistoryBudget | None = None
    ) -> None:
        """Create an empty history.

        Args:
            epoch: the name of the sequence of its offsets.
            rule: the limits of this history.
            top: the offset of the event before the first one; 0 for a new history.
            budget: the limit of all histories; None for a history that is read once and dropped.
        """
        self._budget = budget
        self.epoch = epoch
        self.rule = rule
        self.top = top  # the offset of the newest event, even if that event has been dropped
        self.to_be_swept = False  # whether it is in the budget's queue of sweeps
        # Callbacks for the next change: a new event, another epoch, or the end of the topic.
        self.waiters: dict[Callable[[], None], None] = {}
        # Lists, because they allow slices and bisection. Dropped items are deleted in bulk, since
        # each deletion at the front moves all other items.
        self._events: list[bytes] = []
        self._times: list[float] = []  # when each event was published, ascending
        self._start = 0  # index of the oldest event; those before it are dropped
        self._bytes = 0  # of the events from `_start` on

    @property
    def position(self) -> Position:
        """The position of the newest event."""
        return Position(self.epoch, self.top)

    @property
    def first(self) -> int:
        """The offset of the oldest event that is kept; `top` + 1 if there is none."""
        return self.top + 1 - (len(self._events) - self._start)

    def append(self, event: bytes, now: float) -> bytes:
        """Append an event.

        Args:
            event: the encoded event, a JSON object.
            now: the time in seconds.

        Returns:
            The event with its offset, as subscribers get it.
        """
        self.top += 1
        event = b'%b,"offset":%d}' % (event[:-1], self.top)
        self._events.append(event)
        # An event from Redis has a time that was computed from its age, which is not exact. `max`
        # keeps the list ascending.
        self._times.append(max(now, self._times[-1]) if self._times else now)
        self._bytes += len(event)
        rule = self.rule
        over = len(self._events) - self._start - rule.size
        while over > 0 or self._bytes > rule.max_bytes:
            self._drop(1)
            over -= 1
        budget = self._budget
        if budget is not None:
            budget.used += len(event) + OVERHEAD
            if budget.latest is not self:
                budget.touch(self)
            if budget.used > budget.limit:
                budget.enforce()
        if self.waiters:
            self.wake()
        return event

    def reset(self, position: Position) -> None:
        """Drop all events, and continue after a position."""
        self._drop_all()
        self.epoch, self.top = position
        self.wake()

    def wake(self) -> None:
        """Call and remove all waiters."""
        waiters, self.waiters = self.waiters, {}
        for wake in waiters:
            wake()

    def close(self) -> None:
        """Drop all events of a topic that has ended, and call all waiters."""
        self._drop_all()
        if self._budget is not None:
            self._budget.leave(self)
        self.wake()

    def expire(self, now: float, most: int = MAX_SIZE) -> int:
        """Drop events that are older than the rule allows.

        Args:
            now: the time in seconds.
            most: maximum number of events to drop.

        Returns:
            The number of dropped events.
        """
        kept = bisect_right(self._times, now - self.rule.ttl, self._start)
        count = min(kept - self._start, most)
        self._drop(count)
        return count

    def drop_oldest(self) -> bool:
        """Drop the oldest event; return whether there was one."""
        if self._start == len(self._events):
            return False
        self._drop(1)
        return True

    def _drop(self, count: int) -> None:
        size = 0
        for place in range(self._start, self._start + count):
            size += len(self._events[place])
            self._events[place] = b""
        self._bytes -= size
        if self._budget is not None:
            self._budget.used -= size + OVERHEAD * count
        self._start += count
        if self._start > len(self._events) // 2:
            del self._events[: self._start], self._times[: self._start]
            self._start = 0

    def _drop_all(self) -> None:
        if self._budget is not None:
            self._budget.used -= self._bytes + OVERHEAD * (len(self._events) - self._start)
        self._events.clear()
        self._times.clear()
        self._start = 0
        self._bytes = 0

    def can_recover(self, position: Position, limit: int) -> bool:
        """Return whether all events after a position are kept, and are at most `limit`."""
        return self.covers(position) and self.top - position.offset <= limit

    def covers(self, position: Position) -> bool:
        """Return whether all events after a position are kept."""
        return position.epoch == self.epoch and self.first - 1 <= position.offset <= self.top

    def page(self, offset: int | None, limit: int, reverse: bool) -> list[bytes]:
        """Return a page of events.

        Args:
            offset: the page begins after this offset, or before it with `reverse`. Without one, it
                begins with the oldest event, or with the newest with `reverse`.
            limit: maximum number of events in the page.
            reverse: whether the newest event comes first.

        Returns:
            The encoded events.
        """
        self._use()
        if reverse:
            count = self.top + 1 - self.first if offset is None else max(0, offset - self.first)
            end = self._start + count
            return self._events[max(self._start, end - limit) : end][::-1]
        start = self._start + (0 if offset is None else offset - self.first + 1)
        return self._events[start : start + limit]

    def after(self, offset: int, size: int) -> list[bytes]:
        """Return the first events after an offset, about `size` bytes of them.

        The last one may exceed the size, so there is at least one if any follows the offset. The
        caller makes sure that `offset` is at least `first` - 1.
        """
        self._use()
        start = self._start + offset - self.first + 1
        end, taken = start, 0
        while end < len(self._events) and taken < size:
            taken += len(self._events[end])
            end += 1
        return self._events[start:end]

    def _use(self) -> None:
        if self._budget is not None:
            self._budget.touch(self)

    def start_of_newest(self, count: int) -> int:
        """Return the offset before the newest `count` events, or before all if there are fewer."""
        return max(self.first - 1, self.top - count)
