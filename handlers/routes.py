"""Every route of the server, and who may call it from another origin."""

import aiohttp_cors
from aiohttp import hdrs, web

from handlers.answers import BATCH, CONNECT, EVENTS, body_limit
from handlers.events import events
from handlers.history import read_history
from handlers.keys import SETTINGS
from handlers.page import client_module, page
from handlers.publish import publish, publish_batch
from handlers.stats import health, stats
from handlers.topics import create_topic, delete_topic, list_topics
from handlers.websocket import upgrade

ROUTES = (
    web.get("/", page),
    web.get("/client.js", client_module),
    web.get(CONNECT, upgrade, allow_head=False),
    web.get(EVENTS, events, allow_head=False),
    web.post("/publish", publish),
    web.post(BATCH, publish_batch),
    web.get("/stats", stats),
    web.get("/health", health),
    web.get("/topics", list_topics),
    web.post("/topics", create_topic),
    web.get(r"/topics/{name:[\s\S]+}/history", read_history),
    web.delete(r"/topics/{name:[\s\S]+}", delete_topic),
)


def add_routes(app: web.Application) -> None:
    """Add the routes, with CORS on each for the ALLOWED_ORIGINS."""
    for definition in ROUTES:
        kwargs = {**definition.kwargs, "expect_handler": _expect}
        method, path, handler = definition.method, definition.path, definition.handler
        web.RouteDef(method, path, handler, kwargs).register(app.router)
    # No credentials: with them, "*" would hand every origin the rights of the page itself.
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=False, expose_headers="*", allow_headers="*"
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(app[SETTINGS].allowed_origins, options))
    for route in list(app.router.routes()):  # a list: each gains a sibling for the preflight
        cors.add(route)
    app.on_response_prepare.append(_complete_cors)


async def _expect(request: web.Request) -> None:
    """Ask for the body where the client waits for that, and for one that is not too large."""
    wanted = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if wanted and (request.content_length or 0) <= body_limit(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def _complete_cors(request: web.Request, response: web.StreamResponse) -> None:
    """What aiohttp-cors leaves out: `Vary`, and answers of no route (404, 405)."""
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    origin = request.headers.get(hdrs.ORIGIN)
    if (
        origin is not None
        and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers
        and request.app[SETTINGS].allows_origin(origin)
    ):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
