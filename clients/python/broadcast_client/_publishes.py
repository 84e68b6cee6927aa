"""The publishes of a client that the server has not answered yet.

State: these publishes, in sending order. All of them are sent again when a connection opens, so a
lost connection loses none of them. Each has an idempotency key, so the server carries it out once.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from broadcast_client._connection import REPEATABLE, Connection, encode
from broadcast_client._items import RefusedError
from broadcast_client._topic import refusal_of

PENDING: Final = 1_000  # maximum of unanswered publishes

Ack = dict[str, Any]


class _Publish:
    """An unanswered publish."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent: float | None = None  # time of the first write to a connection
        # A refusal is a result and not an exception: the caller may have been cancelled, and
        # asyncio logs exceptions that are never retrieved.
        self.answer: asyncio.Future[Ack | RefusedError] = asyncio.get_running_loop().create_future()


class Publishes:
    """Sends each publish until it is answered, or may not be repeated any more."""

    def __init__(self, connection: Connection, shown: str) -> None:
        """`shown`: the address of the server, for the texts of errors."""
        self._connection = connection
        self._shown = shown
        self._numbers = itertools.count(1)
        self._pending: dict[str, _Publish] = {}  # by request_id

    async def publish(self, topic: str, payload: Any, key: str, timeout: float | None) -> Ack:
        """Publish a message and wait for the ack; see `Client.publish`."""
        if len(self._pending) >= PENDING:
            raise RefusedError("BUSY", f"{PENDING} publishes wait for their answers")
        self._connection.check_queue()
        request_id = f"p{next(self._numbers)}"
        message = {"type": "publish", "request_id": request_id, "topic": topic, "payload": payload}
        publish = _Publish(encode({**message, "idempotency_key": key or uuid.uuid4().hex}))
        self._pending[request_id] = publish
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
            self._pending.pop(request_id, None)
        if isinstance(answer, RefusedError):
            raise answer.copy()
        return answer

    def resend(self) -> None:
        """Send all unanswered publishes on a new connection."""
        for request_id in list(self._pending):
            self._send(request_id)

    def answer(self, request_id: str, message: dict[str, Any]) -> bool:
        """Handle a message that answers a publish; return False if it does not."""
        if request_id not in self._pending:
            return False
        is_ack = message["type"] == "ack"
        self._settle(request_id, message if is_ack else refusal_of(message))
        return True

    def unanswered(self) -> Iterator[tuple[int, Callable[[RefusedError], None]]]:
        """Yield the size of each publish in bytes, and a function that refuses it."""
        for request_id, publish in self._pending.items():
            yield len(publish.data), partial(self._settle, request_id)

    def end(self, error: RefusedError) -> None:
        """Refuse all unanswered publishes."""
        for request_id in list(self._pending):
            self._settle(request_id, error)

    def _send(self, request_id: str) -> None:
        publish = self._pending[request_id]
        now = time.time()  # unlike the monotonic clock, it goes on while the machine sleeps
        if publish.sent is not None and now - publish.sent > REPEATABLE:
            text = f"it was sent over {REPEATABLE:g} s ago, and may have been carried out"
            self._settle(request_id, RefusedError("UNKNOWN", text))
        elif self._connection.open:
            publish.sent = publish.sent or now
            self._connection.say(publish.data)

    def _give_up(self, request_id: str, timeout: float) -> None:
        """Settle a publish that has no answer after `timeout` seconds."""
        publish = self._pending.get(request_id)
        if publish is None:  # its caller was cancelled in this tick
            return
        if publish.sent is not None:
            text = f"no answer within {timeout:g} s; the publish may have been carried out"
        else:
            why = self._connection.why or "no attempt has ended yet"
            text = f"no connection to {self._shown} within {timeout:g} s: {why}"
            text += "; the publish was not sent"
        self._settle(request_id, RefusedError("TIMEOUT", text))

    def _settle(self, request_id: str, answer: Ack | RefusedError) -> None:
        publish = self._pending.pop(request_id)
        if not publish.answer.done():  # the caller may have been cancelled in this tick
            publish.answer.set_result(answer)
