"""One connection to Redis: commands out in order, replies back in the same order.

State: the commands of this tick, and who waits for which reply. It knows no topic. A connection on
which Redis pushes (SUBSCRIBE) has a listener, which gets all that comes from then on.

An own protocol over hiredis' reader, because order and the fate of what was sent are the point:
docs/design.md has the race with redis-py's PubSub.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

Reply = Any  # what hiredis reads: bytes, int, list, None, or hiredis.ReplyError as a value
Word = Any  # str, bytes or int
Answered = Callable[[Reply], object]  # gets a ConnectionError where no reply will come

_NOTHING: Final = object()


class Link(asyncio.Protocol):
    """A pipeline of commands; what one tick sends leaves as one write."""

    _transport: asyncio.Transport

    def __init__(self, lost: Callable[[str], None]) -> None:
        """`lost` learns, once, why the connection is no more."""
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._awaiting: deque[Answered] = deque()
        self._out: list[bytes] = []
        self._listener: Callable[[list[Any]], None] | None = None
        self._why = "closed by Redis"
        self.open = False

    def send(self, answered: Answered, *words: Word) -> None:
        """Send a command; `answered` gets its reply, in its place of the order."""
        if not self.open:
            answered(ConnectionError(self._why))
            return
        self._awaiting.append(answered)
        self._queue(hiredis.pack_command(words))

    def say(self, *words: Word) -> None:
        """Send a command whose answer goes to the listener."""
        if self.open:
            self._queue(hiredis.pack_command(words))

    def _queue(self, command: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(command)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self.open:
            self._transport.write(b"".join(out))

    async def ask(self, *words: Word) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            ConnectionError: the connection was lost before it.
            hiredis.ReplyError: Redis refused.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if not future.done():  # whoever waits may have given up
                future.set_result(reply)

        self.send(answered, *words)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def listen(self, listener: Callable[[list[Any]], None]) -> None:
        """From here on every reply is a push, for `listener`."""
        self._listener = listener

    def abort(self, why: str) -> None:
        """Cut the connection; whoever waits for a reply learns that none comes."""
        if self.open:
            self._why = why
            self._transport.abort()
            self._end()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self.open and (reply := self._reader.gets()) is not _NOTHING:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"no Redis on the other side: {error}")

    def _take(self, reply: Reply) -> None:
        if self._listener is not None:
            self._listener(reply)
        elif self._awaiting:
            self._awaiting.popleft()(reply)
        else:
            self.abort(f"an answer that nobody asked for: {reply!r:.100}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.open:
            self._why = str(exc) if exc else self._why
            self._end()

    def _end(self) -> None:
        self.open = False
        self._lost(self._why)  # first: what the unanswered set off must find it known
        awaiting, self._awaiting = self._awaiting, deque()
        for answered in awaiting:
            answered(ConnectionError(self._why))
