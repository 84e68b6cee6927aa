"""The names under which `server.py` puts what it built into the application."""

from aiohttp import web

from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.hub import Hub
from hub.readiness import Readiness
from hub.service import Service
from hub.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
HUB = web.AppKey("hub", Hub)
SERVICE = web.AppKey("service", Service)
DRAIN = web.AppKey("drain", Drain)
READINESS = web.AppKey("readiness", Readiness)
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
STARTED = web.AppKey("started", float)  # when the server started, by the loop's clock
