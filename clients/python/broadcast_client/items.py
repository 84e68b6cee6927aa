"""What a subscriber gets, and how a refusal is told."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Position(NamedTuple):
    """A place in the order of a topic with history: all up to it is known."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody published."""

    topic: str
    id: Any
    payload: Any
    ts: str  # when the server took it
    offset: int | None = None  # its place, in a topic with history


@dataclass(frozen=True, slots=True)
class Lost:
    """In this place something is missing, or may be: load your state anew."""

    topic: str
    why: str  # for a person
    count: int | None = None  # how many, where that is known


@dataclass(frozen=True, slots=True)
class Deleted:
    """The topic was deleted; this is the last item."""

    topic: str


Item = Event | Lost | Deleted


class RefusedError(Exception):
    """Something was not carried out, or the server does not want this client at all.

    `code` is the server's, or CLOSED (you closed the client), REFUSED (for good), BUSY (too many
    publishes wait), TOO_BIG, or UNKNOWN (nobody can say whether it was carried out).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text

    def anew(self) -> "RefusedError":
        """Another one, for each that it is raised to: an exception keeps where it has been."""
        return RefusedError(self.code, self.text)
