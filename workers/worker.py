"""The worker's end: it reports its state to the parent, and carries out the parent's orders."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, Protocol

from hub.logs import events
from hub.status import WORKERS, Status
from hub.values import Json
from workers.channel import METRICS, STATUS, Channel, Order
from workers.start import Start

PARENT: Final = 2.0  # seconds in which the parent must answer a question


class Accepting(Protocol):
    """Accepts connections from listening sockets."""

    async def open(self, sock: socket.socket) -> None:
        """Accept the connections of a socket that listens."""

    def close(self, sock: socket.socket) -> None:
        """Accept no more connections of a socket, and close it."""


class Ending(Protocol):
    """The steps of the shutdown."""

    def announce(self) -> None:
        """Report this process as not ready."""

    async def close(self) -> int:
        """Accept the connections in the backlogs, and close the listening sockets.

        Returns:
            The number of clients.
        """

    async def hand_over(self) -> None:
        """Stop accepting connections, while another process accepts from the same sockets."""

    async def dismiss(self, seconds: float, clients: int = 0) -> None:
        """Drain the clients, and return when every connection has ended."""


class Worker:
    """State: the channel to the parent, its orders, and the sockets from which it accepts."""

    def __init__(
        self, start: Start, status: Callable[[], Status], metrics: Callable[[], Json]
    ) -> None:
        """Create an end that is not connected yet.

        Args:
            start: the number, the channel and the sockets that the parent has given.
            status: returns the status of this process.
            metrics: returns its metrics as plain data.
        """
        self._start = start
        self._status = status
        self._metrics = metrics
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._channel = Channel(self._orders.put_nowait, self._answer)
        self._sockets = [[socket.socket(fileno=file) for file in part] for part in start.sockets]
        self._accepted: dict[int, list[socket.socket]] = {}  # by the number of the part

    async def status(self) -> Status:
        """Return the status of all workers, or of this one alone if the parent does not answer."""
        plain = await self._ask(STATUS)
        if plain is not None:
            return Status(**plain)
        own = self._status()
        return own._replace(checks={**own.checks, WORKERS: "unknown"})

    async def metrics(self) -> Json:
        """Return the metrics of all workers as plain data; None if the parent does not answer."""
        return await self._ask(METRICS)

    async def _ask(self, about: str) -> Json:
        asked = self._channel.ask(about)
        done, _ = await asyncio.wait([asked], timeout=PARENT)
        return None if not done or asked.cancelled() else asked.result()

    async def run(self, node: str, accepting: Accepting, ending: Ending, timeout: float) -> None:
        """Serve until the parent orders the end, or has ended itself.

        Args:
            node: the id of this process.
            accepting: accepts connections.
            ending: the steps of the shutdown.
            timeout: seconds for the clients to leave if the parent has ended.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(fileno=self._start.channel)
        await loop.create_unix_connection(lambda: self._channel, sock=sock)
        lost = loop.create_task(self._watch())
        self._channel.tell("ready", node=node)
        while (order := await self._orders.get())["type"] not in ("leave", "dismiss", "lost"):
            match order["type"]:
                case "accept":
                    await self._accept(accepting, order["parts"])
                case "announce":
                    ending.announce()
                case "close":
                    self._channel.tell("closed", clients=await self._close(ending))
        if order["type"] == "leave":
            self._close_inherited()
            await ending.hand_over()
        elif order["type"] == "lost":
            events.PARENT_LOST.log()
            order = {"seconds": timeout, "clients": 0}
            ending.announce()
            await self._close(ending)
        await ending.dismiss(order["seconds"], order["clients"])
        lost.cancel()
        self._close_inherited()
        self._channel.tell("final", metrics=self._metrics())
        await self._channel.close()

    async def _accept(self, accepting: Accepting, parts: list[int]) -> None:
        """Accept from the sockets of these parts, and of no other."""
        for part in self._accepted.keys() - set(parts):
            for sock in self._accepted.pop(part):
                accepting.close(sock)
        for part in parts:
            if part not in self._accepted:
                # Copies: a socket may be closed and accepted from again.
                copies = [sock.dup() for sock in self._sockets[part]]
                self._accepted[part] = copies
                for sock in copies:
                    await accepting.open(sock)

    async def _close(self, ending: Ending) -> int:
        """Accept the connections in the backlogs, then close all sockets."""
        clients = await ending.close()
        for part in self._accepted:
            for sock in self._sockets[part]:
                # For all processes that share the socket. One of them may have done it already.
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._close_inherited()
        return clients

    def _close_inherited(self) -> None:
        for part in self._sockets:
            for sock in part:
                sock.close()

    async def _watch(self) -> None:
        await self._channel.closed.wait()
        self._orders.put_nowait({"type": "lost"})

    async def _answer(self, about: str) -> Json:
        match about:
            case "status":
                return self._status()._asdict()
            case "metrics":
                return self._metrics()
        return None
