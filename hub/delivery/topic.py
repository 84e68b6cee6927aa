"""One topic on this node: who receives it, and what was said in it during this tick."""

from typing import TYPE_CHECKING, NamedTuple

from hub.values import NOWHERE, Position

if TYPE_CHECKING:
    from hub.brokers.base import Done
    from hub.brokers.history import History
    from hub.delivery.client import Client
    from hub.values import RecoverFrom


class Wish(NamedTuple):
    """A client that wants to be subscribed."""

    client: "Client"
    since: "RecoverFrom | None"  # what it has of the topic, or wants
    done: "Done"


class Topic:
    """State: the subscribers, those that the broker has yet to confirm, and the tick's batch."""

    __slots__ = (
        "batch",
        "behind",
        "epoch",
        "history",
        "missed",
        "name",
        "streams",
        "subscribers",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        # A dict for its order: events go out in the order of joining.
        self.subscribers: dict[Client, None] = {}
        # Those to whom it is said as Server-Sent Events are apart: frames are not tested for it.
        self.streams: dict[Client, None] = {}
        # Those of both that catch up with the others first, each with what it has read.
        self.behind: dict[Client, Position] = {}
        self.history: History | None = None  # what they read
        self.epoch = ""  # of the batch: the history's may have changed behind it; empty without one
        # Who waits for the broker's confirmation; None once it has come.
        self.waiting: list[Wish] | None = []
        # Frames published in this tick and not yet handed to the subscribers.
        self.batch: list[bytes] = []
        # Behind what nothing is missing, where the subscribers are to be told of a gap first
        # (hub/delivery/gaps.py); None where they are not.
        self.missed: Position | None = None

    @property
    def members(self) -> int:
        """How many are subscribed, those that catch up included."""
        return len(self.subscribers) + len(self.streams) + len(self.behind)

    @property
    def position(self) -> Position:
        """Where it is."""
        return NOWHERE if self.history is None else self.history.position

    def remember(self, history: "History | None") -> None:
        """Its history, as of now; the batch is empty."""
        self.history = history
        self.epoch = "" if history is None else history.epoch

    def add(self, client: "Client") -> None:
        """Make a client one of those that get the next batch."""
        (self.streams if client.wire.streams else self.subscribers)[client] = None

    def discard(self, client: "Client") -> None:
        """Make it none of them; harmless where it was none."""
        (self.streams if client.wire.streams else self.subscribers).pop(client, None)
