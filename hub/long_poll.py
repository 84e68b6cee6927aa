"""Long polls: requests that wait for the next event of a topic's history."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from hub.brokers.base import Broker
from hub.brokers.history import History
from hub.drain import Drain
from hub.errors import Refusal
from hub.values import Position

_LOOK: Final = 0.5  # seconds between two looks at a topic that only other nodes hold
_CONNECTED: Final = 5.0  # seconds between two looks if the client is still connected


async def wait_for_event(
    broker: Broker,
    drain: Drain,
    topic: str,
    position: Position,
    *,
    seconds: float,
    connected: Callable[[], bool],
) -> History | Refusal:
    """Wait until a topic has an event after `position`, and return its history.

    The wait also ends after `seconds`, when the server shuts down, or when the client is no longer
    `connected`.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    history = await broker.fetch_history(topic, position)
    while (
        isinstance(history, History)
        and history.position == position
        and clock() < end
        and not drain.begun
        and connected()
    ):
        held = broker.history(topic)
        left = end - clock()
        waiting = [drain.waiting] if held is None else [drain.waiting, held.waiting]
        await _woken(waiting, min(left, _LOOK if held is None else _CONNECTED))
        history = await broker.fetch_history(topic, position)
    return history


async def _woken(places: list[dict[Callable[[], None], None]], seconds: float) -> None:
    """Wait for a call from any of these places, for so many seconds at most."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wake = partial(_wake, future)
    for place in places:
        place[wake] = None
    try:
        async with asyncio.timeout(seconds):
            await future
    except TimeoutError:
        pass
    finally:
        for place in places:
            place.pop(wake, None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
