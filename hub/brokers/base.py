"""The seam between nodes: who else must hear of a publish, and which topics there are.

The hub calls a `Broker` and is called back through `BrokerEvents`; it does not know whether there
are other nodes. This is the contract alone: hub/brokers/memory.py is a single server's broker, and
hub/redis/broker.py that of many.
"""

from collections.abc import Callable, Collection, Mapping, Sized
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from hub.brokers.history import History
from hub.brokers.idempotency import FirstPublish
from hub.errors import Refusal
from hub.values import NOWHERE, Position


class PublishResult(NamedTuple):
    """The result of a publish that was carried out."""

    nodes: int | None = None  # nodes that received the event; None on a single server
    degraded: bool = False  # True if the event reached this node alone, during an outage
    first: FirstPublish | None = None  # the publish that this one repeats, if it is a repetition
    position: Position | None = None  # of the event; None in a topic without history


class SubscribeResult(NamedTuple):
    """The result of a subscribe that was carried out."""

    degraded: bool = False  # True if only this node's events arrive, during an outage
    position: Position | None = None  # of the topic; None without history
    recovered: bool | None = None  # whether the missed events follow; None if none were asked for
    start: Position = NOWHERE  # the position after which the subscriber's events begin


PUBLISHED: Final = PublishResult()
SUBSCRIBED: Final = SubscribeResult()

PublishDone = Callable[[PublishResult | Refusal], None]
SubscribeDone = Callable[[SubscribeResult | Refusal], None]
# For the creation or deletion of a topic: None if it was carried out.
TopicDone = Callable[[Refusal | None], None]


class ClusterFigures(NamedTuple):
    """The nodes, clients and topics of the deployment beside this node."""

    node: str  # this node's own id
    nodes: int = 0  # the others
    clients: int = 0  # of the others
    # Subscribers of the others by topic, and 0 for the topics that exist without any.
    topics: Mapping[str, int] = MappingProxyType({})
    poisoned: int = 0  # messages between nodes that made no sense, as this one has seen them
    degraded: bool = False  # whether the others were out of reach: then none of them is counted


class BrokerEvents(Protocol):
    """The calls that a broker makes to the hub it serves. They return at once and never raise."""

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

    def serve(self, events: BrokerEvents) -> None:
        """Set the hub that receives the events; called once, before anything else."""

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        """Send an encoded event to every node; refused with TOPIC_NOT_FOUND where no topic is."""

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        """The same, unless a publish to the topic had this key: then its `first` is the outcome."""

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        """The node's first subscriber is coming: make the topic, and deliver from `done` on."""

    def join(self, topic: str, done: SubscribeDone) -> None:
        """One more subscriber is coming to a topic that the node has: whether it may, and how."""

    def unsubscribe(self, topic: str) -> None:
        """The node's last subscriber has left: deliver no more; an automatic topic may go."""

    def counted(self, topic: str, subscribers: int) -> None:
        """How many subscribers a topic has on this node, now that it has changed."""

    def create(self, topic: str, done: TopicDone) -> None:
        """Make a topic that stays until it is deleted; refused with TOPIC_EXISTS."""

    def delete(self, topic: str, done: TopicDone) -> None:
        """Delete a topic and tell every node; refused with TOPIC_NOT_FOUND."""

    def history(self, topic: str) -> History | None:
        """What a topic remembers, as far as this node knows; None where it has no history."""

    async def fetch_history(self, topic: str, since: Position | None) -> History | Refusal:
        """What a topic remembers, whoever is subscribed to it; at least what is after `since`."""

    def topics(self) -> Collection[str]:
        """The topics that exist although this node is not subscribed to them, as it knows."""

    def sweep(self) -> None:
        """Let go of what has run out; called now and then."""

    async def cluster_figures(self) -> ClusterFigures | None:
        """What the other nodes have, at most two seconds ago; None where there are none."""
