"""Slices of long work in a coroutine, so that other clients get a tick between them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")


async def slices(items: Iterable[_Item], size: int) -> AsyncIterator[list[_Item]]:
    """Yield all items in slices of a size, and end the tick after each full slice."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
        if len(part) == size:
            await asyncio.sleep(0)
