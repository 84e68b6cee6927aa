"""Run the server: read the settings, listen, build all parts, serve until a signal, shut down.

Start it with `python server.py`. docs/configuration.md has the settings. `python server.py --help`
lists other commands (`cli/`).
"""

import os
import sys

if __name__ == "__main__":
    # Before the other imports, which take half a second and which only a server needs.
    from cli.interrupts import end_at_once

    end_at_once()
    from cli.commands import run

    outcome = run(sys.argv[1:], os.environ)
    if isinstance(outcome, int):
        sys.exit(outcome)
    TO_SERVE = outcome

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import uvloop
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client.registry import Collector

from cli.commands import refuse
from handlers.access_log import log_unanswered
from handlers.answers import close_in_shutdown, errors_as_json
from handlers.authentication import authenticate
from handlers.collector import ServerCollector, build_registry
from handlers.families import to_plain
from handlers.keys import (
    ANONYMOUS,
    AUTHENTICATOR,
    BODY_BUDGET,
    DISPATCHER,
    DRAIN,
    HUB,
    INFLOW_RATES,
    LAG,
    LIMITS,
    OBSERVER,
    READ_METRICS,
    READ_STATUS,
    READINESS,
    REGISTRY,
    SERVICE,
    SETTINGS,
    SHUTDOWN,
)
from handlers.lifetime import Shutdown, log_listening, shut_down, start
from handlers.limits import limit_requests
from handlers.metrics import METRICS, group_metrics, metrics_app
from handlers.origins import check_sender
from handlers.process import (
    ignore_signals,
    reload_signal,
    stop_signal,
    tune_garbage_collection,
)
from handlers.routes import add_routes
from handlers.sockets import (
    METRICS_SHARE,
    OWN_SHARE,
    Listeners,
    ListenSockets,
    discard,
    fit_descriptors,
    http_transports,
    listen,
    progress,
    raise_descriptors,
    spread,
)
from handlers.takeover import late_heads
from hub.access import Access, Principal
from hub.auth.api_keys import ApiKeys
from hub.auth.authenticator import Authenticator
from hub.auth.tokens import Verifier
from hub.body_budget import BodyBudget
from hub.brokers.memory import MemoryBroker
from hub.counters import Counters
from hub.directory import Directory
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.errors import SettingError
from hub.event_log import EventLog
from hub.http_sweep import HttpSweep
from hub.hub import Hub
from hub.ids import Ids
from hub.limits import InflowRates, RequestLimits
from hub.logs import events
from hub.logs.setup import LimitedHandler, configure_logs
from hub.loop_lag import LoopLag
from hub.observer import Observer, Observers
from hub.readiness import Readiness
from hub.redis.broker import RedisBroker
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.supervisor import Supervisor
from hub.service import Service
from hub.sessions import Sessions
from hub.setting_values import AUTO
from hub.settings import Inspection, Settings, describe_access
from hub.status import Status
from hub.sweep import Sweeper
from hub.version import VERSION
from workers.cores import usable_cores
from workers.group import Group
from workers.parent import Parent
from workers.start import Start, take_start
from workers.worker import Worker

_Result = TypeVar("_Result")


def main(inspection: Inspection) -> int:
    """Serve with the inspected settings until a signal; return the exit code."""
    try:
        run_server(inspection)
    except SettingError as error:
        return refuse(error)
    return 0


