"""Ids of messages and connections, and timestamps."""

import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple

_CONNECTION_ID: Final = re.compile("([0-9a-f]{16})-([0-9]{1,15})")


class Ids:
    """Makes the ids and timestamps of the messages that this server sends.

    Ids are unique across nodes and grow within one, even if the clock is set back.
    """

    def __init__(self, wall_ns: Callable[[], int], node: str) -> None:
        """Create a source of ids.

        Args:
            wall_ns: returns nanoseconds since the Unix epoch.
            node: suffix of every id; different on every node.
        """
        self._wall_ns = wall_ns
        self._node = node
        self._last_id = 0  # nanoseconds of the newest id
        self._second = -1  # the second that `_timestamp` is of
        self._timestamp = ""

    def now(self) -> str:
        """Return the time as RFC 3339 in UTC, in whole seconds."""
        second = self._wall_ns() // 1_000_000_000
        if second != self._second:  # formatted once a second, not once a message
            self._second = second
            self._timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._timestamp

    def new_id(self) -> str:
        """Return a new id: nanoseconds, a hyphen and the node's suffix."""
        self._last_id = max(self._last_id + 1, self._wall_ns())
        return f"{self._last_id}-{self._node}"


class ConnectionId(NamedTuple):
    """The id of a connection, unique across nodes. Ids are ordered by node, then by number."""

    node: str  # 16 hexadecimal digits
    number: int  # of the connection on its node, as in the node's log

    def __str__(self) -> str:
        return f"{self.node}-{self.number}"


def parse_connection_id(text: str) -> ConnectionId | None:
    """Return the connection id that a text is; None if it is none."""
    found = _CONNECTION_ID.fullmatch(text)
    return ConnectionId(found[1], int(found[2])) if found else None
