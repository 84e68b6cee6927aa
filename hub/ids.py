"""The time and the ids that this server puts on what it says."""

import time
from collections.abc import Callable


class Stamps:
    """Timestamps of whole seconds, and ids that grow within a process and clash with no other's.

    `wall_ns` gives nanoseconds since the epoch; `node` is this process's suffix.
    """

    def __init__(self, wall_ns: Callable[[], int], node: str) -> None:
        self._wall_ns = wall_ns
        self._node = node
        self._last_id = 0  # nanoseconds of the newest id
        self._second = -1  # the second that `_ts` says
        self._ts = ""

    def ts(self) -> str:
        """Now, as RFC 3339 in UTC with whole seconds."""
        second = self._wall_ns() // 1_000_000_000
        if second != self._second:  # formatted once a second, not once a message
            self._second = second
            self._ts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._ts

    def new_id(self) -> str:
        """A fresh id: nanoseconds, strictly growing even where the clock does not, and the node."""
        self._last_id = max(self._last_id + 1, self._wall_ns())
        return f"{self._last_id}-{self._node}"
