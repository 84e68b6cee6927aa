"""Divides long work into slices, one in each tick.

State: the unfinished work, in the order of the next slices.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

AT_ONCE: Final = 8  # slices in one tick; one of 64 publishes takes about 0.4 ms

_DONE: Final = object()


class Turns:
    """Runs slices of work round robin, so that no client's work delays the others."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon` calls a function in the next tick."""
        self._call_soon = call_soon
        self._work: deque[Iterator[object]] = deque()
        self._scheduled = False

    def start(self, work: Iterator[object]) -> None:
        """Do the first slice of `work` now, and each further slice in a tick of its own.

        Args:
            work: an iterator; each step of it is a slice.
        """
        if next(work, _DONE) is not _DONE:
            self.queue(work)

    def queue(self, work: Iterator[object]) -> None:
        """Do `work` in the ticks after this one."""
        self._work.append(work)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in a tick after this one."""
        self.queue(_calling(function))

    def _run(self) -> None:
        try:
            for _ in range(min(AT_ONCE, len(self._work))):
                work = self._work.popleft()
                if next(work, _DONE) is not _DONE:
                    self._work.append(work)
        finally:
            self._scheduled = bool(self._work)
            if self._scheduled:
                self._call_soon(self._run)


def _calling(function: Callable[[], object]) -> Iterator[None]:
    function()
    yield from ()
