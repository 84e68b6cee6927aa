"""The names under which `server.py` puts what it built into the application."""

from aiohttp import web

from hub.command_queue import Commands
from hub.drain import Drain
from hub.hub import Hub
from hub.readiness import Readiness
from hub.settings import Settings
from hub.topic_list import TopicList

SETTINGS = web.AppKey("settings", Settings)
HUB = web.AppKey("hub", Hub)
TOPIC_LIST = web.AppKey("topic_list", TopicList)
DRAIN = web.AppKey("drain", Drain)
READINESS = web.AppKey("readiness", Readiness)
COMMANDS = web.AppKey("commands", Commands)
STARTED = web.AppKey("started", float)  # when the server started, by the loop's clock
