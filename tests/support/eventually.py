"""Polling for an effect of another process that sends no event."""

import asyncio
import time
from collections.abc import Callable

from tests.support.patience import PATIENCE


async def eventually(come: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until `come()` returns True."""
    async with asyncio.timeout(patience):
        while not come():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def wait_until(come: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until `come()` returns True, in a thread without an event loop."""
    end = time.monotonic() + patience
    while not come():
        assert time.monotonic() < end
        time.sleep(0.02)
