"""The banned subjects of this node.

State: the end of each ban, and the order in which they end.
"""

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import Final

MAX_BANS: Final = 100_000  # subjects that are banned at a time
ENDED: Final = 1_000  # maximum number of bans that one sweep examines


class Bans:
    """Keeps the end of each subject's ban.

    If a subject is banned twice, the later end counts, in whatever order the bans are added. So all
    nodes come to the same bans, without agreeing on an order.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        """`wall` returns seconds since the epoch."""
        self._wall = wall
        self._ends: dict[str, float] = {}
        # A heap of the times at which to examine bans; each subject is in it once.
        self._checks: list[tuple[float, str]] = []

    @property
    def ends(self) -> Mapping[str, float]:
        """The end of each ban by subject, in seconds since the epoch. It may have just passed."""
        return self._ends

    def end(self, subject: str) -> float | None:
        """Return the end of a subject's ban, in seconds since the epoch; None if not banned now."""
        end = self._ends.get(subject)
        return end if end is not None and self._wall() < end else None

    def has_room(self, subject: str) -> bool:
        """Return whether this subject can be banned: it is banned already, or MAX_BANS are not."""
        return len(self._ends) < MAX_BANS or subject in self._ends

    def add(self, subject: str, end: float) -> bool:
        """Ban a subject until `end`, in seconds since the epoch, or extend its ban.

        Returns:
            False if nothing changes: the end has passed, a longer ban is known, or there is no
            room.
        """
        known = self._ends.get(subject)
        if end <= self._wall() or (known is not None and end <= known):
            return False
        if not self.has_room(subject):
            return False
        if known is None:
            heappush(self._checks, (end, subject))
        self._ends[subject] = end
        return True

    def sweep(self) -> None:
        """Remove the bans that have ended; examine at most ENDED."""
        now = self._wall()
        for _ in range(ENDED):
            if not self._checks or self._checks[0][0] > now:
                return
            _, subject = heappop(self._checks)
            end = self._ends[subject]
            if end > now:  # it was extended
                heappush(self._checks, (end, subject))
            else:
                del self._ends[subject]
