"""The node's subscriptions through Redis, and the messages that arrive on them.

State: the subscribes whose history is being read; the topics that may have missed events; the
deletions that have not come back yet.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from hub.brokers.base import (
    SUBSCRIBED,
    BrokerEvents,
    SubscribeDone,
    SubscribeResult,
    TopicDone,
)
from hub.errors import Refusal
from hub.redis.batching import take
from hub.redis.channels import Channels
from hub.redis.envelope import DELETED, Envelope, Sender, unseal
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.poison import Poison
from hub.redis.session import Session


class Subscriptions:
    """Subscribes to topics, and hands their messages to the hub.

    A subscribe passes these steps; `_open` to `_opened` only if the topic has a history:

        RedisBroker.subscribe     queued until the state of Redis is known
        Subscriptions.want
        Channels.want             SUBSCRIBE; at its confirmation, the lease
        Subscriptions._open       the lease is written: the node holds the topic
        HistoryCache.open         read the history
        Subscriptions._opened     extend its lifetime
        done

    If the session is lost during the read, the subscribe begins again at the broker.

    A topic's channel is subscribed before its history is read, so an event that is published
    meanwhile is in the history, on the channel, or in both. A message passes from the connection to
    `receive`, through the history cache if its topic has a history, and then to the hub.

    Events may be lost with a connection. When the channel of a topic that the node held is
    subscribed again, the history cache reads the missed events. A topic without a history is
    marked, and the gap is reported (`missed`) before the topic's next message, or when the broker
    is up. Marks stay until they are reported, so that very many topics are reported in several
    ticks, and each topic once, even if several sessions are lost while they join.
    """

    def __init__(
        self,
        keys: Keys,
        sender: Sender,
        channels: Channels,
        cache: HistoryCache,
        poison: Poison,
        resubscribe: Callable[[str, SubscribeDone], None],
    ) -> None:
        """`resubscribe` starts a subscribe again after its connection was lost."""
        self._keys = keys
        self._sender = sender
        self._channels = channels
        self._cache = cache
        self._poison = poison
        self._resubscribe = resubscribe
        self._events: BrokerEvents
        self._session: Session
        self._opening: dict[str, SubscribeDone] = {}
        self._missed: dict[str, None] = {}
        self._deleting: dict[str, list[TopicDone]] = {}

    def serve(self, events: BrokerEvents) -> None:
        """Set the hub that receives the messages; called once, before anything else."""
        self._events = events

    # The connection.

    def attach(self, session: Session) -> None:
        """Subscribe to all topics through a new session."""
        self._session = session
        self._channels.attach(session)

    def detach(self) -> None:
        """Handle the loss of the session.

        Redis has accepted some events and deletions, and has not sent them back. They are delivered
        from here.
        """
        self._channels.detach()
        for topic, event in self._sender.take_owed():
            if event is None:
                self.delete(topic)
            else:
                self._events.deliver(topic, event)

    # What the node wants.

    def want(self, topic: str, done: SubscribeDone) -> None:
        """Subscribe to a topic; call `done` when all further events will arrive here."""
        if self._cache.rule(topic) is not None:
            self._channels.want(topic, partial(self._open, topic, done))
        else:
            self._channels.want(topic, done)

    def _open(self, topic: str, done: SubscribeDone, result: SubscribeResult | Refusal) -> None:
        """Read the history of a topic whose channel is subscribed, before the subscribe is done."""
        if isinstance(result, Refusal):
            done(result)
        else:
            self._opening[topic] = done
            self._cache.open(self._session, topic, partial(self._opened, topic))

    def _opened(self, topic: str, read: bool) -> None:
        done = self._opening.pop(topic)
        if read:
            self._cache.extend(self._session, [topic])
            done(SUBSCRIBED)
        else:
            self.drop(topic)
            self._resubscribe(topic, done)

    def drop(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        if self._channels.attached:
            self._cache.extend(self._session, [topic])  # the last extension of its lifetime
        self._cache.drop(topic)
        self._missed.pop(topic, None)
        self._channels.drop(topic)

    # Deletions.

    def delete(self, topic: str) -> None:
        """Carry out the deletion of a topic, at its place in the topic's order."""
        if self._channels.deleted(topic):
            self._missed.pop(topic, None)
            self._cache.drop(topic)
            opening = self._opening.pop(topic, None)
            if opening is None:
                self._events.deleted(topic)
            else:
                self._resubscribe(topic, opening)  # which creates the topic again
        for done in self._deleting.pop(topic, ()):
            done(None)

    def await_deletion(self, topic: str, done: TopicDone) -> None:
        """Call `done` when the deletion that Redis carried out has arrived here."""
        self._deleting.setdefault(topic, []).append(done)

    # Events that may have been missed.

    def mark_missed(self, topic: str) -> None:
        """Remember that a topic may have missed events."""
        self._missed[topic] = None

    def report_missed(self) -> bool:
        """Report some of the topics that may have missed events to the hub.

        Returns:
            False if there were none.
        """
        topics = take(self._missed)
        for topic in topics:
            self._events.missed(topic)
        return bool(topics)

    # Messages.

    def receive(self, push: list[Any]) -> None:
        """Handle a push about a topic's channel: a confirmation or a message."""
        if push[0] == b"subscribe":
            self._confirmed(push[1])
        elif push[0] == b"message":
            _, channel, data = push
            topic = self._keys.topic(channel)
            envelope = unseal(data)
            if envelope is None or topic is None or self._sender.is_forged(envelope):
                self._poison.drop(f"channel {channel!r}", data)
            elif envelope.position is not None and self._cache.rule(topic) is not None:
                # The cache knows by the offset whether the event is new.
                self._cache.receive(self._session, topic, envelope)
            elif self._sender.is_news(envelope):
                self._hand_on(topic, envelope)

    def _confirmed(self, channel: bytes) -> None:
        held = self._channels.confirmed(channel)
        if held is not None and not self._cache.repair(self._session, held):
            self.mark_missed(held)

    def _hand_on(self, topic: str, envelope: Envelope) -> None:
        if topic in self._missed:
            del self._missed[topic]
            self._events.missed(topic)
        if envelope.kind == DELETED:
            self.delete(topic)
        else:
            self._events.deliver(topic, envelope.event)
