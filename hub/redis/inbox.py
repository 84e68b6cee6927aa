"""What comes to this node through Redis: events and deletions, each once, and nobody else's words.

State: how many messages, on the deployment's channels and in its histories, were none of its
servers'.
"""

import logging
from collections.abc import Callable
from typing import Any

from hub.brokers.base import BrokerEvents
from hub.redis.channels import Channels
from hub.redis.envelope import DELETED, Envelope, Sender, unseal
from hub.redis.keys import Keys
from hub.redis.subscriptions import Subscriptions

log = logging.getLogger(__name__)


class Inbox:
    """Takes pushes apart and hands on what they say."""

    def __init__(
        self,
        keys: Keys,
        sender: Sender,
        channels: Channels,
        subscriptions: Subscriptions,
        deleted: Callable[[str], None],
    ) -> None:
        """`deleted` carries out a deletion in its place of the topic's order."""
        self._keys = keys
        self._sender = sender
        self._channels = channels
        self._subscriptions = subscriptions
        self._deleted = deleted
        self._events: BrokerEvents
        self.poisoned = 0

    def serve(self, events: BrokerEvents) -> None:
        """Set the hub that receives the events; called once, before anything else."""
        self._events = events

    def heard(self, push: list[Any]) -> None:
        """A push on the subscribed connection, of a topic."""
        if push[0] == b"subscribe":
            self._subscriptions.confirmed(push[1])
        elif push[0] == b"message":
            _, channel, data = push
            topic = self._keys.topic(channel)
            envelope = unseal(data)
            if envelope is None or topic is None or self._sender.is_forged(envelope):
                self.poison(f"channel {channel!r}", data)
            elif envelope.position is not None and self._subscriptions.places(topic):
                # Its offset says whether it is news.
                self._subscriptions.heard(topic, envelope)
            elif self._sender.is_news(envelope):
                self._take(topic, envelope)

    def _take(self, topic: str, envelope: Envelope) -> None:
        if topic in self._channels.unsure:
            del self._channels.unsure[topic]
            self._events.missed(topic)
        if envelope.kind == DELETED:
            self._deleted(topic)
        else:
            self._events.deliver(topic, envelope.event)

    def poison(self, place: str, data: bytes) -> None:
        """Count what was read from Redis and no server of this deployment has written there."""
        self.poisoned += 1
        if self.poisoned == 1:
            text = "dropped a message from Redis' %s that is none of ours (told once): %.60r"
            log.warning(text, place, data)
