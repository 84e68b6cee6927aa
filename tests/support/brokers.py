"""Brokers whose calls complete when a test says so, like a broker over a network."""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from hub.brokers.base import (
    SUBSCRIBED,
    Asked,
    BrokerEvents,
    DisconnectEvents,
    NotifiedDone,
    PublishDone,
    QuestionEvents,
    SubscribeDone,
    TopicDone,
)
from hub.brokers.history import NOT_REMEMBERED, History
from hub.brokers.idempotency import FirstPublish
from hub.brokers.memory import MemoryBroker
from hub.errors import ErrorCode, Refusal


class DeferredBroker:
    """A `MemoryBroker` whose calls take effect later, in order, one at each `complete()`.

    `unsubscribe` has no outcome, and takes effect at once.
    """

    degraded = False
    reachable = None
    round_trip = None

    def __init__(self) -> None:
        self._local = MemoryBroker()
        self._calls: deque[Callable[[], None]] = deque()
        self.subscribed: list[str] = []  # topics that the node has announced
        self.unsubscribed: list[str] = []
        self.refusal: Refusal | None = None  # outcome of a subscribe; None if it succeeds
        self.undecided = False  # whether subscribes to the node's own topics wait, too

    def __len__(self) -> int:
        """Return the number of calls that are not completed."""
        return len(self._calls)

    def complete(self, count: int = 1) -> None:
        for _ in range(count):
            self._calls.popleft()()

    def complete_last(self) -> None:
        """Complete the newest call first, as if another node's call overtook the others."""
        self._calls.pop()()

    def complete_all(self) -> None:
        while self._calls:
            self.complete()

    def serve(self, events: BrokerEvents) -> None:
        self._local.serve(events)

    def serve_disconnects(self, events: DisconnectEvents) -> None:
        pass

    def serve_questions(self, events: QuestionEvents) -> None:
        pass

    def disconnect(self, subject: str, client_id: str, done: NotifiedDone) -> None:
        self._calls.append(lambda: done(True))

    def ban(self, subject: str, end: float, done: NotifiedDone) -> None:
        self._calls.append(lambda: done(True))

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        self._calls.append(lambda: self._local.publish(topic, event, done))

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        self._calls.append(
            lambda: self._local.publish_once(topic, event, done, key=key, first=first)
        )

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        self.subscribed.append(topic)
        self._calls.append(lambda: self._subscribe(topic, done))

    def _subscribe(self, topic: str, done: SubscribeDone) -> None:
        if self.refusal is None:
            self._local.subscribe(topic, done)
        else:
            done(self.refusal)

    def join(self, topic: str, done: SubscribeDone) -> None:
        if self.undecided:
            self._calls.append(lambda: done(self.refusal or SUBSCRIBED))
        else:
            done(SUBSCRIBED)

    def unsubscribe(self, topic: str) -> None:
        self.unsubscribed.append(topic)
        self._local.unsubscribe(topic)

    def set_subscriber_count(self, topic: str, subscribers: int) -> None:
        pass

    async def fetch_history(self, topic: str) -> History | Refusal:
        return NOT_REMEMBERED

    def sweep(self) -> None:
        pass

    async def cluster_stats(self) -> None:
        return None

    async def ask(self, question: Any, start: str) -> Asked:
        return Asked()

    def create(self, topic: str, done: TopicDone) -> None:
        self._calls.append(lambda: self._local.create(topic, done))

    def delete(self, topic: str, done: TopicDone) -> None:
        self._calls.append(lambda: self._local.delete(topic, done))

    def history(self, topic: str) -> None:
        return None

    def topics(self) -> Collection[str]:
        return self._local.topics()


class RefusingBroker(MemoryBroker):
    """A broker out of reach: it refuses subscribes and publishes."""

    refusal = Refusal(ErrorCode.TOPIC_NOT_FOUND, "out of order")

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        done(self.refusal)

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        done(self.refusal)
