"""One topic on this node: its subscribers, and the events published to it in this tick."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from hub.delivery.framing import Encoding
from hub.values import NOWHERE, Position, RecoverFrom

if TYPE_CHECKING:
    from hub.brokers.base import SubscribeDone
    from hub.brokers.history import History


class Subscriber(Protocol):
    """The part of a client that a topic needs."""

    @property
    def encoding(self) -> Encoding:
        """The encoding of its connection, by which topics group their subscribers."""


S = TypeVar("S", bound=Subscriber)


class SubscribeRequest(NamedTuple, Generic[S]):
    """A subscribe that the broker has yet to answer."""

    client: S
    recover_from: RecoverFrom | None  # the events that it asks for, if any
    done: "SubscribeDone"


class Topic(Generic[S]):
    """State: the subscribers, the requests that await the broker, and the tick's events."""

    __slots__ = (
        "batch",
        "cursors",
        "epoch",
        "gap",
        "groups",
        "history",
        "name",
        "receivers",
        "requests",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        # The subscribers by encoding: a batch is encoded once for each of these groups. Dicts, for
        # their order: clients get events in the order in which they joined.
        self.groups: dict[Encoding, dict[S, None]] = {}
        self.receivers = 0  # subscribers in all groups, which get the next batch
        # Subscribers that still read the history, each with the position up to which it has read.
        self.cursors: dict[S, Position] = {}
        self.history: History | None = None
        self.epoch = ""  # of the batch; the history's may be newer. Empty without a history.
        # Subscribes that await the broker's first confirmation; None once it has come.
        self.requests: list[SubscribeRequest[S]] | None = []
        # Events published in this tick and not yet handed to the subscribers.
        self.batch: list[bytes] = []
        # The position after which nothing is missing, if there is a gap to report before the next
        # event (hub/delivery/gaps.py); None without a gap.
        self.gap: Position | None = None

    @property
    def members(self) -> int:
        """The number of subscribers, those that still read the history included."""
        return self.receivers + len(self.cursors)

    @property
    def position(self) -> Position:
        """The position of the newest event; NOWHERE without a history."""
        return NOWHERE if self.history is None else self.history.position

    def __contains__(self, client: S) -> bool:
        """Whether a client is a subscriber."""
        return client in self.groups.get(client.encoding, ()) or client in self.cursors

    def subscribers(self) -> Iterator[S]:
        """Every subscriber, those that still read the history included."""
        for clients in self.groups.values():
            yield from clients
        yield from self.cursors

    def remember(self, history: "History | None") -> None:
        """Take over the broker's history of the topic; the batch must be empty."""
        self.history = history
        self.epoch = "" if history is None else history.epoch

    def add(self, client: S) -> None:
        """Make a client one of those that get the next batch."""
        clients = self.groups.setdefault(client.encoding, {})
        if client not in clients:
            clients[client] = None
            self.receivers += 1

    def discard(self, client: S) -> None:
        """Remove a client from those that get the next batch; do nothing if it is none of them."""
        clients = self.groups.get(client.encoding)
        if clients is not None and client in clients:
            del clients[client]
            self.receivers -= 1
            if not clients:
                del self.groups[client.encoding]
