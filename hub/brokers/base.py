"""The contract between the hub and a broker, which connects it with the other nodes.

The hub calls a `Broker` and is called back through `BrokerEvents`. It does not know whether there
are other nodes: hub/brokers/memory.py is the broker of a single server, hub/redis/broker.py that
of a cluster.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from hub.brokers.history import History, HistoryBudget
from hub.brokers.idempotency import FirstPublish
from hub.errors import Refusal
from hub.reports import GapCause
from hub.values import NOWHERE, Json, Position


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
# Called after the creation or deletion of a topic: with None, or with the refusal.
TopicDone = Callable[[Refusal | None], None]
NotifiedDone = Callable[[bool], None]  # called with whether the other nodes were notified


class OutageReason(StrEnum):
    """Why the other nodes are out of reach. Values may be added; none of these may change."""

    UNREACHABLE = "unreachable"  # no connection could be made
    CLOSED = "closed"  # the connection was closed or broke
    TIMEOUT = "timeout"  # nothing was received in time
    UNUSABLE = "unusable"  # a command or login was refused, or there is no master
    FAILOVER = "failover"  # the sentinels named another master
    INTERNAL_ERROR = "internal_error"  # a fault of this server; it is in the log


class ClusterStats(NamedTuple):
    """Statistics of the other nodes of the deployment."""

    node: str  # this node's own id
    nodes: int = 0  # other nodes
    clients: int = 0  # clients of other nodes
    # Subscribers on other nodes by topic; 0 for a topic that exists without any.
    topics: Mapping[str, int] = MappingProxyType({})
    poisoned: int = 0  # messages in Redis that this node dropped because no node had sent them
    degraded: bool = False  # True if the others could not be reached; the numbers are 0


class BrokerEvents(Protocol):
    """The calls that a broker makes to the hub it serves. They return at once and never raise."""

    def deliver(self, topic: str, event: bytes) -> None:
        """Deliver an encoded event to the subscribers on this node."""

    def deleted(self, topic: str) -> None:
        """End all subscriptions to a deleted topic; no `unsubscribe` follows."""

    def missed(self, topic: str, cause: GapCause = GapCause.OUTAGE) -> None:
        """Report a gap to the topic's subscribers, before the next event is delivered."""

    def broker_lost(self, reason: OutageReason) -> None:
        """An outage begins: the broker is `degraded`, and the other nodes are out of reach."""

    def broker_back(self) -> None:
        """The outage has ended."""

    def broker_answered(self, seconds: float) -> None:
        """A command was answered after so many seconds; called about once a second."""

    def broker_returned(self, seconds: float) -> None:
        """A message of this node to itself took so many seconds; called about once a second."""


class DisconnectEvents(Protocol):
    """The calls that a broker makes when another node disconnects or bans somebody.

    They return at once and never raise.
    """

    @property
    def bans(self) -> Mapping[str, float]:
        """The bans on this node: the end of each by subject, in seconds since the epoch."""

    def disconnect(self, subject: str, client_id: str) -> None:
        """Close the connections of a subject or of a client id; the other argument is empty."""

    def ban(self, bans: Mapping[str, float]) -> None:
        """Ban subjects, each until its end in seconds since the epoch.

        If a subject is banned for longer already, the longer ban stays.
        """


class QuestionEvents(Protocol):
    """The call that a broker makes when another node asks a question."""

    async def answer(self, question: Json) -> Json:
        """Return this node's answer; None if it does not know the question."""


class Asked:
    """A question to the other nodes, whose answers are awaited one by one."""

    def __init__(self, nodes: Sequence[str] = (), *, degraded: bool = False) -> None:
        """Record a question.

        Args:
            nodes: the ids of the nodes that were asked, in ascending order.
            degraded: whether the other nodes were out of reach.
        """
        self.nodes = nodes
        # Whether the other nodes were out of reach, or have been lost since the question.
        self.degraded = degraded

    async def answer(self, node: str) -> Json:
        """Return a node's answer; None if it gives none in time, or does not know the question."""


