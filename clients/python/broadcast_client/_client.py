"""The client: its subscriptions and publishes, independent of any one connection.

State: the subscribed topics, each with its subscriptions, and the unanswered publishes. All of them
are sent when a connection opens, so a lost connection loses none of them.
"""

import asyncio
import inspect
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Final
from urllib.parse import quote

from broadcast_client._connection import REPEATABLE, Connection, encode, pause
from broadcast_client._http import Http
from broadcast_client._items import (
    History,
    Item,
    Position,
    RefusedError,
    State,
    StateDetail,
    TopicPage,
)
from broadcast_client._server import Server
from broadcast_client._subscription import Subscription
from broadcast_client._token import Source, Token, TokenError
from broadcast_client._topic import Topic, event_of, reason_of

log = logging.getLogger("broadcast_client")

PENDING: Final = 1_000  # maximum of unanswered publishes
UNSENT: Final = 10_000  # maximum of messages queued for the connection
DEFAULT_PACE: Final = 1_000  # milliseconds between subscribes if the server names no time

MAX_REFUSALS: Final = 2  # invalid tokens in a row on one connection
REPLACE_EVERY: Final = 5.0  # seconds: minimum between two replacements of the token

Ack = dict[str, Any]
StateListener = Callable[[State, StateDetail], object]


