"""The keys of the application's parts, which `server.py` builds."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from hub.access import Principal
from hub.auth.authenticator import Authenticator
from hub.body_budget import BodyBudget
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.hub import Hub
from hub.limits import InflowRates, RequestLimits
from hub.loop_lag import LoopLag
from hub.observer import Observer
from hub.readiness import Readiness
from hub.service import Service
from hub.settings import Settings
from hub.status import Status


class Announcing(Protocol):
    """An object that says whether the shutdown has been announced."""

    announced: bool


SETTINGS = web.AppKey("settings", Settings)
HUB = web.AppKey("hub", Hub)
SERVICE = web.AppKey("service", Service)
DRAIN = web.AppKey("drain", Drain)
BODY_BUDGET = web.AppKey("body_budget", BodyBudget)
INFLOW_RATES = web.AppKey("inflow_rates", InflowRates)
LIMITS = web.AppKey("limits", RequestLimits)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)  # only if access is on
LAG = web.AppKey("lag", LoopLag)
READINESS = web.AppKey("readiness", Readiness)
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
REGISTRY = web.AppKey("registry", CollectorRegistry)
SHUTDOWN = web.AppKey("shutdown", Announcing)
OBSERVER = web.AppKey("observer", Observer)
ANONYMOUS = web.AppKey("anonymous", Principal)
# Functions that return the state for probes, and the metrics: of this process or of all workers.
READ_STATUS: web.AppKey[Callable[[], Awaitable[Status]]] = web.AppKey("read_status")
READ_METRICS: web.AppKey[Callable[[], Awaitable[Collector]]] = web.AppKey("read_metrics")
