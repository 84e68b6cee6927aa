"""An event loop in a second thread, for servers that a browser in this thread uses."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

from tests.support.loop import Loop
from tests.support.patience import PATIENCE

T = TypeVar("T")


class Backstage:
    """Runs coroutines in a second thread; all of them end with the `with` block."""

    def __init__(self) -> None:
        self._loop = Loop()
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
        """Run a coroutine and return its result."""
        # Longer than for what it may wait for: its own error says more.
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE + 10)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine that runs until the end of the block."""

        async def begin() -> None:
            task = asyncio.create_task(work)
            self._contexts.callback(task.cancel)

        self.run(begin())

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context and leave it at the end of the block."""
        return self.run(self._contexts.enter_async_context(context))