class _Publish:
    """An unanswered publish."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent: float | None = None  # time of the first write to a connection
        # A refusal is a result and not an exception: the caller may have been cancelled, and
        # asyncio logs exceptions that are never retrieved.
        self.answer: asyncio.Future[Ack | RefusedError] = asyncio.get_running_loop().create_future()


class _Auth:
    """An unanswered auth."""

    def __init__(self, request_id: str, token: str) -> None:
        self.request_id = request_id
        self.token = token
        self.answer: asyncio.Future[RefusedError | None] = (
            asyncio.get_running_loop().create_future()
        )


class Client:
    """A client that subscribes and publishes; create it with `connect`."""

    def __init__(self, server: Server, client_id: str) -> None:
        self._server = server
        self._connection = Connection(server, client_id)
        self._http = Http(server)
        self._auth: _Auth | None = None  # the unanswered auth
        self._replacing: asyncio.Task[None] | None = None  # of the token, while it is open
        self._replaced = -REPLACE_EVERY  # monotonic time at which the last replacement began
        self._numbers = itertools.count(1)  # request numbers
        self._publishes: dict[str, _Publish] = {}  # by request_id, in sending order
        self._topics: dict[str, Topic] = {}  # by name
        self._asked: dict[str, Topic] = {}  # subscribes sent on this connection, by request_id
        self._refusals: dict[Topic, int] = {}  # subscribes to be repeated: number of refusals
        self._paced: deque[Topic] = deque()  # subscribes that came too fast, to be repeated
        self._pace = 0.0  # seconds between two of them
        self._pacer: asyncio.TimerHandle | None = None  # for the next of them
        self._callbacks: set[asyncio.Task[None]] = set()
        self._state: State = "connecting"
        self._listeners: dict[object, StateListener] = {}
        self._settled = asyncio.Event()  # set while the state is "open" or "closed"
        self._error: RefusedError | None = None  # the reason why the client has ended
        self._over = asyncio.Event()

    @property
    def state(self) -> State:
        """The state of the connection.

        "connecting": an attempt is made now. "open": connected. "waiting": the last connection
        ended or could not be made, and the next attempt follows after a pause. "closed": the client
        has ended, and does not connect again.
        """
        return self._state

    def on_state(self, listener: StateListener) -> Callable[[], None]:
        """Call `listener(state, detail)` at each change of `state`.

        Args:
            listener: a plain function that does not block. If it raises, the client logs it and
                goes on.

        Returns:
            A function that removes the listener.
        """
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    async def ready(self, timeout: float | None = 10.0) -> None:
        """Wait until the connection is open; without a wait if it is open now.

        Args:
            timeout: maximum time in seconds; None for no limit.

        Raises:
            RefusedError: TIMEOUT if the connection was not opened in this time. The text says why
                the last attempt failed. The client still goes on trying. Or the error that ended
                the client, such as REFUSED.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            why = self._connection.why or "no attempt has ended yet"
            text = f"{self._server.shown}: no connection within {timeout:g} s: {why}"
            raise RefusedError("TIMEOUT", text) from None
        if self._error is not None:
            raise self._error.copy()

    def retry(self) -> None:
        """Connect now, in the state "waiting": do not wait for the end of the pause."""
        self._connection.retry()

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Item], object] | None = None,
        *,
        last_n: int = 0,
        recover: tuple[str, int] | list[Any] | None = None,
    ) -> Subscription:
        """Subscribe to a topic. Several subscriptions may share a topic.

        The server gets `last_n` or `recover` of the topic's first subscription only. A later
        subscription that asks for another place begins at the topic's current position, with a
        `Lost` item.

        Args:
            callback: called with each item, and awaited if it returns an awaitable. Without one,
                iterate over the subscription.
            last_n: number of newest events to begin with.
            recover: position after which to begin; a list from JSON is accepted, too.

        Raises:
            RefusedError: the client has ended, or (BUSY) too many messages are queued.
            TypeError, ValueError: the topic is not JSON that the server can read.
            ValueError: both last_n and recover are given.
        """
        if self._error is not None:
            raise self._error.copy()
        if last_n and recover is not None:
            raise ValueError("give last_n, or recover, and not both")
        position = None if recover is None else Position._make(recover)
        label = f"{self._server.shown}: {topic}"
        made = Subscription(topic, last_n, position, label, self._leave)
        known = self._topics.get(topic)
        if known is not None:
            known.join(made)
        else:
            self._add(Topic(topic, made, label), made)
        if callback is not None:
            task = asyncio.create_task(_call(callback, made, label))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)
        return made

    async def publish(
        self, topic: str, payload: Any, *, key: str = "", timeout: float | None = None
    ) -> Ack:
        """Publish a message and wait for the server's ack, also across reconnects.

        Args:
            topic: its name.
            payload: any JSON value.
            key: an idempotency key, to repeat a publish whose outcome is unknown.
            timeout: maximum time in seconds; None for no limit.

        Returns:
            The ack. On a topic with history it has the event's "epoch" and "offset".

        Raises:
            RefusedError: the message was not published, or (TIMEOUT, UNKNOWN, CLOSED) may have
                been. It is not sent again.
            TypeError, ValueError: the payload is not JSON that the server can read.
        """
        if self._error is not None:
            raise self._error.copy()
        if len(self._publishes) >= PENDING:
            raise RefusedError("BUSY", f"{PENDING} publishes wait for their answers")
        self._check_queue()
        request_id = f"p{next(self._numbers)}"
        message = {"type": "publish", "request_id": request_id, "topic": topic, "payload": payload}
        publish = _Publish(encode({**message, "idempotency_key": key or uuid.uuid4().hex}))
        self._publishes[request_id] = publish
        self._send(request_id)
        timer = None
        if timeout is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(timeout, self._give_up, request_id, timeout)
        try:
            answer = await publish.answer
        finally:
            if timer is not None:
                timer.cancel()
            self._publishes.pop(request_id, None)
        if isinstance(answer, RefusedError):
            raise answer.copy()
        return answer

    async def publish_batch(
        self, items: Iterable[Mapping[str, Any]], *, timeout: float | None = 10.0
    ) -> list[Ack | RefusedError]:
        """Publish several messages, to one topic or several, by one HTTP call.

        If the server is not available, or the connection is lost, the call is repeated. Each item
        has an idempotency key, so it is carried out once.

        Args:
            items: up to 1,000 mappings with "topic", "payload", and perhaps "key", an idempotency
                key. They are published in this order.
            timeout: maximum time in seconds; None for no limit.

        Returns:
            A result for each item, in order: the server's answer, or the error of an item that was
            not published. Such an item does not stop the others. Its error has the code REFUSED,
            and the server's text.

        Raises:
            RefusedError: nothing was published, or (TIMEOUT, UNKNOWN, CLOSED) items may have been.
            KeyError: an item has no "topic" or no "payload".
            ValueError: an item has another field.
            TypeError, ValueError: an item is not JSON that the server can read.
        """
        encoded = [encode(_item(it)) for it in items]
        if not encoded:
            return []
        body = b'{"items":[%b]}' % b",".join(encoded)
        answer = await self._http.post("/publish/batch", body, timeout, {"results"})
        return [
            RefusedError("REFUSED", it["error"]) if "error" in it else it
            for it in answer["results"]
        ]

    async def history(
        self,
        topic: str,
        *,
        limit: int | None = None,
        since_epoch: str | None = None,
        since_offset: int | None = None,
        reverse: bool = False,
        wait: float = 0,
        timeout: float | None = 10.0,
    ) -> History:
        """Read events from a topic's history, without a subscription.

        Args:
            topic: its name.
            limit: maximum number of events, at most 1,000; the server's default is 100.
            since_epoch: with `since_offset`, the position after which to begin; without one, the
                oldest event is the first. With `reverse`, the events before the position.
            since_offset: see `since_epoch`.
            reverse: whether the newest events come first.
            wait: if there is no event yet, wait for the next one, at most so many seconds (60).
            timeout: maximum time in seconds, in addition to `wait`; None for no limit.

        Raises:
            RefusedError: TOPIC_NOT_FOUND if there is no such topic, or it has no history. GONE if
                events after the position are forgotten: read again without one.
        """
        query = {
            "limit": limit,
            "since_epoch": since_epoch,
            "since_offset": since_offset,
            "reverse": "true" if reverse else None,
            "wait": wait or None,
        }
        path = f"/topics/{quote(topic, safe='')}/history"
        whole = None if timeout is None else timeout + wait
        fields = {"events", "epoch", "offset"}
        answer = await self._http.get(path, _known(query), whole, fields, "TOPIC_NOT_FOUND")
        events = [event_of(topic, it) for it in answer["events"]]
        return History(topic, events, Position(answer["epoch"], answer["offset"]))

    async def topics(
        self,
        *,
        prefix: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        timeout: float | None = 10.0,
    ) -> TopicPage:
        """List topics with their numbers of subscribers, in the order of their names.

        Args:
            prefix: only topics whose name begins with it.
            after: only topics whose name comes after it: the `next` of the page before.
            limit: maximum number of topics; default and maximum are 1,000.
            timeout: maximum time in seconds; None for no limit.

        Raises:
            RefusedError: there is no answer, or it is an error.
        """
        query = {"prefix": prefix, "after": after, "limit": limit}
        answer = await self._http.get("/topics", _known(query), timeout, {"count", "topics"})
        return TopicPage(answer["count"], answer["topics"], answer.get("next"))

    async def ended(self) -> None:
        """Wait until the client has ended.

        Raises:
            RefusedError: the server has refused this client for good.
        """
        await self._over.wait()
        if self._error is not None and self._error.code != "CLOSED":
            raise self._error.copy()

    def _give_up(self, request_id: str, timeout: float) -> None:
        """Settle a publish that has no answer after `timeout` seconds."""
        publish = self._publishes.get(request_id)
        if publish is None:  # its caller was cancelled in this tick
            return
        if publish.sent is not None:
            text = f"no answer within {timeout:g} s; the publish may have been carried out"
        else:
            why = self._connection.why or "no attempt has ended yet"
            text = f"no connection to {self._server.shown} within {timeout:g} s: {why}"
            text += "; the publish was not sent"
        self._settle(request_id, RefusedError("TIMEOUT", text))

    def _check_queue(self) -> None:
        """Raise BUSY if the queue is full; it also counts cancelled and closed requests."""
        if self._connection.waiting >= UNSENT:
            raise RefusedError("BUSY", f"{UNSENT} messages wait to be sent")

    def _add(self, topic: Topic, first: Subscription) -> None:
        self._check_queue()
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
        if self._connection.open:
            request_id = f"s{next(self._numbers)}"
            self._asked[request_id] = topic
            self._connection.say({**topic.request(), "request_id": request_id})

    def _send(self, request_id: str) -> None:
        publish = self._publishes[request_id]
        now = time.time()  # unlike the monotonic clock, it goes on while the machine sleeps
        if publish.sent is not None and now - publish.sent > REPEATABLE:
            text = f"it was sent over {REPEATABLE:g} s ago, and may have been carried out"
            self._settle(request_id, RefusedError("UNKNOWN", text))
        elif self._connection.open:
            publish.sent = publish.sent or now
            self._connection.say(publish.data)

    def _settle(self, request_id: str, answer: Ack | RefusedError) -> None:
        publish = self._publishes.pop(request_id)
        if not publish.answer.done():  # the caller may have been cancelled in this tick
            publish.answer.set_result(answer)

    async def _run(self) -> None:
        """Stay connected until cancelled, or refused for good: then end the client."""
        try:
            await self._connection.run(self)
        except RefusedError as refused:
            log.error("%s: %s; not connecting again", self._server.shown, refused)
            self._end(refused)
        except Exception as fault:  # the end of the task: pending calls must learn of the fault
            text = "%s: a fault of this client, or of what it talks to; not connecting again"
            log.exception(text, self._server.shown)
            self._end(RefusedError("REFUSED", repr(fault)))

    async def _close(self, running: asyncio.Task[None]) -> None:
        """Disconnect, end all that is pending, and wait for callbacks and the token function."""
        running.cancel()
        await asyncio.wait([running])
        if self._error is None:
            self._end(RefusedError("CLOSED", "the client was closed"))
        tasks = list(self._callbacks)
        for task in tasks:
            task.cancel()
        if self._replacing is not None:  # cancelled at the end of its connection
            tasks.append(self._replacing)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    # Called by the connection.

    def _changed(self, state: State, detail: StateDetail) -> None:
        self._state = state
        if state in ("open", "closed"):
            self._settled.set()
        else:
            self._settled.clear()
        for key, listener in list(self._listeners.items()):
            if key not in self._listeners:  # removed by a listener before it
                continue
            try:
                listener(state, detail)
            except (Exception, asyncio.CancelledError):  # its fault must not end the client
                log.exception("%s: a state listener failed", self._server.shown)

    def _opened(self) -> None:
        for topic in self._topics.values():
            self._ask(topic)
        for request_id in list(self._publishes):
            self._send(request_id)

    def _cut(self) -> None:
        self._asked.clear()
        if self._replacing is not None:
            self._replacing.cancel()
        self._paced.clear()
        for topic in self._topics.values():
            topic.live = False

    def _take(self, message: dict[str, Any]) -> None:
        request_id = message.get("request_id", "")
        topic = self._topics.get(message.get("topic", ""))
        if request_id in self._publishes:
            is_ack = message["type"] == "ack"
            self._settle(request_id, message if is_ack else _refusal(message))
        elif request_id in self._asked:
            self._answered(self._asked.pop(request_id), message)
        elif self._auth is not None and request_id == self._auth.request_id:
            self._auth_answered(self._auth, message)
        elif message["type"] in ("event", "info") and "topic" in message:
            # An event before the ack belongs to an earlier subscribe of the same topic.
            if topic is not None and topic.live:
                self._hand_on(topic, message)
        elif message.get("reason") == "TOKEN_EXPIRES" and self._server.token.renewable:
            if self._replacing is not None:
                self._replacing.cancel()
            self._replacing = asyncio.create_task(self._replace_token())
        elif message["type"] in ("error", "info") and not request_id:
            is_error = message["type"] == "error"
            said = _refusal(message) if is_error else message.get("message", {}).get("payload")
            log.warning("%s: the server says: %s", self._server.shown, said)
            if message.get("reason") == "SHUTDOWN" and "reconnect" in message:
                span = message["reconnect"]
                self._connection.spread(span["min_ms"] / 1000, span["max_ms"] / 1000)

    def _too_big(self) -> bool:
        sizes: dict[str | Topic, int] = {
            request_id: len(it.data) for request_id, it in self._publishes.items()
        }
        new = (it for it in self._topics.values() if not it.was_acked)
        sizes |= {it: len(encode(it.request())) for it in new}
        if not sizes:
            return False
        largest = max(sizes, key=lambda it: sizes[it])  # if any was too big, this one was
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
        elif message["type"] == "info" and reason_of(message) == "FORBIDDEN":
            self._refuse(topic, RefusedError("FORBIDDEN", "the token no longer gives the right"))
        else:
            topic.take(message)

    def _answered(self, topic: Topic, message: dict[str, Any]) -> None:
        """Handle the answer to a subscribe."""
        if self._topics.get(topic.name) is not topic:
            return
        if message["type"] == "ack":
            self._refusals.pop(topic, None)
            topic.acked(message)
            return
        refusal = _refusal(message)
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

    async def _replace_token(self) -> None:
        """Fetch another token and send it on the open connection, until the server accepts one.

        The server closes the connection at the third invalid token in a row, so this gives up after
        the second: the connection then lasts until the old token ends.
        """
        await asyncio.sleep(self._replaced + REPLACE_EVERY - time.monotonic())
        self._replaced = time.monotonic()
        invalid = 0
        for attempt in itertools.count():
            try:
                refusal = await self._authenticate()
            except TokenError as error:
                why = str(error)
            else:
                if refusal is None:
                    return
                why = str(refusal)
                invalid += refusal.code == "UNAUTHORIZED"
                if refusal.code == "FORBIDDEN" or invalid == MAX_REFUSALS:
                    log.warning("%s: the token was not replaced: %s", self._server.shown, why)
                    return
            wait = pause(attempt)
            text = "%s: the token was not replaced: %s; asking again in %.1f s"
            log.warning(text, self._server.shown, why, wait)
            await asyncio.sleep(wait)

    async def _authenticate(self) -> RefusedError | None:
        """Fetch a token, send it, and return the server's refusal if there is one.

        Raises:
            TokenError: there is no other token.
        """
        token = await self._server.token.fetch()
        if token is None or token == self._server.token.current:
            raise TokenError("the token function returned the same token")
        self._auth = auth = _Auth(f"a{next(self._numbers)}", token)
        message = {"type": "auth", "token": token, "request_id": auth.request_id}
        self._connection.say(message)
        return await auth.answer

    def _auth_answered(self, auth: _Auth, message: dict[str, Any]) -> None:
        """Handle the answer to an auth, also if its task has been cancelled in this tick."""
        self._auth = None
        is_ack = message["type"] == "ack"
        if is_ack:
            self._server.token.current = auth.token
        if not auth.answer.done():
            auth.answer.set_result(None if is_ack else _refusal(message))

    def _end(self, error: RefusedError) -> None:
        self._error = error
        by_user = error.code == "CLOSED"
        for request_id in list(self._publishes):
            self._settle(request_id, error)
        for topic in list(self._topics.values()):
            self._refuse(topic, None if by_user else error)
        self._over.set()
        self._changed("closed", StateDetail(error=None if by_user else error))


