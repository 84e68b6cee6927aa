"""A worker as its parent sees it: a process, and what it says over its channel."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hub.values import Json
from workers.channel import Channel, Order
from workers.start import Start

ANSWER: Final = 1.0  # seconds in which a worker must answer a question
LAST_WORDS: Final = 1.0  # seconds to wait for the last messages of a process that has ended

Answer = Callable[[str], Awaitable[Json]]


class Child:
    """State: a process, and what it has reported. Times are those of the loop's clock."""

    def __init__(self, number: int, answer: Answer) -> None:
        """Create the record of a process that is not started yet.

        Args:
            number: of the worker. A child that replaces another one has the same number.
            answer: answers its questions.
        """
        self._clock = asyncio.get_running_loop().time
        self._process: asyncio.subprocess.Process | None = None
        self._killed = False
        self.number = number
        self.channel = Channel(self._obey, answer)
        self.began = self._clock()
        self.ready_at: float | None = None
        self.node = ""  # its id, from ready_at on
        self.leaving = False  # whether another child has replaced it
        self.parts: list[int] = []  # numbers of the parts from which it was told to accept
        self.silent_since: float | None = None  # time of a question without an answer in time
        self.metrics: Json = None  # the last ones that it has reported
        self.clients = 0  # number of its clients when it closed its sockets
        # The exit code, or the negative number of the signal that ended it; None while it lives.
        self.code: int | None = None
        self.why = ""  # the reason for its end; empty while it lives
        self.ready = asyncio.Event()  # set when it is ready, or has ended
        self.closed = asyncio.Event()  # set when it has closed its sockets, or has ended
        self.ended = asyncio.Event()  # set when it has ended

    @property
    def serves(self) -> bool:
        """Whether it accepts connections, and no other child has replaced it."""
        return self.ready_at is not None and self.code is None and not self.leaving

    async def ask(self, about: str) -> Json:
        """Return its answer to a question; None if it does not answer in time.

        If it has yet to answer an earlier question, it is not asked.
        """
        if self.silent_since is not None or self.ready_at is None or self.code is not None:
            return None
        asked_at = self._clock()
        asked = self.channel.ask(about)
        done, _ = await asyncio.wait([asked], timeout=ANSWER)
        if not done:
            self.silent_since = asked_at
            asked.add_done_callback(self._answered)
        return None if not done or asked.cancelled() else asked.result()

    def _answered(self, _: asyncio.Future[Json]) -> None:
        self.silent_since = None

    @property
    def pid(self) -> int | None:
        """The id of the process; None if it has not been started."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Kill the process, also one that is not started yet."""
        self._killed = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def run(self, command: Sequence[str], sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Start the process; return when it has ended and its last messages have arrived.

        If the process cannot be started, this counts as an end with the code 1.

        Args:
            command: the program and its arguments.
            sockets: the listening sockets, in a part for each worker.
        """
        try:
            process = await self._start(command, sockets)
        except OSError as error:
            self.channel.abort()
            self._end(1, f"not started: {error.strerror}")
            return
        if self._killed:
            self.kill()
        code = await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.channel.closed.wait()
        self.channel.abort()
        self._end(code, f"killed by {_name(-code)}" if code < 0 else f"exit code {code}")

    async def _start(
        self, command: Sequence[str], sockets: Sequence[Sequence[socket.socket]]
    ) -> asyncio.subprocess.Process:
        """Connect the channel, and start the process."""
        mine, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        with theirs:
            files = [[sock.fileno() for sock in part] for part in sockets]
            start = Start(self.number, len(sockets), theirs.fileno(), files)
            await loop.create_unix_connection(lambda: self.channel, sock=mine)
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **start.variable()},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=start.files(),
                # Ctrl-C in a terminal is for the parent alone.
                start_new_session=True,
            )
        return self._process

    def _end(self, code: int, why: str) -> None:
        self.code, self.why = code, why
        for event in (self.ready, self.closed, self.ended):
            event.set()

    def _obey(self, order: Order) -> None:
        match order["type"]:
            case "ready":
                self.ready_at, self.node = self._clock(), order["node"]
                self.ready.set()
            case "closed":
                self.clients = order["clients"]
                self.closed.set()
            case "final":
                self.metrics = order["metrics"]


def _name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
