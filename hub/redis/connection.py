"""One connection to Redis: commands out in order, replies back in the same order.

State: the commands of this tick, and who waits for which reply. It knows no topic. A connection on
which Redis pushes (SUBSCRIBE) has a listener, which gets all that comes from then on.

An own protocol over hiredis' reader, because order and the fate of what was sent are the point:
docs/decisions, 0023, has the race with redis-py's PubSub.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

Reply = Any  # what hiredis reads: bytes, int, list, None, or hiredis.ReplyError as a value
Word = Any  # str, bytes or int
Answered = Callable[[Reply], object]  # gets a ConnectionError where no reply will come

# A tick's commands leave at its end. But where few come within a millisecond of the last ones they
# wait for the next: at 10,000 publishes a second that saves most system calls and wake-ups, here,
# in Redis and in every node that is subscribed (docs/decisions, 0024).
PACE: Final = 0.001  # seconds, which is what uvloop's timers can tell apart
MANY: Final = 16  # commands that do not wait

_NOTHING: Final = object()


class RedisConnection(asyncio.Protocol):
    """A pipeline of commands; what one tick sends leaves as one write."""

    _transport: asyncio.Transport
    _loop: asyncio.AbstractEventLoop

    def __init__(self, lost: Callable[[str], None]) -> None:
        """`lost` learns, once, why the connection is no more."""
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._awaiting: deque[Answered] = deque()
        self._out: list[bytes] = []
        self._written = 0.0  # when it was written to, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None  # of a write that waits
        self._listener: Callable[[list[Any]], None] | None = None
        self._why = "closed by Redis"
        self.open = False
        self.heard = 0.0  # when anything came last, by the loop's clock

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
        self._out.append(command)
        if len(self._out) == 1:
            if self._loop.time() - self._written < PACE:
                self._timer = self._loop.call_later(PACE, self._flush)
            else:
                self._loop.call_soon(self._flush)
        elif len(self._out) == MANY and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._written = self._loop.time()
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
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
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
