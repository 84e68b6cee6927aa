"""The connection of the parent with a worker: JSON objects over a socket pair, one a line.

An object is an order, a question or an answer. Both ends may ask. Unknown orders are ignored, since
a worker may be of another version than its parent (SIGHUP).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson

from hub.logs import events
from hub.values import Json

Order = dict[str, Any]  # with its `type`

# The questions.
STATUS: Final = "status"
METRICS: Final = "metrics"


class Channel(asyncio.Protocol):
    """One end of the connection.

    State: the bytes of a line that is not complete, and the questions that are not answered.
    """

    def __init__(
        self,
        obey: Callable[[Order], None],
        answer: Callable[[str], Awaitable[Json]],
    ) -> None:
        """Create an end that is not connected.

        Args:
            obey: carries out an order of the other end.
            answer: answers a question of the other end.
        """
        self._obey = obey
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._questions = 0
        self._answering: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()  # the connection has ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message: Order = orjson.loads(line)
            match message["type"]:
                case "ask":
                    self._begin_answer(message)
                case "answer":
                    asked = self._asked.pop(message["id"], None)
                    if asked is not None and not asked.done():
                        asked.set_result(message["value"])
                case _:
                    self._obey(message)

    def connection_lost(self, exc: Exception | None) -> None:
        for asked in self._asked.values():
            asked.cancel()
        self.closed.set()

    def tell(self, kind: str, **fields: Json) -> None:
        """Send an order; do nothing if the other end is closed."""
        self._send({"type": kind, **fields})

    def ask(self, about: str) -> asyncio.Future[Json]:
        """Send a question.

        Returns:
            A future with the answer; it is cancelled if the other end is closed.
        """
        asked: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._questions += 1
        self._asked[self._questions] = asked
        self._send({"type": "ask", "id": self._questions, "about": about})
        if self._transport is None or self._transport.is_closing():
            asked.cancel()
        return asked

    async def close(self) -> None:
        """Send what is left, and close this end."""
        assert self._transport is not None
        self._transport.close()
        await self.closed.wait()

    def abort(self) -> None:
        """Close this end at once, if it is connected."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, message: Order) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(orjson.dumps(message) + b"\n")

    def _begin_answer(self, question: Order) -> None:
        task = asyncio.get_running_loop().create_task(self._give_answer(question))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _give_answer(self, question: Order) -> None:
        try:
            value = await self._answer(question["about"])
        except Exception as fault:
            # A fault of this process may be any exception. The other end gets no answer, and does
            # not wait for ever.
            events.QUESTION_FAULT.log(fault)
            return
        self._send({"type": "answer", "id": question["id"], "value": value})
