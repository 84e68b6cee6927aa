"""The start and the shutdown of the HTTP server and its connections."""

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from handlers.access_log import AccessLog
from handlers.keys import DRAIN, HUB, SETTINGS
from handlers.sockets import (
    OWN_SHARE,
    ListenSockets,
    accept,
    http_transports,
    stop_accepting,
)
from handlers.takeover import (
    MAX_HEADER_BYTES,
    MAX_TARGET_BYTES,
    FirstRequest,
    close_idle,
    close_longest_idle,
)
from handlers.websocket import shortcut
from hub.errors import GOING_AWAY
from hub.logs import events
from hub.logs.events import ACCESS_LOGGER

# Seconds that an HTTP connection may idle between two requests. Longer than proxies keep theirs
# (nginx: 60), so that a request never meets a connection that is being closed.
HTTP_KEEPALIVE: Final = 75.0
# Seconds for requests to end whose connections were cut at the end of SHUTDOWN_TIMEOUT.
HTTP_SHUTDOWN: Final = 1.0
# Seconds to read on when a request is answered before its body has arrived. A connection closed
# at once would be reset, and the client might lose the answer.
HTTP_LINGER: Final = 2.0
# Seconds for the connections in the backlog to be accepted before the listeners are closed.
ACCEPT_BACKLOG: Final = 1.0
# Seconds that an HTTP connection may idle after the listeners are closed: a request may be on its
# way.
HTTP_IDLE: Final = 1.0


async def start(
    app: web.Application,
    sockets: ListenSockets,
    *,
    share: int = OWN_SHARE,
    only: str = "",
) -> tuple[web.AppRunner, list[asyncio.Server]]:
    """Serve the application on the sockets.

    Args:
        app: the application.
        sockets: those that listen.
        share: the fraction 1/share of the reserve of descriptors is not for these connections.
        only: the one path that is served; empty for all.

    Returns:
        The runner, and a server for each socket. The caller closes the servers and then cleans up
        the runner.
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
    # The access log needs the middleware that writes it.
    through_aiohttp = only or app[SETTINGS].access_log
    serve = partial(FirstRequest, server, None if through_aiohttp else shortcut(app))
    close = partial(close_longest_idle, server)
    servers = await accept(serve, close, sockets, share)
    for sock in sockets:
        host, port, *_ = sock.getsockname()
        name = f"[{host}]" if ":" in host else host
        url, node = f"http://{name}:{port}", app[HUB].node
        events.LISTENING.log(url=url, port=port, node=node, only=only)
    return runner, servers


async def shut_down(
    app: web.Application, server: web.Server, listeners: list[asyncio.Server]
) -> None:
    """Close the listeners, drain the clients, and return when every connection has ended.

    SHUTDOWN_TIMEOUT after the call, the connections that are left are cut.
    """
    settings, hub, drain = app[SETTINGS], app[HUB], app[DRAIN]
    # uvloop waits for a listener's connections only if wait_closed() is called before close().
    left = asyncio.gather(*(listener.wait_closed() for listener in listeners))
    drain.announce()
    if settings.drain_delay:
        events.DELAYING.log(seconds=settings.drain_delay)
    try:
        async with asyncio.timeout(settings.shutdown_timeout):
            await asyncio.sleep(settings.drain_delay)
            await stop_accepting(listeners, ACCEPT_BACKLOG)
            events.SHUTTING_DOWN.log(clients=len(hub.clients))
            drain.begin()
            asyncio.get_running_loop().call_later(HTTP_IDLE, close_idle, server)
            await left
    except TimeoutError:
        events.CUTTING.log(clients=len(hub.clients), seconds=settings.shutdown_timeout)
        for client in list(hub.clients):
            client.abort(GOING_AWAY.reason)
        for transport in http_transports([server]):  # a body or an answer that takes too long
            transport.abort()