@asynccontextmanager
async def connect(
    url: str,
    *,
    client_id: str = "",
    token: Source | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: SSLContext | None = None,
    on_state: StateListener | None = None,
) -> AsyncIterator[Client]:
    """Connect to the server at `url` (ws://host:8080/ws) while the `async with` block runs.

    The block begins at once, without waiting for the connection; `Client.ready` waits for it.

    Args:
        client_id: a name for the server's lists and logs; without one it is made.
        headers: HTTP headers for the handshakes and the HTTP calls.
        ssl: the TLS context for wss:// and its HTTP calls, for example one that trusts another
            authority: `ssl.create_default_context(cafile="ca.pem")`. Without one, the authorities
            of the system are trusted.
        on_state: the first listener of `Client.on_state`.
        token: a token or API key, or a function that returns one and may be async. The function is
            called for each connection, and before the token of an open connection expires. If it
            raises, the client logs the exception's class and calls it again after a pause.

    Raises:
        ValueError: the URL is none, a header or the token is a string that HTTP cannot send, or the
            token is given twice: also as a header, or by a user in the URL.
    """
    server = Server(url, Token(token), headers, ssl)
    client = Client(server, client_id or f"python-{uuid.uuid4().hex[:8]}")
    if on_state is not None:
        client.on_state(on_state)
    task = asyncio.create_task(client._run())
    try:
        yield client
    finally:
        # In a task of its own: anyio, and so Starlette, cancels every wait of a cancelled block.
        await asyncio.shield(asyncio.create_task(client._close(task)))


async def _call(callback: Callable[[Item], object], subscription: Subscription, label: str) -> None:
    """Call `callback` with each item of a subscription; `label` begins each log line."""
    try:
        async for item in subscription:
            try:
                outcome = callback(item)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:  # a fault of the callback: go on with the next item
                log.exception("%s: the callback failed; going on with the next item", label)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():  # this task is cancelled, not the callback
                    raise
                log.exception("%s: the callback failed; going on with the next item", label)
    except RefusedError as error:
        log.error("%s: %s", label, error)


def _item(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of a batch, as the server reads it."""
    unknown = [key for key in given if key not in ("topic", "payload", "key")]
    if unknown:  # an idempotency key in a field that nobody reads would be a trap
        raise ValueError(f"an item has the fields topic, payload and key, and not {unknown[0]!r}")
    key = given.get("key") or uuid.uuid4().hex
    return {"topic": given["topic"], "payload": given["payload"], "idempotency_key": key}


def _known(query: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a query that are given, as text."""
    return {key: str(value) for key, value in query.items() if value is not None}


def _refusal(message: dict[str, Any]) -> RefusedError:
    error = message["error"]
    return RefusedError(error["code"], error["message"], error.get("retry_after_ms"))
