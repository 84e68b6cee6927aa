"""A real server in this process, on a free port; a test drives its keepalive."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import ClientSession, web
from aiohttp.web_protocol import RequestHandler

import server as product
from handlers.keys import DRAIN, HUB, SERVICE
from handlers.lifetime import start
from handlers.sockets import Listeners, http_transports, listen
from hub.delivery.keepalive import SLICES
from hub.drain import Drain
from hub.hub import Hub
from hub.redis.address import parse_redis_address
from hub.sessions import Sessions
from hub.settings import Settings
from hub.sweep import Sweeper
from tests.support.node import topics_of


@dataclass
class Running:
    """A listening server, with access to its parts."""

    runner: web.AppRunner
    listeners: Listeners
    hub: Hub
    drain: Drain
    sessions: Sessions
    sweeper: Sweeper
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def topics(self) -> dict[str, int]:
        """Return the number of subscribers of every topic."""
        return topics_of(self.hub)

    def visit_all(self, now: float) -> None:
        """Run a complete round of the keepalive at time `now`."""
        for _ in range(SLICES):
            self.sweeper.keepalive.sweep(now)

    @property
    def requests(self) -> list[RequestHandler]:
        """The HTTP connections."""
        assert self.runner.server is not None
        return self.runner.server.connections

    def visit_requests(self, now: float) -> None:
        """Check the HTTP connections at time `now`."""
        self.sweeper.http.sweep(now)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Serve with `settings` on a free port of the loopback interface."""
    settings = replace(settings, host="127.0.0.1", port=0)
    app = product.build_app(settings)
    (listener,) = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    runner, listeners = await start(app, [listener])
    assert runner.server is not None
    try:
        sweeper = product.build_sweeper(app, [runner.server])
        yield Running(runner, listeners, app[HUB], app[DRAIN], app[SERVICE].sessions, sweeper, port)
    finally:
        listeners.close_all()
        for transport in http_transports([runner.server]):  # a request could become a client
            transport.abort()
        for client in list(app[HUB].clients):
            client.abort()
        await runner.cleanup()


@asynccontextmanager
async def two_that_remember(
    address: str, prefix: str
) -> AsyncIterator[tuple[ClientSession, ClientSession]]:
    """Run two servers on one Redis with a history of 5 events; return a session for each."""
    where = parse_redis_address(address)
    settings = Settings(redis_addr=where, redis_prefix=prefix, history_size=5)
    async with (
        running(settings) as here,
        running(settings) as there,
        ClientSession(here.url) as into_here,
        ClientSession(there.url) as into_there,
    ):
        yield into_here, into_there
