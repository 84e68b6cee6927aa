"""When a worker that has died is started again, and when the server gives up.

A worker dies young if it was ready for less than STABLE. It is then started again after a pause
that doubles with each such death, one after another; other workers are started again at once. After
TRIES young deaths the server gives up, unless a worker lives that was ready before the first.

State: the number of young deaths, one after another, and the time of the first. Times are in
seconds.
"""

from collections.abc import Iterable
from typing import Final

STABLE: Final = 1.0  # seconds
TRIES: Final = 5
PAUSE: Final = 0.25  # seconds after the second young death
MAX_PAUSE: Final = 30.0  # seconds
_DOUBLINGS: Final = 7  # of PAUSE, to exceed MAX_PAUSE


class Deaths:
    """Counts the deaths of all workers."""

    def __init__(self) -> None:
        self._young = 0
        self._first = 0.0

    def record(self, now: float, ready_at: float | None, others: Iterable[float]) -> float | None:
        """Record a death, and return the seconds until the next start; None to give up.

        Args:
            now: the time of the death.
            ready_at: when the worker was ready; None if it never was.
            others: when each of the workers that live was ready.
        """
        if ready_at is not None and now - ready_at >= STABLE:
            self._young = 0
            return 0.0
        if not self._young:
            self._first = now
        self._young += 1
        if self._young >= TRIES and not any(other < self._first for other in others):
            return None
        if self._young == 1:
            return 0.0
        doublings = min(self._young - 2, _DOUBLINGS)
        return min(PAUSE * 2.0**doublings, MAX_PAUSE)