def run_server(inspection: Inspection) -> None:
    """Listen and serve with the inspected settings until a signal.

    This process is a server of its own, a parent of workers, or one of these workers. It exits with
    one line if it cannot listen on the address.

    Raises:
        SettingError: there are too few file descriptors, or too many workers, for MAX_CONNECTIONS.
    """
    settings = inspection.settings
    start = take_start(os.environ)
    handler = configure_logs(
        settings.log_level,
        settings.log_format,
        access=settings.access_log,
        worker=start.number if start else 0,
    )
    soft, descriptors = raise_descriptors()
    if start is not None:
        settings = fit_descriptors(settings, descriptors, start.workers)
        own = settings.of_worker(start.number, start.workers)
        _run(serve_as_worker(own, start, handler))
        return
    workers = _number_of_workers(settings)
    settings = fit_descriptors(settings, descriptors, workers or 1)
    sockets = _listen("HOST", settings.host, "PORT", settings.port)
    metrics: ListenSockets = []
    if settings.metrics_port:
        metrics = _listen(
            "METRICS_HOST", settings.metrics_host, "METRICS_PORT", settings.metrics_port
        )
    for warning in inspection.warnings:
        events.SETTING.log(warning=warning)
    events.STARTING.log(
        version=VERSION,
        max_connections=settings.max_connections,
        descriptors=descriptors,
        soft_limit=soft,
        workers=workers or None,
    )
    _log_access(settings)
    if workers:
        parts = spread(sockets, workers)
        sys.exit(_run(serve_as_parent(settings, parts, metrics, handler)))
    _run(serve(settings, sockets, metrics, handler))


def _number_of_workers(settings: Settings) -> int:
    """Return the number of workers; 0 for a server that is one process.

    Raises:
        SettingError: MAX_CONNECTIONS is less than the number of workers.
    """
    if not settings.has_workers:
        return 0
    workers = usable_cores() if settings.workers == AUTO else settings.workers
    if 0 < settings.max_connections < workers:
        allowed = f"at least {workers} are needed, one for each worker (WORKERS)"
        raise SettingError("MAX_CONNECTIONS", str(settings.max_connections), allowed)
    return workers


