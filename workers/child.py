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
LAST_WORDS: Final = 1.0  # seconds for what an ended process has sent to arrive

Answer = Callable[[str], Awaitable[Json]]


class Child:
    """State: a process, and what it has said. Times are those of the loop's clock."""

    def __init__(self, number: int, answer: Answer) -> None:
        """Create the record of a process that is to be started.

        Args:
            number: that of the worker. A child that replaces another one has the same.
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
        self.parts: list[int] = []  # of the sockets, from which it is to accept
        self.silent_since: float | None = None  # since when it has not answered
        self.metrics: Json = None  # the last ones that it has reported
        self.clients = 0  # those that it had when it closed its sockets
        self.code: int | None = None  # of its end: an exit code, or the negative of a signal
        self.why = ""  # it has ended
        self.ready = asyncio.Event()  # or it has ended
        self.closed = asyncio.Event()  # it has closed its sockets; or it has ended
        self.ended = asyncio.Event()

    @property
    def serves(self) -> bool:
        """Whether it accepts connections, and no other child has replaced it."""
        return self.ready_at is not None and self.code is None and not self.leaving

    async def ask(self, about: str) -> Json:
        """Return its answer to a question; None without an answer in time.

        One that has not answered an earlier question is not asked.
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
        """Start the process, and return when it has ended and what it has sent has arrived.

        A process that cannot be started has ended with the code 1.

        Args:
            command: the command.
            sockets: those that listen, in a part for each worker.
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
