"""`GET /metrics`: the metrics of this server for Prometheus."""

from typing import Final

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from handlers.answers import Answer, close_in_shutdown, errors_as_json, raise_refusal
from handlers.collector import WithoutClashes
from handlers.keys import DRAIN, HUB, REGISTRY, SERVICE, SETTINGS
from handlers.origins import check_sender
from handlers.requests import caller

METRICS: Final = "/metrics"


async def metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, if the caller may see everything."""
    raise_refusal(request.app[SERVICE].check_all(caller(request)))
    return await open_metrics(request)


async def open_metrics(request: web.Request) -> web.Response:
    """Answer with all metrics, in the format that `Accept` asks for."""
    registry = request.app[REGISTRY]
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    try:  # the version of a format is echoed
        encode, content_type = choose_encoder(accepted if accepted.isascii() else "")
    except TypeError:  # it has other parts than numbers
        encode, content_type = choose_encoder("")
    is_open = content_type.startswith("application/openmetrics-text")
    body = encode(WithoutClashes(registry) if is_open else registry)
    return Answer(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def metrics_app(app: web.Application) -> web.Application:
    """Return an application that serves nothing but the metrics of another one, to everybody."""
    own = web.Application(middlewares=[close_in_shutdown, errors_as_json, check_sender])
    own[SETTINGS], own[HUB], own[DRAIN] = app[SETTINGS], app[HUB], app[DRAIN]
    own[SERVICE], own[REGISTRY] = app[SERVICE], app[REGISTRY]
    own.router.add_get(METRICS, open_metrics)
    return own
