"""What the node is subscribed to through Redis: the channels, and the history of topics with one.

State: the subscribes that wait until a history has been read.
"""

from collections.abc import Callable
from functools import partial

from hub.brokers.base import SUBSCRIBED, SubscribeDone, SubscribeResult
from hub.errors import Refusal
from hub.redis.channels import Channels
from hub.redis.envelope import Envelope
from hub.redis.history_cache import HistoryCache
from hub.redis.session import Session


class Subscriptions:
    """Subscribes to the channel first, and then reads: what is said meanwhile is in one or both."""

    def __init__(
        self, channels: Channels, cache: HistoryCache, again: Callable[[str, SubscribeDone], None]
    ) -> None:
        """`again` subscribes anew where the connection was lost on the way."""
        self._channels = channels
        self._cache = cache
        self._again = again
        self._session: Session
        self._opening: dict[str, SubscribeDone] = {}

    def attach(self, session: Session) -> None:
        """Redis is connected: tell it what is wanted."""
        self._session = session
        self._channels.attach(session)

    def want(self, topic: str, done: SubscribeDone) -> None:
        """Subscribe; `done` when every event from then on arrives here."""
        if self.places(topic):
            self._channels.want(topic, partial(self._open, topic, done))
        else:
            self._channels.want(topic, done)

    def _open(self, topic: str, done: SubscribeDone, result: SubscribeResult | Refusal) -> None:
        """The node hears the topic: read its history before the subscribe is answered."""
        if isinstance(result, Refusal):
            done(result)
        else:
            self._opening[topic] = done
            self._cache.open(self._session, topic, partial(self._opened, topic))

    def _opened(self, topic: str, read: bool) -> None:
        done = self._opening.pop(topic)
        if read:
            self._cache.live(self._session, [topic])
            done(SUBSCRIBED)
        else:
            self.drop(topic)
            self._again(topic, done)

    def drop(self, topic: str) -> None:
        """Subscribe no more."""
        if self._channels.attached:
            self._cache.live(self._session, [topic])  # from now on nobody puts its end off
        self._cache.drop(topic)
        self._channels.drop(topic)

    def deleted(self, topic: str) -> bool:
        """The topic was deleted in this place of its order; whether the node is to be told."""
        if not self._channels.deleted(topic):
            return False
        self._cache.drop(topic)
        done = self._opening.pop(topic, None)
        if done is None:
            return True
        self._again(topic, done)  # it is made anew
        return False

    def places(self, topic: str) -> bool:
        """Whether the topic's events are put in order by their offsets."""
        return self._cache.rule(topic) is not None

    def heard(self, topic: str, envelope: Envelope) -> None:
        """An event of such a topic has come."""
        self._cache.heard(self._session, topic, envelope)

    def confirmed(self, channel: bytes) -> None:
        """Redis has confirmed a subscription."""
        held = self._channels.confirmed(channel)
        if held is not None and not self._cache.check(self._session, held):
            self._channels.unsure[held] = None
