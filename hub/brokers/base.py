"""The seam between nodes: who else must hear of a publish, and which topics there are.

The hub speaks to a `Broker` and hears back through a `Node`; it does not know whether others are
behind it. This is the contract alone: hub/brokers/memory.py is a single server's broker, and
hub/redis/broker.py that of many.
"""

from collections.abc import Callable, Collection, Mapping, Sized
from types import MappingProxyType
from typing import NamedTuple, Protocol

from hub.brokers.history import History
from hub.brokers.idempotency import First
from hub.errors import Refusal
from hub.values import NOWHERE, Position


class Accepted(NamedTuple):
    """The broker has carried out what it was asked."""

    nodes: int | None = None  # of a publish: how many got the event; None where there are no others
    degraded: bool = False  # whether the other nodes were out of reach
    first: First | None = None  # of a repeated publish: what was answered when it was carried out
    position: Position | None = None  # of a publish to a topic with history: its event's
    recovered: bool | None = None  # of a subscribe that asked to recover: whether it does
    start: Position = NOWHERE  # of a subscribe: what the events that come are behind


ACCEPTED = Accepted()
DEGRADED = Accepted(degraded=True)

Done = Callable[[Accepted | Refusal], None]


class Census(NamedTuple):
    """What there is beside this node."""

    node: str  # this node's own id
    nodes: int = 0  # the others
    clients: int = 0  # of the others
    # Subscribers of the others by topic, and 0 for the topics that exist without any.
    topics: Mapping[str, int] = MappingProxyType({})
    poisoned: int = 0  # messages between nodes that made no sense, as this one has seen them
    degraded: bool = False  # whether the others were out of reach: then none of them is counted


class Node(Protocol):
    """What a broker tells the node it serves; all are plain calls that never fail."""

    @property
    def clients(self) -> Sized:
        """Who is connected to the node."""

    def deliver(self, topic: str, event: bytes) -> None:
        """An event, in the topic's one order, whichever node it was published on."""

    def deleted(self, topic: str) -> None:
        """The topic was deleted, in this place of its order. The node is subscribed no more."""

    def missed(self, topic: str) -> None:
        """Events of the topic may have been lost here: its subscribers are told before the next."""


class Broker(Protocol):
    """Carries events between the nodes and keeps the register of topics.

    Every call returns at once; what it comes to is told through its callback, exactly once, before
    the call returns or later. Publishes complete in the order in which they were made. Delivery is
    at most once, in one order per topic for all nodes; what may be lost is told by `missed`.
    """

    @property
    def degraded(self) -> bool:
        """Whether the other nodes are known to be out of reach."""

    @property
    def reachable(self) -> bool | None:
        """Whether the other nodes are in reach now; None where there are none."""

    def serve(self, node: Node) -> None:
        """Name the node that events are for; once, before anything else."""

    def publish(self, topic: str, event: bytes, done: Done) -> None:
        """Send an encoded event to every node; refused with TOPIC_NOT_FOUND where no topic is."""

    def publish_once(self, topic: str, event: bytes, done: Done, key: str, first: First) -> None:
        """The same, unless a publish to the topic had this key: then its `first` is the outcome."""

    def subscribe(self, topic: str, done: Done) -> None:
        """The node's first subscriber is coming: make the topic, and deliver from `done` on."""

    def join(self, topic: str, done: Done) -> None:
        """One more subscriber is coming to a topic that the node has: whether it may, and how."""

    def unsubscribe(self, topic: str) -> None:
        """The node's last subscriber has left: deliver no more; an automatic topic may go."""

    def counted(self, topic: str, subscribers: int) -> None:
        """How many subscribers a topic has on this node, now that it has changed."""

    def create(self, topic: str, done: Done) -> None:
        """Make a topic that stays until it is deleted; refused with TOPIC_EXISTS."""

    def delete(self, topic: str, done: Done) -> None:
        """Delete a topic and tell every node; refused with TOPIC_NOT_FOUND."""

    def history(self, topic: str) -> History | None:
        """What a topic remembers, as far as this node knows; None where it has no history."""

    async def remembered(self, topic: str, since: Position | None) -> History | Refusal:
        """What a topic remembers, whoever is subscribed to it; at least what is after `since`."""

    def topics(self) -> Collection[str]:
        """The topics that exist although this node is not subscribed to them, as it knows."""

    def sweep(self) -> None:
        """Let go of what has run out; called now and then."""

    async def census(self) -> Census | None:
        """What the other nodes have, at most two seconds ago; None where there are none."""
