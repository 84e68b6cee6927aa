"""The server's composition root: settings, application, lifetime and signals.

Run it with `python server.py`; every setting comes from the environment (README.md has the table).
"""

import asyncio
import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from handlers.answers import close_in_shutdown, errors_as_json
from handlers.keys import DISPATCHER, DRAIN, HUB, READINESS, SERVICE, SETTINGS, STARTED
from handlers.origins import check_sender
from handlers.routes import add_routes
from handlers.sockets import (
    accept,
    discard,
    listen,
    progress,
    raise_descriptors,
    reserve,
    stop_accepting,
)
from handlers.takeover import close_idle
from hub.access import Access
from hub.brokers.memory import LocalBroker
from hub.delivery.keepalive import SLICES, Keepalive
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.errors import GOING_AWAY, SettingError
from hub.event_log import EventLog, RateLimit
from hub.hub import Hub
from hub.ids import Ids
from hub.readiness import Readiness
from hub.redis.broker import RedisBroker
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.supervisor import Supervisor
from hub.service import Service
from hub.settings import Settings, read_settings
from hub.unread import Unread

log = logging.getLogger("server")

# Seconds that an HTTP connection may idle, or trickle its headers. More than proxies keep theirs
# (nginx: 60), so that none is closed under a request.
HTTP_KEEPALIVE: Final = 75.0
# Seconds for REST requests in flight, after the clients have left: a publish may wait as long for
# a Redis of which nothing is heard (hub/redis/supervisor.py).
HTTP_SHUTDOWN: Final = 5.0
# Seconds to read on, so that an early answer is read, where a body is not wanted any more.
HTTP_LINGER: Final = 2.0
# Seconds for the connections in the backlog to be accepted, when the listeners are to close.
ACCEPT_BACKLOG: Final = 1.0
# Seconds that an HTTP connection may idle once the listeners are closed: requests are on their way.
HTTP_IDLE: Final = 1.0
# Seconds between two warnings of one kind that clients could cause by the thousand.
WARN_EVERY: Final = 60.0


def build_app(settings: Settings) -> web.Application:
    """The application with all that it serves; it needs a running loop."""
    loop = asyncio.get_running_loop()
    app = web.Application(
        middlewares=[close_in_shutdown, errors_as_json, check_sender],
        client_max_size=settings.max_message_bytes,
    )
    new_epoch = partial(secrets.token_hex, 8)
    ids = Ids(time.time_ns, secrets.token_hex(3))
    if settings.redis_addr is None:
        local = LocalBroker(loop.time, settings.rules(), new_epoch, settings.history_total_bytes)
        hub = Hub(settings, local, ids, loop.call_soon, loop.time, EventLog())
    else:
        broker = RedisBroker(
            Keys(settings.redis_prefix, settings.redis_addr.db),
            secrets.token_bytes(8),
            HistoryCache(settings.rules(), new_epoch, loop.time, settings.history_total_bytes),
            strict=settings.redis_fail_mode == "strict",
        )
        hub = Hub(settings, broker, ids, loop.call_soon, loop.time, EventLog())
        supervisor = Supervisor(broker, settings.redis_addr, hub.clients)
        app.cleanup_ctx.append(lambda _: supervised(supervisor))
    app[SETTINGS] = settings
    app[HUB] = hub
    app[DRAIN] = Drain(hub)
    app[READINESS] = Readiness(hub, app[DRAIN], settings)
    app[SERVICE] = Service(hub, app[DRAIN], Access())
    app[DISPATCHER] = Dispatcher(app[SERVICE], app[DRAIN], settings)
    app[STARTED] = loop.time()
    add_routes(app)
    return app


async def start(
    app: web.Application, sockets: list[socket.socket]
) -> tuple[web.AppRunner, list[asyncio.Server]]:
    """Serve the application on the sockets, until the servers are closed and the runner is."""
    # A misspelt argument is no error here: aiohttp drops them all. tests/test_server.py looks.
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=HTTP_KEEPALIVE,
        tcp_keepalive=False,  # every wait for a peer has a bound of its own
        lingering_time=HTTP_LINGER,
        auto_decompress=False,  # an encoded body is refused, not blown up
        shutdown_timeout=HTTP_SHUTDOWN,
    )
    await runner.setup()
    assert runner.server is not None
    servers = await accept(runner.server, sockets)
    for sock in sockets:
        host, port, *_ = sock.getsockname()
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    return runner, servers


async def supervised(supervisor: Supervisor) -> AsyncIterator[None]:
    """Keep the broker connected while the application runs, from when it knows where it stands."""
    task = asyncio.create_task(supervisor.run())
    await supervisor.settled.wait()
    yield
    task.cancel()
    await asyncio.wait([task])


