"""A TCP proxy that can silence, cut, refuse, hold or delay connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar


class Proxy:
    """A proxy for a port of the loopback; `silent` makes its connections half open.

    A connection that has lost bytes delivers none of those that follow, as with TCP.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target  # port to which new connections lead
        self.silent = False
        self.mute = False  # drop the server's bytes, but deliver the client's
        self.deaf = False  # drop the client's bytes, but deliver the server's
        self.shut = False  # cut new connections at once
        self.delay = 0.0  # seconds of delay for all bytes
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()  # of the open connections
        self._open = asyncio.Event()  # while it is cleared, the open connections are held
        self._open.set()
        self._held = self._open  # the event of the connections that were held last

    def cut(self) -> None:
        """Abort all connections; bytes in transit are lost."""
        for end in list(self._ends):
            end.transport.abort()

    def hold(self) -> None:
        """Hold back the bytes and the ends of the open connections; new ones are not held."""
        self._held, self._open = self._open, asyncio.Event()
        self._held.clear()
        self._open.set()

    def resume(self) -> None:
        """Deliver the held bytes and ends."""
        self._held.set()

    async def release(self) -> None:
        """Deliver the held bytes, and wait until those connections have ended."""
        self.resume()
        old = [task for task in self._tasks if task.get_name() == str(id(self._held))]
        await asyncio.wait(old, timeout=10)

    async def called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a new connection until it has ended, or the proxy is closed."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.accept(reader, writer)
            await writer.wait_closed()
        except ConnectionError:
            pass  # it was reset
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.join(reader, writer)

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """Connect a client to the target; `first` are bytes that it has sent."""
        try:
            if self.shut:
                raise ConnectionError
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except ConnectionError:
            writer.transport.abort()
            return
        there[1].write(first)
        for source, sink, back in ((reader, there[1], False), (there[0], writer, True)):
            passing = self._pass_on(source, sink, self._open, back)
            task = asyncio.create_task(passing, name=str(id(self._open)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        gate: asyncio.Event,
        back: bool,
    ) -> None:
        self._ends.add(sink)
        try:
            dead = False  # once bytes are lost, none may follow
            while data := await source.read(65_536):
                await gate.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if sink.transport.is_closing():
                    break
                dead = dead or self.silent or (self.mute if back else self.deaf)
                if not dead:
                    sink.write(data)
                    await sink.drain()
            await gate.wait()
        except ConnectionError:
            pass  # the other direction notices the end, too
        finally:
            self._ends.discard(sink)
            sink.close()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_Proxy = TypeVar("_Proxy", bound=Proxy)


@asynccontextmanager
async def listening(made: _Proxy) -> AsyncIterator[_Proxy]:
    """Let a proxy accept connections at a free port; end them with the block."""
    server = await asyncio.start_server(made.called, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()


def proxy(target: int) -> AbstractAsyncContextManager[Proxy]:
    return listening(Proxy(target))
