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

    def __init__(self, number: int, process: asyncio.subprocess.Process, answer: Answer) -> None:
        """Create the record of a process whose channel is not connected yet.

        Args:
            number: that of the worker. A child that replaces another one has the same.
            process: the process.
            answer: answers its questions.
        """
        self._clock = asyncio.get_running_loop().time
        self.number = number
        self.process = process
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

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def watch(self) -> None:
        """Wait until the process has ended and what it has sent has arrived, and record that."""
        code = await self.process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.channel.closed.wait()
        self.channel.abort()
        self.code = code
        for event in (self.ready, self.closed, self.ended):
            event.set()

    def why(self) -> str:
        """Return the reason for its end."""
        assert self.code is not None
        if self.code >= 0:
            return f"exit code {self.code}"
        return f"killed by {signal.Signals(-self.code).name}"

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


async def start_child(
    command: Sequence[str],
    number: int,
    sockets: Sequence[Sequence[socket.socket]],
    answer: Answer,
) -> Child:
    """Start the process of a worker.

    Args:
        command: the command.
        number: that of the worker, from 1 on.
        sockets: those that listen, in a part for each worker.
        answer: answers its questions.
    """
    mine, theirs = socket.socketpair()
    with theirs:
        files = [[sock.fileno() for sock in part] for part in sockets]
        start = Start(number, len(sockets), theirs.fileno(), files)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **start.variable()},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=start.files(),
                # Ctrl-C in a terminal is for the parent alone.
                start_new_session=True,
            )
        except BaseException:
            mine.close()
            raise
    child = Child(number, process, answer)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: child.channel, sock=mine)
    return child
