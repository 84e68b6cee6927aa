"""The broker of a single server, which keeps topics and histories in memory."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from typing import Final

from hub.brokers.base import (
    PUBLISHED,
    SUBSCRIBED,
    Asked,
    BrokerEvents,
    DisconnectEvents,
    NotifiedDone,
    PublishDone,
    PublishResult,
    QuestionEvents,
    SubscribeDone,
    TopicDone,
)
from hub.brokers.history import NOT_REMEMBERED, History, HistoryBudget
from hub.brokers.idempotency import FirstPublish, IdempotencyKeys
from hub.errors import ErrorCode, Refusal
from hub.values import TOTAL_BYTES, Json, Position, Rule, find_rule

ENDED: Final = 1_000  # maximum number of topics that one sweep examines


class MemoryBroker:
    """Keeps the topics of one server. Every call completes before it returns.

    A topic exists while it is explicit, has subscribers, or has a history that is still kept.

    State: the explicit topics, the subscribed topics, the histories, and the idle topics.
    """

    degraded = False
    reachable = None
    round_trip = None

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        rules: Mapping[str, Rule] | None = None,
        new_epoch: Callable[[], str] = lambda: "",
        total_bytes: int = TOTAL_BYTES,
    ) -> None:
        """Create a broker without topics.

        Args:
            clock: returns seconds and never goes back.
            rules: the rule of history by the prefix of a topic's name.
            new_epoch: returns the epoch of a new history.
            total_bytes: limit of all histories, in bytes.
        """
        self._clock = clock
        self._rules = rules or {}
        self._new_epoch = new_epoch
        self.history_budget = HistoryBudget(total_bytes)
        self._keys = IdempotencyKeys(clock)
        self._explicit: dict[str, None] = {}  # a dict, to keep their order
        self._subscribed: set[str] = set()
        self._histories: dict[str, History] = {}  # by topic
        # Topics that exist without subscribers, and the time at which each ends. An explicit topic
        # never ends; an automatic one ends with its history. A topic that has ended is removed
        # when it is next used or swept.
        self._idle: dict[str, float] = {}
        # A heap of the times at which to examine idle topics; each topic is in it at most once.
        self._checks: list[tuple[float, str]] = []
        self._scheduled: set[str] = set()  # the topics in the heap
        self._events: BrokerEvents

    def serve(self, events: BrokerEvents) -> None:
        self._events = events

    def serve_disconnects(self, events: DisconnectEvents) -> None:
        pass  # there are no other nodes

    def serve_questions(self, events: QuestionEvents) -> None:
        pass  # there are no other nodes

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
        self._start_history(topic)
        done(SUBSCRIBED)

    def join(self, topic: str, done: SubscribeDone) -> None:
        done(SUBSCRIBED)

    def unsubscribe(self, topic: str) -> None:
        self._subscribed.discard(topic)
        if topic in self._explicit:
            self._idle[topic] = math.inf
        elif (history := self._histories.get(topic)) is not None:
            self._idle[topic] = self._clock() + history.rule.ttl
            self._schedule_check(topic)

    def set_subscriber_count(self, topic: str, subscribers: int) -> None:
        pass  # only other nodes use it

    def create(self, topic: str, done: TopicDone) -> None:
        if self._exists(topic):
            done(Refusal(ErrorCode.TOPIC_EXISTS, "Topic already exists"))
        else:
            self._explicit[topic] = None
            self._idle[topic] = math.inf
            self._start_history(topic)
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

    def disconnect(self, subject: str, client_id: str, done: NotifiedDone) -> None:
        done(True)

    def ban(self, subject: str, end: float, done: NotifiedDone) -> None:
        done(True)

    def topics(self) -> Collection[str]:
        self._remove_ended()
        return self._idle.keys()

    def history(self, topic: str) -> History | None:
        history = self._histories.get(topic) if self._exists(topic) else None
        if history is not None:
            history.expire(self._clock())
        return history

    async def fetch_history(self, topic: str, since: Position | None) -> History | Refusal:
        history = self.history(topic)
        return NOT_REMEMBERED if history is None else history

    async def cluster_stats(self) -> None:
        return None

    async def ask(self, question: Json, start: str) -> Asked:
        return Asked()

    def sweep(self) -> None:
        self._keys.sweep()
        self.history_budget.sweep(self._clock())
        self._remove_ended()

    def _remove_ended(self) -> None:
        """Remove topics that have ended; examine at most ENDED."""
        now = self._clock()
        for _ in range(ENDED):
            if not self._checks or self._checks[0][0] > now:
                return
            _, topic = heappop(self._checks)
            self._scheduled.discard(topic)
            if self._is_idle(topic) and self._idle[topic] < math.inf:
                self._schedule_check(topic)

    def _schedule_check(self, topic: str) -> None:
        """Examine an idle topic at the time when it ends, unless a check is scheduled already."""
        if topic not in self._scheduled:
            self._scheduled.add(topic)
            heappush(self._checks, (self._idle[topic], topic))

    def _exists(self, topic: str) -> bool:
        return topic in self._subscribed or self._is_idle(topic)

    def _is_idle(self, topic: str) -> bool:
        """Return whether a topic exists without subscribers; remove it if it has ended."""
        end = self._idle.get(topic)
        if end is None:
            return False
        if end > self._clock():
            return True
        del self._idle[topic]
        self._histories.pop(topic).close()
        return False

    def _start_history(self, topic: str) -> None:
        """Start the topic's history, if a rule gives it one."""
        if topic not in self._histories and (rule := find_rule(self._rules, topic)) is not None:
            self._histories[topic] = History(self._new_epoch(), rule, budget=self.history_budget)
