"""What a program asks of the server, and what comes of it, whatever becomes of the connection.

State: the topics that are wanted, each with its subscriptions, and the publishes that are not
answered. Each connection is told all of them when it opens, so nothing is forgotten with one that
is lost.
"""

import asyncio
import inspect
import itertools
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from broadcast_client.connection import Connection, encode, pause
from broadcast_client.items import Item, Position, RefusedError
from broadcast_client.subscription import Subscription
from broadcast_client.topic import Topic, reason_of

log = logging.getLogger(__name__)

PENDING: Final = 1_000  # publishes that may wait for their answers
UNSENT: Final = 10_000  # messages that may wait for a connection that does not take them
REPEATABLE: Final = 240.0  # seconds for which one is sent again: the server knows keys for 300

Ack = dict[str, Any]


class _Publish:
    """One that is not answered yet."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent: float | None = None  # when it may first have reached the server
        # A refusal is a value until it is raised: nobody may be there to take an exception.
        self.answer: asyncio.Future[Ack | RefusedError] = asyncio.get_running_loop().create_future()


class Client:
    """Subscribes and publishes; made by `connect`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)  # of requests
        self._publishes: dict[str, _Publish] = {}  # by request_id, in the order of their sending
        self._topics: dict[str, Topic] = {}  # by name
        self._asked: dict[str, Topic] = {}  # on this connection, by request_id
        self._refusals: dict[Topic, int] = {}  # those that are to be asked again, how often
        self._callbacks: set[asyncio.Task[None]] = set()
        self._error: RefusedError | None = None  # why it is over
        self._over = asyncio.Event()

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Item], object] | None = None,
        *,
        last_n: int = 0,
        recover: tuple[str, int] | list[Any] | None = None,
    ) -> Subscription:
        """Subscribe to a topic. Several subscriptions may share one.

        `callback`: called with each item, and awaited where it can be; without one, iterate.
        `last_n`: begin with so many of the newest events. `recover`: begin behind this position,
        which may have become a list on its way through JSON. Both are asked of the server for the
        topic's first subscription; a later one that wants something else begins where the topic
        is by then, with a `Lost`.

        Raises:
            RefusedError: the client is over, or (BUSY) too much waits to be sent.
            TypeError, ValueError: it is no JSON that the server can read.
            ValueError: both last_n and recover are given.
        """
        if self._error is not None:
            raise self._error.anew()
        if last_n and recover is not None:
            raise ValueError("give last_n, or recover, and not both")
        position = None if recover is None else Position._make(recover)
        made = Subscription(topic, last_n, position, self._leave)
        known = self._topics.get(topic)
        if known is not None:
            known.join(made)
        else:
            self._add(Topic(topic, made), made)
        if callback is not None:
            task = asyncio.create_task(_call(callback, made))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)
        return made

    async def publish(self, topic: str, payload: Any, *, key: str = "") -> Ack:
        """Publish, and wait for the server's ack, which is returned.

        `key`: of your own, to repeat a publish whose answer you do not know.

        Raises:
            RefusedError: it was not carried out, or (UNKNOWN, CLOSED) nobody knows.
            TypeError, ValueError: it is no JSON that the server can read.
        """
        if self._error is not None:
            raise self._error.anew()
        if len(self._publishes) >= PENDING:
            raise RefusedError("BUSY", f"{PENDING} publishes wait for their answers")
        self._check_queue()
        request_id = f"p{next(self._numbers)}"
        message = {"type": "publish", "request_id": request_id, "topic": topic, "payload": payload}
        publish = _Publish(encode({**message, "idempotency_key": key or uuid.uuid4().hex}))
        self._publishes[request_id] = publish
        self._send(request_id)
        try:
            answer = await publish.answer
        finally:
            self._publishes.pop(request_id, None)
        if isinstance(answer, RefusedError):
            raise answer.anew()
        return answer

    async def ended(self) -> None:
        """Wait until it is over.

        Raises:
            RefusedError: the server does not want this client.
        """
        await self._over.wait()
        if self._error is not None and self._error.code != "CLOSED":
            raise self._error.anew()

    def _check_queue(self) -> None:
        """Of what is cancelled and closed at once, too, the queue is bounded."""
        if self._connection.waiting >= UNSENT:
            raise RefusedError("BUSY", f"{UNSENT} messages wait to be sent")

    def _add(self, topic: Topic, first: Subscription) -> None:
        self._check_queue()
        encode(topic.wish())  # what can't be said must fail here, and not on each connection
        topic.join(first)
        self._topics[topic.name] = topic
        self._ask(topic)

    def _leave(self, subscription: Subscription) -> None:
        if subscription.over:
            return
        subscription.end()
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
        if self._connection.open:
            request_id = f"s{next(self._numbers)}"
            self._asked[request_id] = topic
            self._connection.say({**topic.wish(), "request_id": request_id})

    def _send(self, request_id: str) -> None:
        publish = self._publishes[request_id]
        now = time.time()  # which goes on while the machine sleeps
        if publish.sent is not None and now - publish.sent > REPEATABLE:
            text = f"it was sent over {REPEATABLE:g} s ago, and may have been carried out"
            self._settle(request_id, RefusedError("UNKNOWN", text))
        elif self._connection.open:
            publish.sent = publish.sent or now
            self._connection.say(publish.data)

    def _settle(self, request_id: str, answer: Ack | RefusedError) -> None:
        publish = self._publishes.pop(request_id)
        if not publish.answer.done():  # whoever waited may have been cancelled in this tick
            publish.answer.set_result(answer)

    # The connection's side.

    async def run(self) -> None:
        """Be connected until cancelled or refused for good, which is told to all who wait."""
        error = RefusedError("CLOSED", "the client was closed")
        try:
            await self._connection.run(self)
        except RefusedError as refused:
            log.error("not connecting again: %s", refused)
            error = refused
        except Exception as fault:  # the task's edge: whoever waits must learn of it
            log.exception("a fault of this client, or of what it talks to")
            error = RefusedError("REFUSED", repr(fault))
        finally:
            self._end(error)

    def opened(self) -> None:
        for topic in self._topics.values():
            self._ask(topic)
        for request_id in list(self._publishes):
            self._send(request_id)

    def cut(self) -> None:
        self._asked.clear()
        for topic in self._topics.values():
            topic.live = False

    def take(self, message: dict[str, Any]) -> None:
        request_id = message.get("request_id", "")
        topic = self._topics.get(message.get("topic", ""))
        if request_id in self._publishes:
            is_ack = message["type"] == "ack"
            self._settle(request_id, message if is_ack else _refusal(message))
        elif request_id in self._asked:
            self._answered(self._asked.pop(request_id), message)
        elif message["type"] in ("event", "info") and "topic" in message:
            # Before the ack of this subscribe, it belongs to an earlier one of the same topic.
            if topic is not None and topic.live:
                self._hand_on(topic, message)
        elif message["type"] in ("error", "info") and not request_id:
            log.warning("the server says: %s", message.get("error") or message.get("message"))
            if message.get("reason") == "SHUTDOWN" and "reconnect" in message:
                span = message["reconnect"]
                self._connection.spread(span["min_ms"] / 1000, span["max_ms"] / 1000)

    def too_big(self) -> bool:
        sizes: dict[str | Topic, int] = {
            request_id: len(it.data) for request_id, it in self._publishes.items()
        }
        new = (it for it in self._topics.values() if not it.was_acked)
        sizes |= {it: len(encode(it.wish())) for it in new}
        if not sizes:
            return False
        largest = max(sizes, key=lambda it: sizes[it])  # if one was too big, this was
        text = f"a message of {sizes[largest]} bytes is more than the server takes"
        if isinstance(largest, Topic):
            self._refuse(largest, RefusedError("TOO_BIG", text))
        else:
            self._settle(largest, RefusedError("TOO_BIG", text))
        return True

    def _hand_on(self, topic: Topic, message: dict[str, Any]) -> None:
        if message["type"] == "info" and reason_of(message) == "TOPIC_DELETED":
            self._forget(topic)
            topic.delete()
        else:
            topic.take(message)

    def _answered(self, topic: Topic, message: dict[str, Any]) -> None:
        """The answer to a subscribe."""
        if self._topics.get(topic.name) is not topic:
            return
        if message["type"] == "ack":
            self._refusals.pop(topic, None)
            topic.acked(message)
            return
        refusal = _refusal(message)
        if refusal.code == "UNAVAILABLE":  # that passes
            count = self._refusals.get(topic, 0)
            wait = pause(count)
            log.warning("%s: %s; asking again in %.1f s", topic.name, refusal, wait)
            self._refusals[topic] = count + 1
            asyncio.get_running_loop().call_later(wait, self._ask_again, topic, count + 1)
        else:
            self._refuse(topic, refusal)

    def _ask_again(self, topic: Topic, count: int) -> None:
        """After a pause; void where a new connection has asked meanwhile, or it is over."""
        if self._refusals.get(topic) == count and topic not in self._asked.values():
            self._ask(topic)

    def _end(self, error: RefusedError) -> None:
        self._error = error
        by_user = error.code == "CLOSED"
        for request_id in list(self._publishes):
            self._settle(request_id, error)
        for topic in list(self._topics.values()):
            self._refuse(topic, None if by_user else error)
        self._over.set()

    async def stop_calling(self) -> None:
        """Cancel the callbacks that are under way."""
        tasks = list(self._callbacks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def connect(url: str, *, client_id: str = "") -> AsyncIterator[Client]:
    """A client of the server at `url` (ws://host:8080/ws), as long as the block runs."""
    client = Client(Connection(url, client_id or f"python-{uuid.uuid4().hex[:8]}"))
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])
        await client.stop_calling()


async def _call(callback: Callable[[Item], object], subscription: Subscription) -> None:
    """Call back with each item, until the end."""
    try:
        async for item in subscription:
            try:
                outcome = callback(item)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:  # the callback's own: the next item is none the worse for it
                log.exception("%s: the callback failed", subscription.topic)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():  # it is this one that ends
                    raise
                log.exception("%s: the callback failed", subscription.topic)
    except RefusedError as error:
        log.error("%s: %s", subscription.topic, error)


def _refusal(message: dict[str, Any]) -> RefusedError:
    return RefusedError(message["error"]["code"], message["error"]["message"])
