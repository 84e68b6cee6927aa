"""When a worker that has died is started again, and when the server gives up.

A worker dies young if it was ready for less than STABLE. After the second young death in a row,
and after each further one, there is a pause before the next start, which doubles each time. Other
workers are started again at once. After TRIES young deaths in a row the server gives up, unless a
worker is alive that was ready before the first of them.

State: the number of young deaths in a row, and the time of the first. Times are in seconds.
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
            ready_at: the time at which the worker was ready; None if it never was.
            others: the times at which the workers that are alive were ready.
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
