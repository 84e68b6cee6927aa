"""The seam between nodes: who else must hear of a publish, and which topics there are.

The hub speaks to a `Broker` and hears back through a `Node`; it does not know whether others are
behind it. This module has the contract of the seam and the broker of a single server.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from hub.errors import ErrorCode, Refusal


class Accepted(NamedTuple):
    """The broker has carried out what it was asked."""


ACCEPTED = Accepted()

Done = Callable[[Accepted | Refusal], None]


class Node(Protocol):
    """What a broker tells the node it serves; both are plain calls that never fail."""

    def deliver(self, topic: str, event: bytes) -> None:
        """An event, in the topic's one order, whichever node it was published on."""

    def deleted(self, topic: str) -> None:
        """The topic was deleted, in this place of its order. The node is subscribed no more."""


class Broker(Protocol):
    """Carries events between the nodes and keeps the register of topics.

    Every call returns at once; what it comes to is told through its callback, exactly once, before
    the call returns or later. Publishes complete in the order in which they were made, each after
    the node has been handed the event if it is subscribed. Delivery is at most once, in one order
    per topic for all nodes.
    """

    def serve(self, node: Node) -> None:
        """Name the node that events are for; once, before anything else."""

    def publish(self, topic: str, event: bytes, done: Done) -> None:
        """Send an encoded event to every node; refused with TOPIC_NOT_FOUND where no topic is."""

    def subscribe(self, topic: str, done: Done) -> None:
        """The node's first subscriber is coming: make the topic, and deliver from `done` on."""

    def unsubscribe(self, topic: str) -> None:
        """The node's last subscriber has left: deliver no more; an automatic topic may go."""

    def create(self, topic: str, done: Done) -> None:
        """Make a topic that stays until it is deleted; refused with TOPIC_EXISTS."""

    def delete(self, topic: str, done: Done) -> None:
        """Delete a topic and tell every node; refused with TOPIC_NOT_FOUND."""

    def topics(self) -> Iterable[str]:
        """The topics that exist although this node may have no subscriber in them."""


class LocalBroker:
    """The broker of a single server: everything completes before the call returns.

    State: the topics made by `create`, and those that the node is subscribed to. A topic exists
    while it is in either.
    """

    def __init__(self) -> None:
        self._explicit: dict[str, None] = {}  # a dict for its order
        self._subscribed: set[str] = set()
        self._node: Node

    def serve(self, node: Node) -> None:
        self._node = node

    def publish(self, topic: str, event: bytes, done: Done) -> None:
        if topic in self._subscribed:
            self._node.deliver(topic, event)
            done(ACCEPTED)
        elif topic in self._explicit:
            done(ACCEPTED)
        else:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, f"Topic '{topic}' does not exist"))

    def subscribe(self, topic: str, done: Done) -> None:
        self._subscribed.add(topic)
        done(ACCEPTED)

    def unsubscribe(self, topic: str) -> None:
        self._subscribed.discard(topic)

    def create(self, topic: str, done: Done) -> None:
        if self._exists(topic):
            done(Refusal(ErrorCode.TOPIC_EXISTS, "Topic already exists"))
        else:
            self._explicit[topic] = None
            done(ACCEPTED)

    def delete(self, topic: str, done: Done) -> None:
        if self._exists(topic):
            self._explicit.pop(topic, None)
            self._subscribed.discard(topic)
            self._node.deleted(topic)
            done(ACCEPTED)
        else:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, "Topic not found"))

    def topics(self) -> Iterable[str]:
        return self._explicit

    def _exists(self, topic: str) -> bool:
        return topic in self._explicit or topic in self._subscribed
