"""`GET /metrics`: the metrics of this server for Prometheus."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from handlers.answers import (
    Answer,
    close_in_shutdown,
    errors_as_json,
    raise_refusal,
    unavailable,
)
from handlers.collector import WithoutClashes
from handlers.families import PlainFamilies
from handlers.keys import (
    ANONYMOUS,
    OBSERVER,
    READ_METRICS,
    SERVICE,
    SETTINGS,
    SHUTDOWN,
    Announcing,
)
from handlers.origins import check_sender
from handlers.requests import caller
from hub.access import ANONYMOUS as ANYBODY
from hub.errors import RequestRefusal
from hub.observer import Observer
from hub.settings import Settings
from hub.values import Json

METRICS: Final = "/metrics"


async def metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, if the caller may see everything."""
    raise_refusal(request.app[SERVICE].check_all(caller(request)))
    return await open_metrics(request)


async def open_metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, in the format that `Accept` asks for."""
    collector = await request.app[READ_METRICS]()
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    try:  # the Content-Type repeats the version of the format, so it must be ASCII
        encode, content_type = choose_encoder(accepted if accepted.isascii() else "")
    except TypeError:  # the version has other parts than numbers
        encode, content_type = choose_encoder("")
    is_open = content_type.startswith("application/openmetrics-text")
    body = encode(WithoutClashes(collector) if is_open else collector)
    return Answer(body=body, headers={hdrs.CONTENT_TYPE: content_type})


async def group_metrics(read: Callable[[], Awaitable[Json]]) -> Collector:
    """Return the metrics of all workers.

    `read` returns them as plain data; None if the parent does not answer.

    Raises:
        HTTPServiceUnavailable: the parent does not answer.
    """
    plain = await read()
    if plain is None:
        raise unavailable("The parent of the workers does not answer", RequestRefusal.BUSY)
    return PlainFamilies(plain)


def metrics_app(
    settings: Settings,
    shutdown: Announcing,
    observer: Observer,
    read: Callable[[], Awaitable[Collector]],
) -> web.Application:
    """Return an application that serves nothing but metrics, to everybody.

    Args:
        settings: of the server.
        shutdown: says whether the shutdown has been announced.
        observer: gets reports about refused requests.
        read: returns the metrics.
    """
    app = web.Application(middlewares=[close_in_shutdown, errors_as_json, check_sender])
    app[SETTINGS], app[OBSERVER], app[ANONYMOUS] = settings, observer, ANYBODY
    app[SHUTDOWN], app[READ_METRICS] = shutdown, read
    app.router.add_get(METRICS, open_metrics)
    return app
