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

_LOOK: Final = 0.5  # seconds between two reads of a topic that this node does not hold
_CONNECTED: Final = 5.0  # seconds between two checks that the client is still connected


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
        waiters = [drain.waiters] if held is None else [drain.waiters, held.waiters]
        await _woken(waiters, min(left, _LOOK if held is None else _CONNECTED), hub.turns)
        history = await broker.fetch_history(topic, position)
    return history


async def _woken(
    waiters: list[dict[Callable[[], None], None]], seconds: float, turns: Turns
) -> None:
    """Wait until any of these sets of waiters is called, for at most `seconds`.

    An event wakes all polls of its topic. 2,000 answers in one turn of the loop would take 0.3 s,
    so only a few polls continue in each turn.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wake = partial(turns.call, partial(_wake, future))
    for some in waiters:
        some[wake] = None
    try:
        async with asyncio.timeout(seconds):
            await future
    except TimeoutError:
        pass
    finally:
        for some in waiters:
            some.pop(wake, None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
