"""Checks of the `Host` and `Origin` headers, and CORS headers."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import aiohttp_cors
from aiohttp import hdrs, web

from handlers.keys import SETTINGS
from hub.origins import host_name

# Probes use the server's address as host, not its name.
PROBES: Final = frozenset({"/live", "/ready", "/health", "/metrics"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def check_sender(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse a request for another host, or from an origin that is not allowed.

    CORS alone is not enough: a browser sends simple requests and withholds only the responses.
    """
    refusal = sender_refusal(request)
    if refusal is not None:
        raise refusal
    if _asks_for_options(request) and not is_preflight(request):
        return await _list_methods(request)
    return await handler(request)


def sender_refusal(request: web.Request) -> web.HTTPException | None:
    """Return why a request is refused for its `Host` or `Origin`; None if it is not."""
    hosts = request.app[SETTINGS].allowed_hosts
    if hosts and host_name(_host(request)) not in hosts and request.path not in PROBES:
        return web.HTTPMisdirectedRequest(text="This Host is not in ALLOWED_HOSTS")
    if not _is_allowed(request):
        return web.HTTPForbidden(text="This Origin is not in ALLOWED_ORIGINS")
    return None


def add_cors(app: web.Application) -> None:
    """Answer preflights of all routes added so far, and let allowed origins read all responses."""
    # "*" is safe without credentials: with them, every origin would have the rights of the page
    # itself. check_sender has refused the origins that are not allowed.
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=False, expose_headers="*", allow_headers="*"
    )
    cors = aiohttp_cors.setup(app, defaults={"*": options})
    for route in list(app.router.routes()):  # a list: cors.add() adds a route for the preflight
        cors.add(route)
    app.on_response_prepare.append(_complete_cors)


async def _complete_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Set the CORS headers that aiohttp-cors does not.

    These are `Vary`, those of responses without a route (404, 405), and those of refused origins.
    """
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return
    if _is_allowed(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    else:
        response.headers.popall(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, None)
        response.headers.popall(hdrs.ACCESS_CONTROL_EXPOSE_HEADERS, None)


def is_preflight(request: web.Request) -> bool:
    """Return True for a CORS preflight of a route."""
    headers = request.headers
    return (
        _asks_for_options(request)
        and hdrs.ORIGIN in headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in headers
    )


def _asks_for_options(request: web.Request) -> bool:
    return request.method == hdrs.METH_OPTIONS and request.match_info.http_exception is None


async def _list_methods(request: web.Request) -> web.Response:
    """Answer with the methods of a path (RFC 9110 section 9.3.7), from all its resources."""
    resolved = [await resource.resolve(request) for resource in request.app.router.resources()]
    methods = {method for _, allowed in resolved for method in allowed}
    headers = {hdrs.ALLOW: ", ".join(sorted(methods))}
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)


def _is_allowed(request: web.Request) -> bool:
    """Return True if every `Origin` of a request is allowed.

    A request without one does not come from a page of another site.
    """
    allow = request.app[SETTINGS].allowed_origins.allow
    return all(allow(origin, _host(request)) for origin in request.headers.getall(hdrs.ORIGIN, ()))


def _host(request: web.Request) -> str:
    # Not request.host: without the header, it returns the name of this machine.
    return request.headers.get(hdrs.HOST, "")
