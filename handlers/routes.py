"""The routes of the server."""

from aiohttp import web

from handlers.answers import BATCH, CONNECT, EVENTS
from handlers.console import client_module, console_file, page
from handlers.descriptions import asyncapi, openapi
from handlers.directory import list_connections, list_nodes
from handlers.disconnect import disconnect
from handlers.events import events
from handlers.history import read_history
from handlers.keys import SETTINGS
from handlers.metrics import METRICS, metrics
from handlers.origins import add_cors
from handlers.publish import publish, publish_batch
from handlers.stats import health, live, ready, stats
from handlers.topics import create_topic, delete_topic, list_topics
from handlers.websocket import upgrade

ROUTES = (
    web.get("/", page),
    web.get("/console/{name}", console_file),
    web.get("/client.js", client_module),
    web.get("/openapi.json", openapi),
    web.get("/asyncapi.json", asyncapi),
    web.get(CONNECT, upgrade, allow_head=False),
    web.get(EVENTS, events, allow_head=False),
    web.post("/publish", publish),
    web.post(BATCH, publish_batch),
    web.get("/stats", stats),
    web.get("/health", health),
    web.get("/live", live),
    web.get("/ready", ready),
    web.get(METRICS, metrics),
    web.get("/topics", list_topics),
    web.post("/topics", create_topic),
    web.get(r"/topics/{name:[\s\S]+}/history", read_history),
    # A topic's name may end in "/history". Preflights and OPTIONS match the path above first.
    web.delete(r"/topics/{name:[\s\S]+}/history", delete_topic),
    web.delete(r"/topics/{name:[\s\S]+}", delete_topic),
    web.get("/nodes", list_nodes),
    web.get("/connections", list_connections),
    web.post("/disconnect", disconnect),
)


def add_routes(app: web.Application) -> None:
    """Add all routes, with CORS, to the application; without METRICS if it has its own port."""
    for definition in ROUTES:
        if definition.path == METRICS and app[SETTINGS].metrics_port:
            continue
        kwargs = {**definition.kwargs, "expect_handler": _expect}
        method, path, handler = definition.method, definition.path, definition.handler
        web.RouteDef(method, path, handler, kwargs).register(app.router)
    add_cors(app)


async def _expect(_request: web.Request) -> None:
    """Ignore `Expect`: `read_body` answers it, so that a refused request sends no body."""
