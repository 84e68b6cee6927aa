"""A loop in a thread of its own, for what serves a browser that is driven from this one."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

import uvloop

T = TypeVar("T")

PATIENCE = 20  # seconds for anything to be done, then it is a failure


class Backstage:
    """Runs what a test needs behind the scene; it is all over at the end of the block."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._contexts = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._contexts.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run until the end of the block."""

        async def begin() -> None:
            task = asyncio.create_task(work)
            self._contexts.callback(task.cancel)

        self.run(begin())

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter it, until the end of the block."""
        return self.run(self._contexts.enter_async_context(context))
