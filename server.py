"""The server's composition root: settings, application, lifetime and signals.

Run it with `python server.py`; every setting comes from the environment (README.md has the table).
"""

import asyncio
import errno
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from handlers.answers import errors_as_json
from handlers.keys import COMMANDS, DRAIN, HUB, SETTINGS, STARTED, TOPIC_LIST
from handlers.origins import check_sender
from handlers.routes import add_routes
from hub.commands import Commands
from hub.drain import Drain
from hub.errors import SettingError
from hub.event_log import EventLog, RateLimit
from hub.hub import Hub
from hub.keepalive import SLICES, Keepalive
from hub.local_broker import LocalBroker
from hub.redis_broker import RedisBroker
from hub.redis_listener import Listener
from hub.redis_scripts import Names
from hub.redis_tails import Tails
from hub.settings import Settings, read_settings
from hub.stamps import Stamps
from hub.topic_list import TopicList

log = logging.getLogger("server")

# Connections that may wait to be accepted: a storm of reconnects needs many.
BACKLOG: Final = 4096
# Bytes of kernel buffer for a client (SO_SNDBUF, which Linux doubles). Left to grow by itself it
# would hide 4 MB of backlog from the outbox's bounds.
SEND_BUFFER: Final = 131_072
# Seconds that an HTTP connection may idle, or trickle its headers. More than proxies keep theirs
# (nginx: 60), so that none is closed under a request.
HTTP_KEEPALIVE: Final = 75.0
# Seconds for REST requests in flight, after the clients have left: a publish may wait as long for
# a Redis of which nothing is heard (hub/redis_listener.py).
HTTP_SHUTDOWN: Final = 5.0
# Seconds to read on, so that an early answer is read, where a body is not wanted any more.
HTTP_LINGER: Final = 2.0
# Seconds beyond WRITE_TIMEOUT after which the kernel gives up a peer that takes nothing: for REST
# answers that nobody reads; of WebSocket clients the keepalive is rid by then.
TAKES_NOTHING: Final = 20.0


def build_app(settings: Settings) -> web.Application:
    """The application with all that it serves; it needs a running loop."""
    loop = asyncio.get_running_loop()
    app = web.Application(
        middlewares=[errors_as_json, check_sender], client_max_size=settings.max_message_bytes
    )
    new_epoch = partial(secrets.token_hex, 8)
    stamps = Stamps(time.time_ns, secrets.token_hex(3))
    if settings.redis_addr is None:
        local = LocalBroker(loop.time, settings.rules(), new_epoch, settings.history_total_bytes)
        hub = Hub(settings, local, stamps, loop.call_soon, EventLog())
    else:
        broker = RedisBroker(
            Names(settings.redis_prefix, settings.redis_addr.db),
            secrets.token_bytes(8),
            Tails(settings.rules(), new_epoch, loop.time, settings.history_total_bytes),
            strict=settings.redis_fail_mode == "strict",
        )
        hub = Hub(settings, broker, stamps, loop.call_soon, EventLog())
        listener = Listener(broker, settings.redis_addr, hub.clients)
        app.cleanup_ctx.append(lambda _: listening(listener))
    app[SETTINGS] = settings
    app[HUB] = hub
    app[TOPIC_LIST] = TopicList(hub)
    app[DRAIN] = Drain(hub)
    app[COMMANDS] = Commands(hub, app[DRAIN], settings)
    app[STARTED] = loop.time()
    add_routes(app)
    return app


def listen(settings: Settings) -> list[socket.socket]:
    """A listening socket for every address of HOST that this machine has.

    Raises:
        OSError: an address is taken, or HOST has none here.
        UnicodeError: HOST is no name of a host.
    """
    found = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    for family, _, _, _, address in found:
        try:
            sockets.append(_listener(family, address, settings.write_timeout + TAKES_NOTHING))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for sock in sockets:
                    sock.close()
                raise
            refused = error  # such as ::1 for localhost, in a container without IPv6
    if refused is not None and not sockets:
        raise refused
    return sockets


def _listener(family: int, address: Any, user_timeout: float) -> socket.socket:
    any_ipv6 = family == socket.AF_INET6 and address[0] == "::"
    sock = socket.create_server(
        address,
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=any_ipv6 and socket.has_dualstack_ipv6(),
    )
    # What is accepted inherits both.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1_000))
    return sock


async def start(app: web.Application, sockets: list[socket.socket]) -> web.AppRunner:
    """Serve the application on the sockets until the runner is cleaned up."""
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
    for sock in sockets:
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
    for host, port, *_ in runner.addresses:
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    return runner


async def listening(listener: Listener) -> AsyncIterator[None]:
    """Keep the broker connected while the application runs, from when it knows where it stands."""
    task = asyncio.create_task(listener.run())
    await listener.settled.wait()
    yield
    task.cancel()
    await asyncio.wait([task])


async def sweep(keepalive: Keepalive, hub: Hub) -> None:
    """Turn the clock of what waits for one, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1 / SLICES)
        keepalive.sweep(loop.time())
        hub.gaps.sweep()
        hub.broker.sweep()


async def let_go(hub: Hub, drain: Drain, timeout: float) -> None:
    """Let every client go in peace, and cut whoever is left after `timeout` seconds."""
    left = asyncio.Event()
    log.info("shutting down, clients to leave: %d", len(hub.clients))
    drain.begin(left.set)
    try:
        async with asyncio.timeout(timeout):
            await left.wait()
    except TimeoutError:
        log.warning("cutting clients that did not leave in %g s: %d", timeout, len(hub.clients))
        for client in list(hub.clients):
            client.abort()


async def serve(settings: Settings, sockets: list[socket.socket]) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once."""
    app = build_app(settings)
    stop = _stop_signal()
    runner = await start(app, sockets)
    hub = app[HUB]
    # What exists now lives as long as the process: no collection need look at it again. They are
    # rare from here on, for connections that come and go leave hardly any garbage in cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    try:
        async with asyncio.TaskGroup() as tasks:
            keepalive = Keepalive(settings, hub.clients, hub.fanout.send, hub.fail)
            sweeper = tasks.create_task(sweep(keepalive, hub))
            await stop.wait()
            await let_go(hub, app[DRAIN], settings.shutdown_timeout)
            sweeper.cancel()
    finally:
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


def main() -> None:
    """Read the settings and serve; a setting or address that cannot be used is one line."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit())
    logging.getLogger("aiohttp.server").addFilter(_ClientsFaults())
    try:
        sockets = listen(settings)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        sys.exit(f"HOST={settings.host!r} PORT={settings.port}: cannot listen: {why}")
    uvloop.run(serve(settings, sockets))


if __name__ == "__main__":
    main()
