"""The client: what users call, and what the connection calls.

State: the state of the connection, its listeners, and the tasks that call callbacks. The unanswered
publishes (`_publishes.py`) and the subscribed topics (`_topics.py`) are independent of any one
connection: they are sent when a connection opens, so a lost connection loses none of them.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

from broadcast_client._connection import Connection, encode
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
from broadcast_client._publishes import Ack, Publishes
from broadcast_client._renewal import TokenRenewal
from broadcast_client._server import Server
from broadcast_client._subscription import Subscription
from broadcast_client._token import Source, Token
from broadcast_client._topic import event_of, refusal_of
from broadcast_client._topics import Topics

log = logging.getLogger("broadcast_client")

StateListener = Callable[[State, StateDetail], object]


class Client:
    """A client that subscribes and publishes; create it with `connect`."""

    def __init__(self, server: Server, client_id: str) -> None:
        self._server = server
        self._connection = Connection(server, client_id)
        self._http = Http(server)
        self._publishes = Publishes(self._connection, server.shown)
        self._topics = Topics(self._connection, server.shown)
        self._renewal = TokenRenewal(self._connection, server)
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

        Raises:
            TypeError: the listener is not callable.
        """
        if not callable(listener):
            raise TypeError("a state listener must be a function of the state and its detail")
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    async def ready(self, timeout: float | None = 10.0) -> None:
        """Wait until the connection is open; return at once if it is open now.

        Args:
            timeout: maximum time in seconds; None for no limit.

        Raises:
            RefusedError: (TIMEOUT) the connection was not opened in this time. The text says why
                the last attempt failed; the client goes on trying. Any other code is that of the
                error that ended the client, such as REFUSED.
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

        Only the `last_n` or `recover` of the topic's first subscription is sent to the server. A
        later subscription with other values begins at the topic's current position, with a `Lost`
        item.

        Args:
            callback: called with each item, and awaited if it returns an awaitable. Without one,
                iterate over the subscription.
            last_n: number of newest events to begin with.
            recover: position after which to begin; a list from JSON is accepted, too.

        Raises:
            RefusedError: the client has ended, or (BUSY) too many messages are queued.
            TypeError, ValueError: the topic is not JSON that the server can read.
            TypeError: recover is not a pair, or the callback is not callable.
            ValueError: both last_n and recover are given.
        """
        if self._error is not None:
            raise self._error.copy()
        if last_n and recover is not None:
            raise ValueError("give last_n, or recover, and not both")
        if recover is not None and not (isinstance(recover, tuple | list) and len(recover) == 2):
            raise TypeError(
                'recover must be a position such as ("4f1c", 17): subscription.position'
            )
        if not (callback is None or callable(callback)):
            raise TypeError("callback must be a function of an item")
        position = None if recover is None else Position._make(recover)
        made = self._topics.subscribe(topic, last_n, position)
        if callback is not None:
            label = f"{self._server.shown}: {topic}"
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
        return await self._publishes.publish(topic, payload, key, timeout)

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
            since_epoch: together with `since_offset`, the position after which the events begin,
                or before which they end with `reverse`. Without a position, they begin with the
                oldest event, or with `reverse` with the newest.
            since_offset: see `since_epoch`.
            reverse: whether the newest events come first.
            wait: if there is no event yet, wait for the next one, at most so many seconds (60).
            timeout: maximum time in seconds, in addition to `wait`; None for no limit.

        Raises:
            RefusedError: (TOPIC_NOT_FOUND) there is no such topic, or it has no history; (GONE)
                events after the position are forgotten, so read again without a position; or there
                is no answer.
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

    async def _run(self) -> None:
        """Stay connected until cancelled, or refused for good: then end the client."""
        try:
            await self._connection.run(self)
        except RefusedError as refused:
            log.error("%s: %s; not connecting again", self._server.shown, refused)
            self._end(refused)
        except Exception as fault:
            # A fault may be any exception. This task is the only one that connects, so pending
            # calls must fail now: nothing would answer them.
            text = "%s: a fault of this client, or of what it talks to; not connecting again"
            log.exception(text, self._server.shown)
            self._end(RefusedError("REFUSED", repr(fault)))

    async def _close(self, running: asyncio.Task[None]) -> None:
        """Disconnect, end all that is pending, and wait for callbacks and the token function."""
        running.cancel()
        await asyncio.wait([running])
        if self._error is None:
            self._end(RefusedError("CLOSED", "the client was closed"))
        for task in self._callbacks:
            task.cancel()
        await asyncio.gather(*self._callbacks, self._renewal.close(), return_exceptions=True)
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
            except (Exception, asyncio.CancelledError):
                # The user's function may raise any exception, which must not end the client.
                log.exception("%s: a state listener failed", self._server.shown)

    def _opened(self) -> None:
        self._topics.resubscribe()
        self._publishes.resend()

    def _cut(self) -> None:
        self._topics.cut()
        self._renewal.cancel()

    def _take(self, message: dict[str, Any]) -> None:
        request_id = message.get("request_id", "")
        if any(
            it.answer(request_id, message) for it in (self._publishes, self._topics, self._renewal)
        ):
            return
        if message["type"] in ("event", "info") and "topic" in message:
            self._topics.take(message)
        elif message.get("reason") == "TOKEN_EXPIRES" and self._server.token.renewable:
            self._renewal.start()
        elif message["type"] in ("error", "info") and not request_id:
            is_error = message["type"] == "error"
            said = refusal_of(message) if is_error else message.get("message", {}).get("payload")
            log.warning("%s: the server says: %s", self._server.shown, said)
            if message.get("reason") == "SHUTDOWN" and "reconnect" in message:
                span = message["reconnect"]
                self._connection.spread(span["min_ms"] / 1000, span["max_ms"] / 1000)

    def _too_big(self) -> bool:
        sent = [*self._publishes.unanswered(), *self._topics.unacked()]
        if not sent:
            return False
        size, refuse = max(sent, key=lambda it: it[0])  # if any was too big, this one was
        text = f"a message of {size} bytes is more than the server takes"
        refuse(RefusedError("TOO_BIG", text))
        return True

    def _end(self, error: RefusedError) -> None:
        self._error = error
        by_user = error.code == "CLOSED"
        self._publishes.end(error)
        self._topics.end(None if by_user else error)
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
        url: of the server's WebSocket. HTTP calls go to the same host.
        client_id: a name for the server's lists and logs; without one, a random one is made.
        headers: HTTP headers for the handshakes and the HTTP calls.
        ssl: the TLS context for wss:// and its HTTP calls, for example one that trusts another
            authority: `ssl.create_default_context(cafile="ca.pem")`. Without one, the authorities
            of the system are trusted.
        on_state: the first listener of `Client.on_state`.
        token: a token or API key, or a function that returns one and may be async. The function is
            called for each connection, and before the token of an open connection expires. If it
            raises, the client logs the exception's class and calls it again after a pause.

    Raises:
        TypeError: an option is of the wrong type.
        ValueError: `url` is not a URL; HTTP cannot send a header or the token; or the token is
            given twice, because there is also a header Authorization, or a user in the URL.
    """
    server = Server(url, Token(token), headers, ssl)
    client = Client(server, client_id or f"python-{uuid.uuid4().hex[:8]}")
    task = asyncio.create_task(client._run())
    try:
        if on_state is not None:
            client.on_state(on_state)
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
            except Exception:  # the user's function may raise any exception
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
