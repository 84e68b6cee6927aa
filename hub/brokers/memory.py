"""The broker of a single server: everything completes before the call returns.

State: which topics there are, and what those with a history remember.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from typing import Final

from hub.brokers.base import (
    PUBLISHED,
    SUBSCRIBED,
    BrokerEvents,
    PublishDone,
    PublishResult,
    SubscribeDone,
    TopicDone,
)
from hub.brokers.history import NOT_REMEMBERED, History, HistoryBudget
from hub.brokers.idempotency import FirstPublish, IdempotencyKeys
from hub.errors import ErrorCode, Refusal
from hub.values import TOTAL_BYTES, Position, Rule, find_rule

ENDED: Final = 1_000  # topics whose time is over that one sweep looks at


class LocalBroker:
    """A topic exists while it was made on purpose, the node is subscribed, or it is remembered."""

    degraded = False
    reachable = None

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        rules: Mapping[str, Rule] | None = None,
        new_epoch: Callable[[], str] = lambda: "",
        total_bytes: int = TOTAL_BYTES,
    ) -> None:
        """`clock`: seconds of any clock that only goes forward. `rules`: by prefix of topics.

        `total_bytes`: of all histories.
        """
        self._clock = clock
        self._rules = rules or {}
        self._new_epoch = new_epoch
        self._budget = HistoryBudget(total_bytes)
        self._keys = IdempotencyKeys(clock)
        self._explicit: dict[str, None] = {}  # a dict for its order
        self._subscribed: set[str] = set()
        self._histories: dict[str, History] = {}  # of the topics that have one
        # Topics that exist without subscribers, and when each ends: those made on purpose never,
        # automatic ones with their history. One whose time is over exists no more, but stays here
        # until it is asked for or swept.
        self._idle: dict[str, float] = {}
        # A heap of when to look at a topic, which is in it once, however often it was left.
        self._ends: list[tuple[float, str]] = []
        self._looked_at: set[str] = set()  # those in it
        self._events: BrokerEvents

    def serve(self, events: BrokerEvents) -> None:
        self._events = events

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        subscribed = topic in self._subscribed
        if not subscribed and not self._exists(topic):
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, f"Topic '{topic}' does not exist"))
            return
        history = self._histories.get(topic)
        result = PUBLISHED
        if history is not None:
            event = history.append(event, self._clock())
            result = PublishResult(position=history.position)
        if subscribed:
            self._events.deliver(topic, event)
        done(result)

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        known = self._keys.get(topic, key)
        if known is not None:
            done(PublishResult(first=known, position=known.position))
            return

        def taken(result: PublishResult | Refusal) -> None:
            if isinstance(result, PublishResult):
                self._keys.remember(topic, key, first._replace(position=result.position))
            done(result)

        self.publish(topic, event, taken)

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        self._subscribed.add(topic)
        if self._is_idle(topic):
            del self._idle[topic]
        self._remember(topic)
        done(SUBSCRIBED)

    def join(self, topic: str, done: SubscribeDone) -> None:
        done(SUBSCRIBED)

    def unsubscribe(self, topic: str) -> None:
        self._subscribed.discard(topic)
        if topic in self._explicit:
            self._idle[topic] = math.inf
        elif (history := self._histories.get(topic)) is not None:
            self._idle[topic] = self._clock() + history.rule.ttl
            self._look(topic)

    def counted(self, topic: str, subscribers: int) -> None:
        pass  # nobody else asks

    def create(self, topic: str, done: TopicDone) -> None:
        if self._exists(topic):
            done(Refusal(ErrorCode.TOPIC_EXISTS, "Topic already exists"))
        else:
            self._explicit[topic] = None
            self._idle[topic] = math.inf
            self._remember(topic)
            done(None)

    def delete(self, topic: str, done: TopicDone) -> None:
        if self._exists(topic):
            self._explicit.pop(topic, None)
            self._subscribed.discard(topic)
            self._idle.pop(topic, None)
            if history := self._histories.pop(topic, None):
                history.close()
            self._events.deleted(topic)
            done(None)
        else:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, "Topic not found"))

    def topics(self) -> Collection[str]:
        self._end_some()
        return self._idle.keys()

    def history(self, topic: str) -> History | None:
        history = self._histories.get(topic) if self._exists(topic) else None
        if history is not None:
            history.expire(self._clock())
        return history

    async def fetch_history(self, topic: str, since: Position | None) -> History | Refusal:
        history = self.history(topic)
        return NOT_REMEMBERED if history is None else history

    async def cluster_figures(self) -> None:
        return None

    def sweep(self) -> None:
        self._keys.sweep()
        self._budget.sweep(self._clock())
        self._end_some()

    def _end_some(self) -> None:
        """End topics whose time is over, at most ENDED of them."""
        now = self._clock()
        for _ in range(ENDED):
            if not self._ends or self._ends[0][0] > now:
                return
            _, topic = heappop(self._ends)
            self._looked_at.discard(topic)
            if self._is_idle(topic) and self._idle[topic] < math.inf:
                self._look(topic)

    def _look(self, topic: str) -> None:
        """Look at a topic that was left when its time is over."""
        if topic not in self._looked_at:
            self._looked_at.add(topic)
            heappush(self._ends, (self._idle[topic], topic))

    def _exists(self, topic: str) -> bool:
        return topic in self._subscribed or self._is_idle(topic)

    def _is_idle(self, topic: str) -> bool:
        """Whether a topic exists without subscribers; one whose time is over ends here."""
        end = self._idle.get(topic)
        if end is None:
            return False
        if end > self._clock():
            return True
        del self._idle[topic]
        self._histories.pop(topic).close()
        return False

    def _remember(self, topic: str) -> None:
        """Begin the topic's history, where it is to have one."""
        if topic not in self._histories and (rule := find_rule(self._rules, topic)) is not None:
            self._histories[topic] = History(self._new_epoch(), rule, budget=self._budget)