async def sweep(app: web.Application, server: web.Server) -> None:
    """Turn the clock of whatever has to end or to be told by itself."""
    loop = asyncio.get_running_loop()
    settings, hub = app[SETTINGS], app[HUB]
    keepalive = Keepalive(settings, hub.clients, hub.fanout.send, hub.fail, progress, discard)
    unread = Unread(progress, discard, settings.write_timeout)
    for turn in count():
        await asyncio.sleep(1 / SLICES)
        now = loop.time()
        keepalive.sweep(now)
        hub.gaps.sweep()
        hub.broker.sweep()
        app[READINESS].sweep(now)
        if turn % SLICES == 0:
            unread.sweep(open_transports(server), now)


def open_transports(server: web.Server) -> list[asyncio.Transport]:
    """Those of the connections that are HTTP's."""
    return [it.transport for it in server.connections if it.transport is not None]


async def shut_down(
    app: web.Application, server: web.Server, listeners: list[asyncio.Server]
) -> None:
    """Let everybody leave in peace, and cut the clients that are left after SHUTDOWN_TIMEOUT."""
    settings, hub, drain = app[SETTINGS], app[HUB], app[DRAIN]
    # uvloop waits for a listener's connections only where that has begun before it is closed.
    left = asyncio.gather(*(listener.wait_closed() for listener in listeners))
    drain.announce()
    if settings.drain_delay:
        log.info("not ready any more, shutting down in %g s", settings.drain_delay)
    try:
        async with asyncio.timeout(settings.shutdown_timeout):
            await asyncio.sleep(settings.drain_delay)
            await stop_accepting(listeners, ACCEPT_BACKLOG)
            log.info("shutting down, clients to leave: %d", len(hub.clients))
            drain.begin()
            asyncio.get_running_loop().call_later(HTTP_IDLE, close_idle, server)
            await left
    except TimeoutError:
        timeout = settings.shutdown_timeout
        log.warning("cutting clients that did not leave in %g s: %d", timeout, len(hub.clients))
        for client in list(hub.clients):
            client.abort(GOING_AWAY.reason)
        for transport in open_transports(server):
            if transport.get_write_buffer_size():  # an answer that is read slowly, or not at all
                transport.abort()


async def serve(settings: Settings, sockets: list[socket.socket]) -> None:
    """Run until SIGTERM or SIGINT, then shut down; a second signal ends the process at once."""
    app = build_app(settings)
    stop = _stop_signal()
    runner, listeners = await start(app, sockets)
    assert runner.server is not None
    # What exists now lives as long as the process: no collection need look at it again. They are
    # rare from here on, for connections that come and go leave hardly any garbage in cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    try:
        async with asyncio.TaskGroup() as tasks:
            sweeper = tasks.create_task(sweep(app, runner.server))
            await stop.wait()
            await shut_down(app, runner.server, listeners)
            sweeper.cancel()
    finally:
        for listener in listeners:
            listener.close()
        await runner.cleanup()
    log.info("stopped")


def _stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            # Not the system's default action: as process 1 of a container it would be ignored.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


class _ClientsFaults(logging.Filter):
    """Keeps malformed HTTP out of the log: it is answered by 400, and is no fault of the server."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


class _Seldom(logging.Filter):
    """Keeps a warning that clients can cause from filling the log. State: when each came last."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._came: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        if record.created < self._came.get(record.msg, -math.inf) + self._seconds:
            return False
        self._came[record.msg] = record.created
        return True


def fit(settings: Settings, descriptors: int) -> Settings:
    """The settings with a MAX_CONNECTIONS for which there are descriptors.

    Raises:
        SettingError: more was asked for.
    """
    most = descriptors - reserve(descriptors)
    if settings.max_connections > most:
        allowed = f"at most {most} are allowed with {descriptors} file descriptors (ulimit -n)"
        raise SettingError("MAX_CONNECTIONS", str(settings.max_connections), allowed)
    return replace(settings, max_connections=settings.max_connections or most)


def main() -> None:
    """Read the settings and serve; a setting or address that cannot be used is one line."""
    try:
        settings = read_settings(os.environ)
        _configure_logs(settings.log_level)
        soft, descriptors = raise_descriptors()
        settings = fit(settings, descriptors)
    except SettingError as error:
        sys.exit(str(error))
    try:
        sockets = listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        sys.exit(f"HOST={settings.host!r} PORT={settings.port}: cannot listen: {why}")
    log.info(
        "file descriptors: %d (the soft limit was %d), WebSockets and streams at most: %d",
        descriptors,
        soft,
        settings.max_connections,
    )
    uvloop.run(serve(settings, sockets))


def _configure_logs(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit())
    logging.getLogger("aiohttp.server").addFilter(_ClientsFaults())
    for name in ("handlers.answers", "handlers.sockets"):
        logging.getLogger(name).addFilter(_Seldom(WARN_EVERY))


if __name__ == "__main__":
    main()
