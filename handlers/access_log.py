"""The access log: one line for each HTTP request, written when it has ended (ACCESS_LOG).

A WebSocket or stream ends with its connection. aiohttp reports the requests that it has answered;
the middleware sees the others, which end in a CancelledError.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from handlers.answers import CONNECT
from handlers.connection import Link
from handlers.requests import address_of, request_fields
from handlers.sockets import progress
from handlers.takeover import TAKEN_OVER
from hub.delivery.client import Client
from hub.errors import LOST
from hub.event_log import caller_fields
from hub.logs import events

# The client disconnected, or was cut, before it had the answer. nginx uses the same number.
CLIENT_GONE: Final = 499
_MALFORMED: Final = "UNKNOWN"  # aiohttp's method of a request that is not valid HTTP

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AccessLog(AbstractAccessLogger):
    """Writes the lines of requests that aiohttp has answered."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line of a request that took `time` seconds."""
        if request.method == _MALFORMED or not isinstance(request, web.Request):
            status = response.status
            events.HTTP_REQUEST.log(address=request.remote, status=status, seconds=time)
            return
        gone = request.transport is None
        events.HTTP_REQUEST.log(
            **request_fields(request),
            status=CLIENT_GONE if gone else response.status,
            bytes=response.body_length,
            seconds=time,
            user_agent=_user_agent(request),
        )


@web.middleware
async def log_unanswered(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Log a request that aiohttp does not answer: now, or at the end of its connection."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        return await handler(request)
    except asyncio.CancelledError:
        link = request.get(TAKEN_OVER)
        if isinstance(link, Link):
            link.ended = partial(_log_end, _Upgrade.of(request, began))
        else:
            events.HTTP_REQUEST.log(
                **request_fields(request),
                status=CLIENT_GONE,
                seconds=loop.time() - began,
                user_agent=_user_agent(request),
            )
        raise


class _Upgrade(NamedTuple):
    """The fields of a WebSocket's or stream's request, for the line at its end."""

    method: str
    path: str
    address: str
    user_agent: str
    status: int
    began: float

    @classmethod
    def of(cls, request: web.Request, began: float) -> "_Upgrade":
        status = HTTPStatus.SWITCHING_PROTOCOLS if request.path == CONNECT else HTTPStatus.OK
        path, address = request.rel_url.raw_path, address_of(request)
        return cls(request.method, path, address, _user_agent(request), status, began)


def _log_end(upgrade: _Upgrade, client: Client) -> None:
    """Log a WebSocket or stream whose connection is lost."""
    events.HTTP_REQUEST.log(
        method=upgrade.method,
        path=upgrade.path,
        address=upgrade.address,
        **caller_fields(client.principal),
        status=upgrade.status,
        bytes=progress(client.transport)[0],
        seconds=asyncio.get_running_loop().time() - upgrade.began,
        user_agent=upgrade.user_agent,
        connection=client.number,
        reason=client.end_reason or LOST,
    )


def _user_agent(request: web.Request) -> str:
    return request.headers.get(hdrs.USER_AGENT, "")
