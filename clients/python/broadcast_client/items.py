"""The items that a subscriber gets, positions, and the exception for refusals."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Position(NamedTuple):
    """A place in a topic with history: the last event received, within an epoch."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Event:
    """A published message."""

    topic: str
    id: Any
    payload: Any
    ts: str  # time at which the server accepted it, as RFC 3339
    offset: int | None = None  # its number, in a topic with history


@dataclass(frozen=True, slots=True)
class Lost:
    """A mark that events are missing here, or may be: load your state again."""

    topic: str
    why: str  # the reason as text for people
    count: int | None = None  # number of missing events, if it is known


@dataclass(frozen=True, slots=True)
class Deleted:
    """The last item of a topic that was deleted."""

    topic: str


Item = Event | Lost | Deleted


class RefusedError(Exception):
    """A request was refused, or the client was refused for good.

    `code` is the server's, or CLOSED (the client was closed), REFUSED (for good), BUSY (too many
    requests are pending), TOO_BIG, or UNKNOWN (the request may have been carried out).
    `retry_after_ms` is the time after which the same request may succeed, if the server says it
    (RATE_LIMITED).
    """

    def __init__(self, code: str, text: str, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.retry_after_ms = retry_after_ms

    def copy(self) -> "RefusedError":
        """Return a copy: each caller needs its own, since raising adds to the traceback."""
        return RefusedError(self.code, self.text, self.retry_after_ms)
