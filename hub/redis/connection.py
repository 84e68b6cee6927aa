"""One connection to Redis.

State: the commands to write at the end of the tick, and the callbacks of the unanswered ones.
docs/decisions, 0023, says why it is not redis-py's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

Reply = Any  # what hiredis reads: bytes, int, list, None, or hiredis.ReplyError as a value
Word = Any  # str, bytes or int
Answered = Callable[[Reply], object]  # called with a ConnectionError if no reply will come

# Commands are written at the end of the tick. The write is delayed by PACE if the last one was less
# than that ago and there are fewer than MANY commands: at 10,000 publishes a second this saves most
# system calls and wake-ups, here, in Redis and in every subscribed node (docs/decisions, 0024).
PACE: Final = 0.001  # seconds: the resolution of uvloop's timers
MANY: Final = 16  # commands that are written without a delay

_NOTHING: Final = object()


class RedisConnection(asyncio.Protocol):
    """A pipeline of commands over hiredis' parser; the commands of one tick are one write.

    Redis answers commands in order, so each reply belongs to the oldest unanswered command, and
    callbacks are called in that order. Every callback is called exactly once: with the reply, which
    may be a `hiredis.ReplyError`, or with a `ConnectionError` when the connection ends. A command
    is never sent again. Redis may have carried out an unanswered one; its sender must allow for
    both.

    A connection that subscribes has a listener (`listen`). From then on everything that Redis sends
    is a push, which the listener gets, and commands are sent by `say`, without a callback.

    The connection ends once, by `abort`, by an error of the protocol, or by the other side. `lost`
    is called first, so that the callbacks find the owner in its new state.
    """

    _transport: asyncio.Transport
    _loop: asyncio.AbstractEventLoop

    def __init__(self, lost: Callable[[str], None]) -> None:
        """`lost` is called once, with the reason, when the connection ends."""
        self._lost = lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._awaiting: deque[Answered] = deque()
        self._out: list[bytes] = []
        self._written = 0.0  # the time of the last write, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None  # of a delayed write
        self._listener: Callable[[list[Any]], None] | None = None
        self._why = "closed by Redis"
        self.open = False
        self.heard = 0.0  # the time of the last data received, by the loop's clock

    def send(self, answered: Answered, *words: Word) -> None:
        """Send a command, and call `answered` with its reply, in order."""
        if not self.open:
            answered(ConnectionError(self._why))
            return
        self._awaiting.append(answered)
        self._queue(hiredis.pack_command(words))

    def say(self, *words: Word) -> None:
        """Send a command whose reply is a push."""
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
        """Send a command and return its reply.

        Raises:
            ConnectionError: the connection was lost before the reply.
            hiredis.ReplyError: Redis refused the command.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if not future.done():  # the caller may be cancelled
                future.set_result(reply)

        self.send(answered, *words)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def listen(self, listener: Callable[[list[Any]], None]) -> None:
        """Call `listener` with everything that arrives from now on."""
        self._listener = listener

    def abort(self, why: str) -> None:
        """Close the connection at once; unanswered commands get a ConnectionError."""
        if self.open:
            self._why = why
            self._transport.abort()
            self._end()

    # Called by the event loop.

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
        self._lost(self._why)  # first: the callbacks must find the owner's new state
        awaiting, self._awaiting = self._awaiting, deque()
        for answered in awaiting:
            answered(ConnectionError(self._why))
