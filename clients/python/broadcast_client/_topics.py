"""The topics that a client is subscribed to.

A topic is subscribed again on each connection, and also after a refusal that is temporary.

State: the topics, the subscribes that the server has not answered, and those to be repeated.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from broadcast_client._connection import Connection, encode, pause
from broadcast_client._items import Position, RefusedError
from broadcast_client._subscription import Subscription
from broadcast_client._topic import Topic, reason_of, refusal_of

log = logging.getLogger("broadcast_client")

DEFAULT_PACE: Final = 1_000  # milliseconds between subscribes if the server names no time


class Topics:
    """Subscribes to topics, and hands their messages to them."""

    def __init__(self, connection: Connection, shown: str) -> None:
        """`shown`: the address of the server, for log lines."""
        self._connection = connection
        self._shown = shown
        self._numbers = itertools.count(1)
        self._topics: dict[str, Topic] = {}  # by name
        self._asked: dict[str, Topic] = {}  # subscribes sent on this connection, by request_id
        self._refusals: dict[Topic, int] = {}  # subscribes to be repeated: number of refusals
        self._paced: deque[Topic] = deque()  # subscribes that came too fast, to be repeated
        self._pace = 0.0  # seconds between two of them
        self._pacer: asyncio.TimerHandle | None = None  # for the next of them

    def subscribe(self, topic: str, last_n: int, recover: Position | None) -> Subscription:
        """Return a new subscription to a topic; see `Client.subscribe`."""
        label = f"{self._shown}: {topic}"
        made = Subscription(topic, last_n, recover, label, self._leave)
        known = self._topics.get(topic)
        if known is not None:
            known.join(made)
        else:
            self._add(Topic(topic, made, label), made)
        return made

    def resubscribe(self) -> None:
        """Subscribe to all topics on a new connection."""
        for topic in self._topics.values():
            self._ask(topic)

    def cut(self) -> None:
        """Handle the end of the connection."""
        self._asked.clear()
        self._paced.clear()
        for topic in self._topics.values():
            topic.live = False

    def end(self, error: RefusedError | None) -> None:
        """End all subscriptions; each subscriber gets `error`, if given."""
        for topic in list(self._topics.values()):
            self._refuse(topic, error)

    def unacked(self) -> Iterator[tuple[int, Callable[[RefusedError], None]]]:
        """Yield the size of each subscribe that was never acked, and a function that refuses it."""
        for topic in self._topics.values():
            if not topic.was_acked:
                yield len(encode(topic.request())), partial(self._refuse, topic)

    def answer(self, request_id: str, message: dict[str, Any]) -> bool:
        """Handle a message that answers a subscribe; return False if it does not."""
        topic = self._asked.pop(request_id, None)
        if topic is None:
            return False
        if self._topics.get(topic.name) is topic:
            self._answered(topic, message)
        return True

    def take(self, message: dict[str, Any]) -> None:
        """Handle an event or an info about a topic."""
        topic = self._topics.get(message["topic"])
        # An event before the ack belongs to an earlier subscribe of the same topic.
        if topic is None or not topic.live:
            return
        if message["type"] == "info" and reason_of(message) == "TOPIC_DELETED":
            self._forget(topic)
            topic.delete()
        elif message["type"] == "info" and reason_of(message) == "FORBIDDEN":
            self._refuse(topic, RefusedError("FORBIDDEN", "the token no longer gives the right"))
        else:
            topic.take(message)

    def _add(self, topic: Topic, first: Subscription) -> None:
        self._connection.check_queue()
        encode(topic.request())  # an invalid command must fail here, and not on each connection
        topic.join(first)
        self._topics[topic.name] = topic
        self._ask(topic)

    def _leave(self, subscription: Subscription) -> None:
        if subscription._over:
            return
        subscription._end()
        topic = self._topics[subscription.topic]
        topic.subscriptions.remove(subscription)
        if not topic.subscriptions:
            self._connection.say({"type": "unsubscribe", "topic": topic.name})
            self._forget(topic)

    def _forget(self, topic: Topic) -> None:
        del self._topics[topic.name]
        self._refusals.pop(topic, None)

    def _refuse(self, topic: Topic, error: RefusedError | None) -> None:
        self._forget(topic)
        topic.end(error)

    def _ask(self, topic: Topic) -> None:
        """Send the subscribe of a topic, if there is a connection."""
        if self._connection.open:
            request_id = f"s{next(self._numbers)}"
            self._asked[request_id] = topic
            self._connection.say({**topic.request(), "request_id": request_id})

    def _answered(self, topic: Topic, message: dict[str, Any]) -> None:
        if message["type"] == "ack":
            self._refusals.pop(topic, None)
            topic.acked(message)
            return
        refusal = refusal_of(message)
        if refusal.code == "UNAVAILABLE":  # temporary
            count = self._refusals.get(topic, 0)
            wait = pause(count)
            log.warning("%s: %s; asking again in %.1f s", topic.label, refusal, wait)
            self._refusals[topic] = count + 1
            asyncio.get_running_loop().call_later(wait, self._ask_again, topic, count + 1)
        elif refusal.code == "RATE_LIMITED":
            self._paced.append(topic)
            self._pace = (refusal.retry_after_ms or DEFAULT_PACE) / 1000
            if self._pacer is None:
                self._pacer = asyncio.get_running_loop().call_later(self._pace, self._ask_next)
        else:
            self._refuse(topic, refusal)

    def _ask_next(self) -> None:
        """Repeat one subscribe that came too fast; the others follow at the server's pace."""
        self._pacer = None
        while self._paced:
            topic = self._paced.popleft()
            if self._topics.get(topic.name) is topic:
                self._ask(topic)
                break
        if self._paced:
            self._pacer = asyncio.get_running_loop().call_later(self._pace, self._ask_next)

    def _ask_again(self, topic: Topic, count: int) -> None:
        """Repeat a refused subscribe, unless a newer connection has done so, or it has ended."""
        if self._refusals.get(topic) == count and topic not in self._asked.values():
            self._ask(topic)
