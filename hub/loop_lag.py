"""The lag of the event loop: how late it runs what is due.

State: the longest lag of the present half of the window, and that of the half before it.
"""

from typing import Final

WINDOW: Final = 10.0  # seconds


class LoopLag:
    """Remembers the longest lag of the last WINDOW seconds."""

    def __init__(self) -> None:
        self._until = 0.0  # the end of this half of the window
        self._this = self._last = 0.0  # seconds

    def add(self, late: float, now: float) -> None:
        """Record that a timer ran `late` seconds after its time, at `now` by the loop's clock."""
        if now >= self._until:
            self._last = self._this if now < self._until + WINDOW / 2 else 0.0
            self._this = 0.0
            self._until = now + WINDOW / 2
        self._this = max(self._this, late)

    @property
    def longest(self) -> float:
        """The longest lag of the last WINDOW seconds, in seconds."""
        return max(self._this, self._last)