def _run(serving: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine in a new event loop; log a fault in it and end the process."""
    try:
        return uvloop.run(serving)
    except Exception as fault:  # any exception is a fault here: the log must have it
        events.CRASHED.log(fault)
        sys.exit(1)


def _log_access(settings: Settings) -> None:
    """Log the rights of callers, and warn of settings that leave the server open to abuse."""
    events.ACCESS.log(rights=describe_access(settings))
    if settings.access_on and settings.allowed_origins.every:
        events.OPEN_ORIGINS.log()
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        events.OPEN_PROXIES.log()


def _listen(host_key: str, host: str, port_key: str, port: int) -> ListenSockets:
    """Open the listening sockets of a host and port; exit with one line if that is not possible.

    `host_key` and `port_key` are the names of the settings, for that line.
    """
    try:
        return listen(host, port)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        sys.exit(f"{host_key}={host!r} {port_key}={port}: cannot listen: {why}")


async def serve(
    settings: Settings, sockets: ListenSockets, metrics: ListenSockets, handler: LimitedHandler
) -> None:
    """Serve until SIGTERM or SIGINT, then shut down; a second signal ends the process at once.

    Args:
        settings: of the server.
        sockets: the listening sockets of PORT.
        metrics: those of METRICS_PORT, which are served until the end; empty if it is not set.
        handler: of the log.
    """
    app = build_app(settings)
    stop = stop_signal()
    own = metrics_app(settings, app[DRAIN], app[OBSERVER], app[READ_METRICS])
    async with (
        _open(app, sockets) as (server, listeners),
        _open(own, metrics, share=METRICS_SHARE, only=METRICS) as (metrics_server, _),
        _background(build_sweeper(app, [server, metrics_server]).run(), handler.run()),
    ):
        tune_garbage_collection()
        log_listening(sockets, node=app[HUB].node)
        log_listening(metrics, node=app[HUB].node, only=METRICS)
        await stop.wait()
        await shut_down(Shutdown(app, server, listeners), settings)
    events.STOPPED.log()


async def serve_as_worker(settings: Settings, start: Start, handler: LimitedHandler) -> None:
    """Serve until the parent orders the end, or has ended itself.

    Args:
        settings: of this worker.
        start: the number, the channel and the sockets that the parent has given.
        handler: of the log.
    """
    ignore_signals()
    app = build_app(settings)
    worker = Worker(start, app[READINESS].status, partial(to_plain, app[REGISTRY]))
    app[READ_STATUS] = worker.status
    read_metrics: Callable[[], Awaitable[Collector]] = partial(group_metrics, worker.metrics)
    app[READ_METRICS] = read_metrics
    async with (
        _open(app, []) as (server, listeners),
        _background(build_sweeper(app, [server]).run(), handler.run()),
    ):
        tune_garbage_collection()
        shutdown = Shutdown(app, server, listeners)
        await worker.run(app[HUB].node, listeners, shutdown, settings.shutdown_timeout)


async def serve_as_parent(
    settings: Settings,
    parts: list[ListenSockets],
    metrics: ListenSockets,
    handler: LimitedHandler,
) -> int:
    """Run workers until SIGTERM or SIGINT; a second signal ends all processes at once.

    Args:
        settings: of the server.
        parts: the listening sockets of PORT, in a part for each worker.
        metrics: those of METRICS_PORT; empty if it is not set.
        handler: of the log.

    Returns:
        The exit code.
    """
    group = Group(len(parts))
    parent = Parent(
        group,
        [sys.executable, *sys.orig_argv[1:]],
        parts,
        drain_delay=settings.drain_delay,
        shutdown_timeout=settings.shutdown_timeout,
    )
    stop, reload = stop_signal(parent.kill), reload_signal()
    observer = Observer()
    own = metrics_app(settings, group, observer, partial(group_metrics, group.metrics))

    def started() -> None:
        log_listening(parts[0])
        log_listening(metrics, only=METRICS)

    async with _open(own, metrics, share=METRICS_SHARE, only=METRICS) as (server, _):
        http = _http_sweep(settings, observer, [server])
        async with _background(http.run(), handler.run()):
            return await parent.run(stop, reload, started)


@asynccontextmanager
async def _open(
    app: web.Application, sockets: ListenSockets, *, share: int = OWN_SHARE, only: str = ""
) -> AsyncIterator[tuple[web.Server, Listeners]]:
    """Serve an application for the time of the block; the arguments are those of `start`.

    At the end, close the sockets, then the connections.
    """
    runner, listeners = await start(app, sockets, share=share, only=only)
    assert runner.server is not None
    try:
        yield runner.server, listeners
    finally:
        listeners.close_all()
        await runner.cleanup()


@asynccontextmanager
async def _background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines until the end of the block; a fault in one of them ends the block."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(it) for it in coroutines]
        yield
        for task in running:
            task.cancel()


# --- Building -------------------------------------------------------------------------------------


def build_app(settings: Settings) -> web.Application:
    """Build all parts of one process, and return the application that holds them.

    It needs a running event loop. The parts that run in the background, such as the connection to
    Redis, start and end with the application.
    """
    loop = asyncio.get_running_loop()
    app = web.Application(
        middlewares=_middlewares(settings), client_max_size=settings.max_message_bytes
    )
    counters = Counters()
    observer = Observers(EventLog(loop.time), counters)
    hub = _build_hub(app, settings, observer)
    drain = Drain(hub)
    access, authenticator = Access(), None
    if settings.access_on:
        access = Access(Principal(settings.anonymous_rights()))
        app[AUTHENTICATOR] = authenticator = _build_authenticator(app, settings)
    sessions = Sessions(hub, authenticator, settings.auth_timeout, time.time)
    started = loop.time()
    lag = LoopLag()
    service = Service(hub, drain, access, sessions, Directory(hub, started, lag))
    dispatcher = Dispatcher(service, drain, settings)
    readiness = Readiness(hub, drain, settings, started)
    registry = build_registry(ServerCollector(settings, hub, dispatcher, drain, counters))

    async def own_status() -> Status:
        return readiness.status()

    async def own_metrics() -> Collector:
        return registry

    app[SETTINGS] = settings
    app[HUB] = hub
    app[OBSERVER] = observer
    app[DRAIN] = app[SHUTDOWN] = drain
    app[ANONYMOUS] = access.anonymous
    app[SERVICE] = service
    app[DISPATCHER] = dispatcher
    app[LIMITS] = RequestLimits(settings, hub.connections, observer)
    app[INFLOW_RATES] = InflowRates.of(settings)
    app[BODY_BUDGET] = BodyBudget()
    app[LAG] = lag
    app[READINESS] = readiness
    app[REGISTRY] = registry
    app[READ_STATUS], app[READ_METRICS] = own_status, own_metrics
    add_routes(app)
    return app


def _middlewares(settings: Settings) -> list[Middleware]:
    """Return the middlewares that the settings need, the outermost first."""
    middlewares: list[Middleware] = [close_in_shutdown, errors_as_json, check_sender]
    if settings.access_log:
        middlewares.insert(0, log_unanswered)
    if settings.access_on:
        middlewares.append(authenticate)
    if settings.request_rate:
        middlewares.append(limit_requests)
    return middlewares


def _build_hub(app: web.Application, settings: Settings, observer: Observer) -> Hub:
    """Build the hub with its broker, which is connected to Redis while the application runs."""
    loop = asyncio.get_running_loop()
    new_epoch = partial(secrets.token_hex, 8)
    run = secrets.token_bytes(8)
    make_hub = partial(
        Hub,
        settings,
        node=run.hex(),
        ids=Ids(time.time_ns, secrets.token_hex(3)),
        call_soon=loop.call_soon,
        clock=loop.time,
        timer=time.perf_counter,
        send=os.write,
        observer=observer,
    )
    rules, total_bytes = settings.rules(), settings.history_total_bytes
    if settings.redis_addr is None:
        return make_hub(MemoryBroker(loop.time, rules, new_epoch, total_bytes))
    broker = RedisBroker(
        Keys(settings.redis_prefix, settings.redis_addr.db),
        run,
        HistoryCache(rules, new_epoch, loop.time, total_bytes),
        strict=settings.redis_fail_mode == "strict",
    )
    hub = make_hub(broker)
    supervisor = Supervisor(broker, settings.redis_addr, hub.clients)
    app.cleanup_ctx.append(lambda _: _connected(supervisor))
    return hub


async def _connected(supervisor: Supervisor) -> AsyncIterator[None]:
    """Keep the broker connected to Redis while the application runs.

    The application starts when the first attempt to connect has succeeded or failed.
    """
    task = asyncio.create_task(supervisor.run())
    await supervisor.settled.wait()
    yield
    task.cancel()
    await asyncio.wait([task])


def _build_authenticator(app: web.Application, settings: Settings) -> Authenticator:
    """Build the authenticator; a key set, if any, is kept fresh while the application runs."""
    keys = ApiKeys(settings.api_keys)
    own = (*settings.jwt_secret, *settings.jwt_public_key)
    if not settings.jwt_jwks_url:
        return Authenticator(keys, Verifier(own, settings.token_rules()), time.time)
    # Imported here, because cryptography takes 8 MB of memory.
    from handlers.jwks import KeySetClient
    from hub.auth.jwks import KeySet

    client = KeySetClient(settings.jwt_jwks_url)
    key_set = KeySet(client.fetch, asyncio.get_running_loop().time)
    verifier = Verifier(own, settings.token_rules(), key_set.current)

    async def fetched(_: web.Application) -> AsyncIterator[None]:
        async with client.keep_fresh(key_set):
            yield

    app.cleanup_ctx.append(fetched)
    return Authenticator(keys, verifier, time.time, key_set.refresh_for_unknown)


def build_sweeper(app: web.Application, servers: Sequence[web.Server]) -> Sweeper:
    """Return the periodic work of an application.

    `servers`: aiohttp's servers, whose connections have timeouts.
    """
    return Sweeper(
        app[SETTINGS],
        app[HUB],
        sessions=app[SERVICE].sessions,
        readiness=app[READINESS],
        limits=app[LIMITS],
        lag=app[LAG],
        http=_http_sweep(app[SETTINGS], app[OBSERVER], servers),
        progress=progress,
        discard=discard,
    )


def _http_sweep(settings: Settings, observer: Observer, servers: Sequence[web.Server]) -> HttpSweep:
    """Return the timeouts of HTTP connections; `servers`: those of aiohttp."""
    return HttpSweep(
        settings,
        observer,
        http_transports=partial(http_transports, servers),
        late_heads=partial(late_heads, servers),
        progress=progress,
        discard=discard,
    )


if __name__ == "__main__":
    sys.exit(main(TO_SERVE))
