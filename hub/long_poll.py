"""Long polls: requests that wait for the next event of a topic's history."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from hub.brokers.history import History
from hub.delivery.turns import Turns
from hub.drain import Drain
from hub.errors import Refusal
from hub.hub import Hub
from hub.values import Position

_LOOK: Final = 0.5  # seconds between two looks at a topic that only other nodes hold
_CONNECTED: Final = 5.0  # seconds between two looks if the client is still connected


async def wait_for_event(
    hub: Hub,
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
    broker = hub.broker
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
        waiting = [drain.waiters] if held is None else [drain.waiters, held.waiters]
        await _woken(waiting, min(left, _LOOK if held is None else _CONNECTED), hub.turns)
        history = await broker.fetch_history(topic, position)
    return history


async def _woken(
    places: list[dict[Callable[[], None], None]], seconds: float, turns: Turns
) -> None:
    """Wait for a call from any of these places, for so many seconds at most.

    An event wakes every poll of its topic. 2,000 answers in one turn of the loop would take 0.3 s,
    so the polls go on a few a turn.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wake = partial(turns.call, partial(_wake, future))
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
