"""What a topic remembers: its newest events, each with its place in the topic's one order.

State: one stream of events. Time comes in as an argument. A stream is one `epoch`; within it every
event has the next `offset`, from 1, so that whoever knows both knows what it has missed.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from hub.errors import ErrorCode, Refusal
from hub.values import MAX_SIZE, TOTAL_BYTES, Position, Rule

OVERHEAD: Final = 100  # bytes that an event takes beside its own: its time and its places in lists
# What one sweep may do, which is called 8 times a second: a few milliseconds of work.
SWEPT_TOPICS: Final = 1_000  # that it looks at
SWEPT_EVENTS: Final = 20_000  # that it forgets
NOT_REMEMBERED: Final = Refusal(
    ErrorCode.TOPIC_NOT_FOUND, "The topic does not exist, or has no history"
)


class HistoryBudget:
    """What the histories of one process may take together.

    State: the histories that have events, the one unused for longest first; a use is an event that
    is appended or read. `used` counts for each event its encoded bytes and OVERHEAD; it does not
    count what a topic without events takes.
    """

    def __init__(self, limit: int = TOTAL_BYTES) -> None:
        """`limit`: bytes; beyond it the oldest events of the topic unused for longest go."""
        self.limit = limit
        self.used = 0
        self.latest: History | None = None  # the one that was used last
        self._histories: OrderedDict[History, None] = OrderedDict()
        self._to_sweep: deque[History] = deque()  # the next one first, each in it once

    def touch(self, history: "History") -> None:
        """A history is used."""
        self._histories[history] = None
        self._histories.move_to_end(history)
        self.latest = history
        if not history.to_be_swept:
            history.to_be_swept = True
            self._to_sweep.append(history)

    def enforce(self) -> None:
        """Let go of what is beyond the limit."""
        while self.used > self.limit:
            oldest = next(iter(self._histories))
            if not oldest.forget_oldest():
                self.leave(oldest)

    def leave(self, history: "History") -> None:
        """A history has no events; harmless where that is known."""
        self._histories.pop(history, None)
        if self.latest is history:
            self.latest = None

    def sweep(self, now: float) -> None:
        """Let go of what is too old, of some histories at each call."""
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
    """One stream: the events at `first`, `first` + 1, … `top`, as the subscribers get them."""

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
        "waiting",
    )

    def __init__(
        self, epoch: str, rule: Rule, top: int = 0, budget: HistoryBudget | None = None
    ) -> None:
        """`budget`: that of the process; None for a history that is read once and not kept."""
        self._budget = budget
        self.epoch = epoch
        self.rule = rule
        self.top = top  # the offset of the newest event
        self.to_be_swept = False  # whether the budget's sweep is going to look at it
        self.waiting: dict[Callable[[], None], None] = {}  # called at the next news
        # Lists, for slices and for the search by time; what is forgotten leaves them in bulk.
        self._events: list[bytes] = []
        self._times: list[float] = []  # when each was said
        self._start = 0  # how many at the beginning are forgotten
        self._bytes = 0  # of those that are not

    @property
    def position(self) -> Position:
        """Where the stream is."""
        return Position(self.epoch, self.top)

    @property
    def first(self) -> int:
        """The offset of the oldest event that is remembered; `top` + 1 where none is."""
        return self.top + 1 - (len(self._events) - self._start)

    def append(self, event: bytes, now: float) -> bytes:
        """Give an encoded event the next offset and remember it; as the subscribers get it."""
        self.top += 1
        event = b'%b,"offset":%d}' % (event[:-1], self.top)
        self._events.append(event)
        # What another node has taken may come with a time of its own: none is before the last.
        self._times.append(max(now, self._times[-1]) if self._times else now)
        self._bytes += len(event)
        rule = self.rule
        over = len(self._events) - self._start - rule.size
        while over > 0 or self._bytes > rule.max_bytes:
            self._forget(1)
            over -= 1
        budget = self._budget
        if budget is not None:
            budget.used += len(event) + OVERHEAD
            if budget.latest is not self:
                budget.touch(self)
            if budget.used > budget.limit:
                budget.enforce()
        if self.waiting:
            self.wake()
        return event

    def restart(self, epoch: str, top: int) -> None:
        """Another stream has taken this one's place: all is forgotten, and `top` is said."""
        self._forget_all()
        self.epoch = epoch
        self.top = top
        self.wake()

    def wake(self) -> None:
        """Call those who wait for the next event, or for the stream's end, once."""
        waiting, self.waiting = self.waiting, {}
        for wake in waiting:
            wake()

    def close(self) -> None:
        """The topic is gone: forget all, and call those who wait."""
        self._forget_all()
        if self._budget is not None:
            self._budget.leave(self)
        self.wake()

    def expire(self, now: float, most: int = MAX_SIZE) -> int:
        """Forget what is too old, at most so many events; how many they were."""
        kept = bisect_right(self._times, now - self.rule.ttl, self._start)
        count = min(kept - self._start, most)
        self._forget(count)
        return count

    def forget_oldest(self) -> bool:
        """Forget the oldest event; whether there was one."""
        if self._start == len(self._events):
            return False
        self._forget(1)
        return True

    def _forget(self, count: int) -> None:
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

    def _forget_all(self) -> None:
        if self._budget is not None:
            self._budget.used -= self._bytes + OVERHEAD * (len(self._events) - self._start)
        self._events.clear()
        self._times.clear()
        self._start = 0
        self._bytes = 0

    def recovers(self, since: Position, limit: int) -> bool:
        """Whether every event after a position is here, and they are no more than `limit`."""
        return self.reaches(since) and self.top - since.offset <= limit

    def reaches(self, since: Position) -> bool:
        """Whether every event after a position is here."""
        return since.epoch == self.epoch and self.first - 1 <= since.offset <= self.top

    def page(self, offset: int | None, limit: int, reverse: bool) -> list[bytes]:
        """Up to `limit` events after `offset`, in order; reversed: those before it, newest first.

        Without an offset: from the oldest on, or reversed from the newest back.
        """
        self._use()
        if reverse:
            count = self.top + 1 - self.first if offset is None else max(0, offset - self.first)
            end = self._start + count
            return self._events[max(self._start, end - limit) : end][::-1]
        start = self._start + (0 if offset is None else offset - self.first + 1)
        return self._events[start : start + limit]

    def after(self, offset: int, size: int) -> list[bytes]:
        """Events from `offset` + 1 on: as many as have `size` bytes, and at least one if there is.

        The caller has seen that they are remembered: `offset` is `first` - 1 or more.
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

    def newest(self, count: int) -> int:
        """The offset behind which there are so many events, or all that there are."""
        return max(self.first - 1, self.top - count)
