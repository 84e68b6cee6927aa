"""The start and the shutdown of the HTTP server and its connections."""

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from handlers.access_log import AccessLog
from handlers.keys import DRAIN, HUB, SETTINGS
from handlers.sockets import (
    OWN_SHARE,
    Listeners,
    ListenSockets,
    http_transports,
)
from handlers.takeover import (
    MAX_HEADER_BYTES,
    MAX_TARGET_BYTES,
    FirstRequest,
    close_idle,
    close_longest_idle,
    late_heads,
)
from handlers.websocket import shortcut
from hub.errors import GOING_AWAY
from hub.logs import events
from hub.logs.events import ACCESS_LOGGER
from hub.settings import Settings

# Seconds that an HTTP connection may be idle between two requests. Longer than proxies keep their
# connections (nginx: 60), so that a proxy never sends a request on one that is being closed.
HTTP_KEEPALIVE: Final = 75.0
# Seconds for requests to end after their connections were cut at the end of SHUTDOWN_TIMEOUT.
HTTP_SHUTDOWN: Final = 1.0
# Seconds to read on when a request is answered before its body has arrived. If the connection were
# closed at once, it would be reset, and the client might lose the answer.
HTTP_LINGER: Final = 2.0
# Seconds for the connections in the backlog to be accepted before the listening sockets are closed.
ACCEPT_BACKLOG: Final = 1.0
# Seconds that an HTTP connection may be idle after the listening sockets are closed: a request may
# be on its way.
HTTP_IDLE: Final = 1.0
# Seconds for new connections to send their first request, before another process takes over.
FIRST_REQUEST: Final = 1.0
# Seconds between two checks whether they have sent it, and for the last of them to be answered.
_LOOK: Final = 0.05


async def start(
    app: web.Application,
    sockets: ListenSockets,
    *,
    share: int = OWN_SHARE,
    only: str = "",
) -> tuple[web.AppRunner, Listeners]:
    """Serve the application on the sockets.

    Args:
        app: the application.
        sockets: those that listen.
        share: the fraction 1/share of the reserve of descriptors is not for these connections.
        only: the one path that is served; empty for all.

    Returns:
        The runner, and the listeners, which accept connections. The caller must close the
        listeners, and then clean up the runner.
    """
    runner = web.AppRunner(
        app,
        access_log_class=AccessLog,
        access_log=ACCESS_LOGGER if app[SETTINGS].access_log else None,
        keepalive_timeout=HTTP_KEEPALIVE,
        tcp_keepalive=False,  # the server's own timeouts cover all connections
        lingering_time=HTTP_LINGER,
        auto_decompress=False,  # an encoded body is refused
        max_line_size=MAX_TARGET_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        shutdown_timeout=HTTP_SHUTDOWN,
    )
    await runner.setup()
    assert runner.server is not None
    server = runner.server
    # The shortcut skips the middlewares, and so the one that writes the access log.
    through_aiohttp = only or app[SETTINGS].access_log
    serve = partial(FirstRequest, server, None if through_aiohttp else shortcut(app))
    close = partial(close_longest_idle, server)
    listeners = Listeners(serve, close, share)
    for sock in sockets:
        await listeners.open(sock)
    return runner, listeners


def log_listening(sockets: ListenSockets, *, node: str = "", only: str = "") -> None:
    """Write a line of the log for each socket.

    Args:
        sockets: those that listen.
        node: the id of the process that accepts the connections; empty if there are several.
        only: the one path that is served; empty for all.
    """
    for sock in sockets:
        host, port, *_ = sock.getsockname()
        name = f"[{host}]" if ":" in host else host
        events.LISTENING.log(url=f"http://{name}:{port}", port=port, node=node, only=only)


class Shutdown:
    """The steps of the shutdown, in their order. State: none of its own."""

    def __init__(self, app: web.Application, server: web.Server, listeners: Listeners) -> None:
        """`server` has the connections that `listeners` accept."""
        self._hub = app[HUB]
        self._drain = app[DRAIN]
        self._timeout = app[SETTINGS].shutdown_timeout
        self._server = server
        self._listeners = listeners

    def announce(self) -> None:
        """Report this process as not ready; everything else goes on."""
        self._drain.announce()

    async def close(self) -> int:
        """Accept the connections in the backlogs, then close the listening sockets.

        Returns:
            The number of clients.
        """
        await self._listeners.drain(ACCEPT_BACKLOG)
        return len(self._hub.clients)

    async def hand_over(self) -> None:
        """Stop accepting connections, while another process accepts from the same sockets.

        Return when new connections have sent their first request, after FIRST_REQUEST seconds at
        most. So their handshakes are accepted, and not refused because of the shutdown.
        """
        self._drain.announce()
        self._listeners.close_all()
        loop = asyncio.get_running_loop()
        end = loop.time() + FIRST_REQUEST
        while late_heads([self._server], loop.time()) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        await asyncio.sleep(_LOOK)

    async def dismiss(self, seconds: float, clients: int = 0) -> None:
        """Drain the clients, and return when every connection has ended.

        Args:
            seconds: after this time, the remaining connections are cut.
            clients: the number of clients that all workers drain at the same time; 0 for those of
                this process alone.
        """
        hub = self._hub
        events.SHUTTING_DOWN.log(clients=len(hub.clients))
        self._drain.begin(clients)
        asyncio.get_running_loop().call_later(HTTP_IDLE, close_idle, self._server)
        try:
            async with asyncio.timeout(seconds):
                await self._listeners.left()
        except TimeoutError:
            events.CUTTING.log(clients=len(hub.clients), seconds=self._timeout)
            for client in list(hub.clients):
                client.abort(GOING_AWAY.reason)
            for transport in http_transports([self._server]):
                transport.abort()


async def shut_down(shutdown: Shutdown, settings: Settings) -> None:
    """Shut a single process down; return when every connection has ended."""
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.shutdown_timeout
    shutdown.announce()
    if settings.drain_delay:
        events.DELAYING.log(seconds=settings.drain_delay)
        await asyncio.sleep(settings.drain_delay)
    await shutdown.close()
    await shutdown.dismiss(end - loop.time())
