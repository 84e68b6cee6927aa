"""The keys of the application's parts, which `server.py` builds."""

from aiohttp import web
from prometheus_client import CollectorRegistry

from hub.auth.authenticator import Authenticator
from hub.body_budget import BodyBudget
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.hub import Hub
from hub.limits import InflowRates, RequestLimits
from hub.loop_lag import LoopLag
from hub.readiness import Readiness
from hub.service import Service
from hub.settings import Settings

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
STARTED = web.AppKey("started", float)  # time of the start in seconds, by the loop's clock
