"""Waiting for what another process does, which tells nobody when it has."""

import asyncio
from collections.abc import Callable


async def eventually(come: Callable[[], object], patience: float = 20.0) -> None:
    """Look until `come()` is true."""
    async with asyncio.timeout(patience):
        while not come():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
