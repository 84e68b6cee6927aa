"""Items of a subscription, positions, states of a client, and the exception for refusals."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


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


@dataclass(frozen=True, slots=True)
class History:
    """A part of a topic's history.

    Attributes:
        topic: its name.
        events: in their order; with `reverse` the newest is the first.
        position: the topic's newest position, for example for `subscribe(recover=...)`.
    """

    topic: str
    events: list[Event]
    position: Position


@dataclass(frozen=True, slots=True)
class TopicPage:
    """A part of the list of topics.

    Attributes:
        count: the number of all topics on the server, or servers.
        topics: the names of this page, in order, with their numbers of subscribers.
        next: the last name of this page: pass it as `after` to get the next page. None if this is
            the last page.
    """

    count: int
    topics: dict[str, int]
    next: str | None = None


State = Literal["connecting", "open", "waiting", "closed"]


@dataclass(frozen=True, slots=True)
class StateDetail:
    """What is known about a change of `Client.state`.

    Attributes:
        why: the reason why the last connection ended or was not made; empty if there is none.
        attempt: the number of attempts since the last steady connection; 0 for the first one.
        seconds: in the state "waiting", the time until the next attempt.
        error: in the state "closed", the refusal that ended the client; None if you closed it.
    """

    why: str = ""
    attempt: int = 0
    seconds: float | None = None
    error: "RefusedError | None" = None


class RefusedError(Exception):
    """A request was refused, or the client was refused for good.

    Attributes:
        code: the server's code, or one of the client: CLOSED (you closed it), REFUSED (the server
            refuses this client for good, or an item of a batch), BUSY (too many requests are
            pending), TOO_BIG, TIMEOUT (no answer within the given time) or UNKNOWN. After TIMEOUT
            and UNKNOWN a publish may have been carried out. HTTP calls have these, too: NOT_FOUND,
            GONE (events after the position are forgotten) and UNAVAILABLE (no server answers).
        text: the reason, for people.
        retry_after_ms: the time in milliseconds after which the same request may succeed, if the
            server says it (RATE_LIMITED).
    """

    def __init__(self, code: str, text: str, retry_after_ms: int | None = None) -> None:
        """Make an error; `str()` of it is the code and the text."""
        super().__init__(code, text, retry_after_ms)  # what pickle makes it from again
        self.code = code
        self.text = text
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"

    def copy(self) -> "RefusedError":
        """Return a copy: each caller needs its own, since raising adds to the traceback."""
        return RefusedError(self.code, self.text, self.retry_after_ms)
