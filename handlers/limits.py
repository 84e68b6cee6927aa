"""Limits of the rate of requests and of connections, which are answered by 429."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from handlers.answers import CONNECT, EVENTS, bad_request, too_many
from handlers.keys import HUB, LIMITS, SETTINGS
from handlers.origins import PROBES, is_preflight
from handlers.requests import address_of, counted_as
from hub.limits import exceeded
from hub.reports import Limit

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def limit_requests(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse a request over REQUEST_RATE.

    Probes are never refused, nor are preflights, which a browser sends by itself. New connections
    have a rate of their own (CONNECT_RATE_PER_IP).
    """
    free = request.path in PROBES or request.path in (CONNECT, EVENTS) or is_preflight(request)
    if not free:
        _limit_request(request)
    return await handler(request)


def _limit_request(request: web.Request) -> None:
    refusal = request.app[LIMITS].request(counted_as(request), _now())
    if refusal is not None:
        raise too_many(refusal)


def limit_guesses(request: web.Request) -> None:
    """Count a request with an invalid credential; raise 429 if its address is over its rate."""
    if request.path not in (CONNECT, EVENTS):
        _limit_request(request)
        return
    refusal = request.app[LIMITS].attempt(address_of(request), _now())
    if refusal is not None:
        raise too_many(refusal)


def limit_connects(request: web.Request) -> None:
    """Raise 429 if the client's address may not open another WebSocket or stream now."""
    refusal = request.app[LIMITS].connect(address_of(request), _now())
    if refusal is not None:
        raise too_many(refusal)


def limit_subscriptions(request: web.Request, topics: int) -> None:
    """Raise 400 if a URL has more topics than a client may be subscribed to."""
    limit = request.app[SETTINGS].max_subscriptions
    if topics > limit:
        request.app[HUB].observer.limited(Limit.MAX_SUBSCRIPTIONS)
        refusal = exceeded("subscriptions", "MAX_SUBSCRIPTIONS", limit)
        raise bad_request(refusal.code, refusal.text)


def _now() -> float:
    return asyncio.get_running_loop().time()
