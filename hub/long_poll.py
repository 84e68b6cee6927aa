"""Long polls: requests that wait for the next event of a topic's history.

State: the number of those that wait.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from hub.brokers.history import History
from hub.delivery.turns import Turns
from hub.drain import Drain
from hub.errors import ErrorCode, Refusal
from hub.hub import Hub
from hub.reports import Limit
from hub.values import Position

MAX_WAITING: Final = 10_000  # long polls that wait at a time
_LOOK: Final = 0.5  # seconds between two reads of a topic that this node does not hold
_CONNECTED: Final = 5.0  # seconds between two checks that the client is still connected


class LongPolls:
    """The long polls of a hub."""

    def __init__(self, hub: Hub, drain: Drain) -> None:
        self._hub = hub
        self._drain = drain
        self._waiting = 0

    async def wait(
        self,
        topic: str,
        position: Position,
        *,
        seconds: float,
        connected: Callable[[], bool],
    ) -> History | Refusal:
        """Wait until a topic has an event after `position`, and return its history.

        The wait also ends after `seconds`, when the server shuts down, or when the client is no
        longer `connected`.
        """
        end = asyncio.get_running_loop().time() + seconds
        history = await self._hub.broker.fetch_history(topic, position)
        if not _is_at(history, position):
            return history
        if self._waiting >= MAX_WAITING:
            self._hub.observer.limited(Limit.LONG_POLLS)
            return Refusal(ErrorCode.LIMIT_EXCEEDED, f"{MAX_WAITING} requests wait for events")
        self._waiting += 1
        try:
            return await self._next(topic, history, position, end, connected)
        finally:
            self._waiting -= 1

    async def _next(
        self,
        topic: str,
        history: History | Refusal,
        position: Position,
        end: float,
        connected: Callable[[], bool],
    ) -> History | Refusal:
        """Return the history once it has an event after `position`, or at the time `end`."""
        broker = self._hub.broker
        clock = asyncio.get_running_loop().time
        while _is_at(history, position) and clock() < end and not self._drain.begun and connected():
            held = broker.history(topic)
            left = end - clock()
            waiters = [self._drain.waiters] + ([] if held is None else [held.waiters])
            await _woken(waiters, min(left, _LOOK if held is None else _CONNECTED), self._hub.turns)
            history = await broker.fetch_history(topic, position)
        return history


def _is_at(history: History | Refusal, position: Position) -> bool:
    """Return whether a position is the newest one of a history."""
    return isinstance(history, History) and history.position == position


async def _woken(
    waiters: list[dict[Callable[[], None], None]], seconds: float, turns: Turns
) -> None:
    """Wait until any of these sets of waiters is called, for at most `seconds`.

    An event wakes all polls of its topic. 2,000 answers in one tick would take 0.3 s, so only a few
    polls continue in each tick.
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
