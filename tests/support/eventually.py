"""Polling for an effect of another process that sends no event."""

import asyncio
from collections.abc import Callable


async def eventually(come: Callable[[], object], patience: float = 20.0) -> None:
    """Wait until `come()` returns True."""
    async with asyncio.timeout(patience):
        while not come():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
