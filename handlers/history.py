"""`GET /topics/{name}/history`: what a topic remembers, and waiting for what comes."""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from handlers.answers import answer, answer_json, refuse
from handlers.keys import DRAIN, HUB
from handlers.topics import topic_in_path
from hub.brokers.history import History
from hub.errors import Refusal
from hub.protocol.http_requests import decode_asked
from hub.protocol.replies import encode_history
from hub.values import Position

_LOOK: Final = 0.5  # seconds between two looks at a topic that only other nodes are subscribed to
_THERE: Final = 5.0  # seconds between two looks whether the client still waits


async def read_history(request: web.Request) -> web.Response:
    """Events in order, or (reverse) the newest first, and where the topic is."""
    asked = decode_asked(request.query)
    if isinstance(asked, Refusal):
        return refuse(asked)
    topic = topic_in_path(request).removesuffix("/history")
    since = asked.since
    # Reversed, what comes before it is asked for.
    history = await request.app[HUB].broker.remembered(topic, None if asked.reverse else since)
    if asked.wait and isinstance(history, History):
        since = since or history.position  # without one: what comes from now on
        history = await _after(request, topic, since, asked.wait)
    if isinstance(history, Refusal):
        return refuse(history)
    if since is not None and not history.reaches(since):
        text = "What follows this position is not remembered: begin anew at the current one"
        return answer({"error": text, **history.position._asdict()}, HTTPStatus.GONE)
    events = history.page(since.offset if since else None, asked.limit, asked.reverse)
    return answer_json(encode_history(topic, history.position, events))


async def _after(
    request: web.Request, topic: str, since: Position, seconds: float
) -> History | Refusal:
    """The history once it is not at `since` any more, the server stops, or the time is over."""
    broker, drain = request.app[HUB].broker, request.app[DRAIN]
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    history = await broker.remembered(topic, since)
    while (
        isinstance(history, History)
        and history.position == since
        and clock() < end
        and not drain.begun
        and request.transport is not None  # else nobody is there any more
    ):
        held = broker.history(topic)
        left = end - clock()
        waiting = [drain.waiting] if held is None else [drain.waiting, held.waiting]
        await _wakened(waiting, min(left, _LOOK if held is None else _THERE))
        history = await broker.remembered(topic, since)
    return history


async def _wakened(places: list[dict[Callable[[], None], None]], seconds: float) -> None:
    """Wait to be called from any of these places, but not longer."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wake = partial(_wake, future)
    for place in places:
        place[wake] = None
    try:
        async with asyncio.timeout(seconds):
            await future
    except TimeoutError:
        pass  # then there is nothing new
    finally:
        for place in places:
            place.pop(wake, None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