class Broker(Protocol):
    """Carries events between nodes and keeps the registry of topics.

    An *explicit* topic exists from `create` to `delete`. An *automatic* topic exists while a node
    is subscribed to it or its history is kept.

    Calls:

    - Every call but the coroutines returns at once.
    - `done` is called exactly once, in the hub's event loop, before the call returns or later.
    - A call that was not carried out completes with a `Refusal`; calls do not raise.
    - Publishes complete in the order in which they were made. Other calls may overtake each other
      and publishes; the hub keeps one client's commands in order.

    Events:

    - Every node gets a topic's events and its deletion in the same order, each at most once.
    - If events of a topic may have been lost, `missed` is called: after the subscription is back,
      and before the next event of another node.
    - After `subscribe` has completed, every event is delivered, until `unsubscribe` or `deleted`.
      Some events may be delivered before it completes. A publish may complete before or after its
      event is delivered.
    - In a topic with history, an event gets the next offset and is appended to the history before
      it is delivered. Nothing else in an event is changed.

    Outages:

    - If the other nodes cannot be reached, a broker either serves this node alone, with `degraded`
      in its results, or refuses calls with UNAVAILABLE. It refuses publishes and subscribes to
      topics with history, and the creation and deletion of topics, in both modes.
    - Disconnects are never refused: each node carries out its own.
    - If the connection is lost before a call completes, the call may have been carried out although
      it is refused with UNAVAILABLE.

    The hub calls `subscribe` for the first subscriber of a topic and `unsubscribe` after the last,
    and may make calls within `done` and within the calls of `BrokerEvents`.
    """

    @property
    def degraded(self) -> bool:
        """Whether this node serves its clients alone because of an outage."""

    @property
    def reachable(self) -> bool | None:
        """Whether the other nodes can be reached now; None on a single server."""

    @property
    def round_trip(self) -> float | None:
        """The seconds that the newest message of this node to itself took.

        None on a single server, and until the first such message has come back.
        """

    def serve(self, events: BrokerEvents) -> None:
        """Register the hub, which receives the events. Called once, before any other call."""

    def serve_disconnects(self, events: DisconnectEvents) -> None:
        """Register the object that carries out the disconnects of other nodes.

        Called once, before any call but `serve`.
        """

    def serve_questions(self, events: QuestionEvents) -> None:
        """Register the object that answers the questions of other nodes.

        Called once, before any call but `serve`.
        """

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        """Send an encoded event to every node; refuse an unknown topic with TOPIC_NOT_FOUND."""

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        """Publish, unless an earlier publish to the topic had the same idempotency key.

        Args:
            topic: the topic's name.
            event: the encoded event.
            done: called with the result. For a repetition, its `first` is that of the earlier
                publish.
            key: the idempotency key.
            first: the answer to keep for repetitions, if this is the first publish with the key.
        """

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        """Subscribe this node, for its first subscriber; create the topic if it does not exist."""

    def join(self, topic: str, done: SubscribeDone) -> None:
        """Admit one more subscriber to a topic that this node is subscribed to."""

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe this node, after its last subscriber has left."""

    def set_subscriber_count(self, topic: str, subscribers: int) -> None:
        """Set the number of subscribers of a topic on this node, for `cluster_stats`."""

    def create(self, topic: str, done: TopicDone) -> None:
        """Create an explicit topic; refuse one that exists with TOPIC_EXISTS."""

    def delete(self, topic: str, done: TopicDone) -> None:
        """Delete a topic on every node; refuse an unknown one with TOPIC_NOT_FOUND."""

    def disconnect(self, subject: str, client_id: str, done: NotifiedDone) -> None:
        """Notify the other nodes to close the connections that this node has closed.

        In an outage they are not notified, not even when it has ended.
        """

    def ban(self, subject: str, end: float, done: NotifiedDone) -> None:
        """Notify the other nodes, and nodes that start later, of a ban that this node has made.

        In an outage they are notified when it has ended.

        Args:
            subject: the banned subject.
            end: the end of the ban, in seconds since the epoch.
            done: called with whether the other nodes were notified.
        """

    def history(self, topic: str) -> History | None:
        """Return the history that this node keeps of a topic, or None."""

    @property
    def history_budget(self) -> HistoryBudget:
        """The memory of the histories on this node."""

    async def fetch_history(self, topic: str, since: Position | None) -> History | Refusal:
        """Return the history of a topic, even if this node is not subscribed to it.

        Args:
            topic: the topic's name.
            since: the position after which the caller needs the events; earlier ones may be
                missing. None for all events.

        Returns:
            The history, or a refusal: the topic has none (TOPIC_NOT_FOUND), or Redis is out of
            reach (UNAVAILABLE).
        """

    def topics(self) -> Collection[str]:
        """Return the topics known to exist that this node is not subscribed to."""

    def sweep(self) -> None:
        """Drop expired events, keys and topics, in a bounded slice; called 8 times a second."""

    async def cluster_stats(self) -> ClusterStats | None:
        """Return the stats of the other nodes, at most 2 s old; None on a single server."""

    async def ask(self, question: Json, start: str) -> Asked:
        """Send a question to the other nodes whose ids are `start` or greater.

        Returns:
            The question. Its nodes include those that are known to exist but cannot answer.
            `Asked.answer` returns within 3 s of this call.
        """
