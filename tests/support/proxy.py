"""A TCP proxy that a test can silence, or that delivers late what it was sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Stands before a port of the loopback; `silent` makes every way through it half open."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.silent = False
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()  # cleared, the ways there are keep what comes
        self._open.set()
        self._held = self._open  # that of the connections that were held last

    def hold(self) -> None:
        """Keep what comes, and the ends, of the connections there are; new ones pass."""
        self._held, self._open = self._open, asyncio.Event()
        self._held.clear()
        self._open.set()

    async def release(self) -> None:
        """Pass on what was kept, and wait until those connections are over."""
        self._held.set()
        old = [task for task in self._tasks if task.get_name() == str(id(self._held))]
        await asyncio.wait(old, timeout=10)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            passing = self._pass_on(source, sink, self._open)
            task = asyncio.create_task(passing, name=str(id(self._open)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(65_536):
                await gate.wait()
                if not self.silent:
                    sink.write(data)
                    await sink.drain()
            await gate.wait()
        except ConnectionError:
            pass  # the other way sees its end too
        finally:
            sink.close()

    def cut(self) -> None:
        """End the connections there are."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
