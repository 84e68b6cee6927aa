"""Run the server: read the settings, build the application, serve until a signal, shut down.

Start it with `python server.py`. README.md has the table of settings. `python server.py --help`
lists other commands (`cli/`).
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

import uvloop
from aiohttp import web

from cli.commands import run
from handlers.access_log import log_unanswered
from handlers.answers import close_in_shutdown, errors_as_json
from handlers.authentication import authenticate
from handlers.collector import ServerCollector, build_registry
from handlers.keys import (
    AUTHENTICATOR,
    BODY_BUDGET,
    DISPATCHER,
    DRAIN,
    HUB,
    INFLOW_RATES,
    LAG,
    LIMITS,
    READINESS,
    REGISTRY,
    SERVICE,
    SETTINGS,
    STARTED,
)
from handlers.lifetime import shut_down, start
from handlers.limits import limit_requests
from handlers.metrics import METRICS, metrics_app
from handlers.origins import check_sender
from handlers.process import stop_signal, tune_garbage_collection
from handlers.routes import add_routes
from handlers.sockets import (
    METRICS_SHARE,
    ListenSockets,
    discard,
    fit_descriptors,
    http_transports,
    listen,
    progress,
    raise_descriptors,
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
from hub.event_log import EventLog
from hub.hub import Hub
from hub.ids import Ids
from hub.limits import InflowRates, RequestLimits
from hub.logs import events
from hub.logs.setup import LimitedHandler, configure_logs
from hub.loop_lag import LoopLag
from hub.observer import Observers
from hub.readiness import Readiness
from hub.redis.broker import RedisBroker
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.supervisor import Supervisor
from hub.service import Service
from hub.sessions import Sessions
from hub.settings import Inspection, Settings, describe_access
from hub.sweep import Sweeper
from hub.version import VERSION


def main() -> None:
    """Carry out the command of the command line; without one, serve."""
    sys.exit(run(sys.argv[1:], os.environ, run_server))


def run_server(inspection: Inspection) -> None:
    """Listen and serve with these settings until a signal.

    Exit with one line if the address cannot be used.

    Raises:
        SettingError: there are too few file descriptors for the settings.
    """
    settings = inspection.settings
    handler = configure_logs(settings.log_level, settings.log_format, access=settings.access_log)
    soft, descriptors = raise_descriptors()
    settings = fit_descriptors(settings, descriptors)
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
    )
    _log_access(settings)
    try:
        uvloop.run(serve(settings, sockets, metrics, handler))
    except Exception as fault:
        events.CRASHED.log(fault)
        sys.exit(1)


def _log_access(settings: Settings) -> None:
    """Log who may do what, and what of the settings is open to abuse."""
    events.ACCESS.log(rights=describe_access(settings))
    if settings.access_on and settings.allowed_origins.every:
        events.OPEN_ORIGINS.log()
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        events.OPEN_PROXIES.log()


def _listen(host_key: str, host: str, port_key: str, port: int) -> ListenSockets:
    """Return the listening sockets of two settings; exit with one line if that is not possible."""
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
        sockets: those of PORT.
        metrics: those of METRICS_PORT, if it is set, which are served until the end.
        handler: of the log.
    """
    app = build_app(settings)
    stop = stop_signal()
    runner, listeners = await start(app, sockets)
    own, own_listeners = await start(metrics_app(app), metrics, share=METRICS_SHARE, only=METRICS)
    assert runner.server is not None
    assert own.server is not None
    tune_garbage_collection()
    try:
        async with asyncio.TaskGroup() as tasks:
            sweeper = build_sweeper(app, [runner.server, own.server])
            background = [tasks.create_task(it) for it in (sweeper.run(), handler.run())]
            await stop.wait()
            await shut_down(app, runner.server, listeners)
            for task in background:
                task.cancel()
    finally:
        for listener in (*listeners, *own_listeners):
            listener.close()
        await own.cleanup()
        await runner.cleanup()
    events.STOPPED.log()


def build_app(settings: Settings) -> web.Application:
    """Build all parts and return the application that holds them; needs a running loop."""
    loop = asyncio.get_running_loop()
    middlewares = [close_in_shutdown, errors_as_json, check_sender]
    if settings.access_log:
        middlewares.insert(0, log_unanswered)
    if settings.access_on:
        middlewares.append(authenticate)
    if settings.request_rate:
        middlewares.append(limit_requests)
    app = web.Application(
        middlewares=middlewares,
        client_max_size=settings.max_message_bytes,
    )
    counters = Counters()
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
        observer=Observers(EventLog(loop.time), counters),
    )
    if settings.redis_addr is None:
        local = MemoryBroker(loop.time, settings.rules(), new_epoch, settings.history_total_bytes)
        hub = make_hub(local)
    else:
        broker = RedisBroker(
            Keys(settings.redis_prefix, settings.redis_addr.db),
            run,
            HistoryCache(settings.rules(), new_epoch, loop.time, settings.history_total_bytes),
            strict=settings.redis_fail_mode == "strict",
        )
        hub = make_hub(broker)
        supervisor = Supervisor(broker, settings.redis_addr, hub.clients)
        app.cleanup_ctx.append(lambda _: _connected(supervisor))
    app[SETTINGS] = settings
    app[HUB] = hub
    app[DRAIN] = Drain(hub)
    app[INFLOW_RATES] = InflowRates.of(settings)
    app[LIMITS] = RequestLimits(settings, hub.connections, hub.observer)
    app[READINESS] = Readiness(hub, app[DRAIN], settings)
    app[BODY_BUDGET] = BodyBudget()
    access, authenticator = Access(), None
    if settings.access_on:
        access = Access(Principal(settings.anonymous_rights()))
        app[AUTHENTICATOR] = authenticator = _build_authenticator(app, settings)
    sessions = Sessions(hub, authenticator, settings.auth_timeout, time.time)
    app[STARTED] = loop.time()
    app[LAG] = LoopLag()
    directory = Directory(hub, app[STARTED], app[LAG])
    app[SERVICE] = Service(hub, app[DRAIN], access, sessions, directory)
    app[DISPATCHER] = Dispatcher(app[SERVICE], app[DRAIN], settings)
    collector = ServerCollector(settings, hub, app[DISPATCHER], app[DRAIN], counters)
    app[REGISTRY] = build_registry(collector)
    add_routes(app)
    return app


def _build_authenticator(app: web.Application, settings: Settings) -> Authenticator:
    """Build what verifies tokens; a key set is fetched while the application runs."""
    keys = ApiKeys(settings.api_keys)
    own = (*settings.jwt_secret, *settings.jwt_public_key)
    if not settings.jwt_jwks_url:
        return Authenticator(keys, Verifier(own, settings.token_rules()), time.time)
    # Only here: cryptography takes 8 MB of memory.
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


async def _connected(supervisor: Supervisor) -> AsyncIterator[None]:
    """Keep the broker connected to Redis while the application runs.

    The application starts when the first attempt to connect has succeeded or failed.
    """
    task = asyncio.create_task(supervisor.run())
    await supervisor.settled.wait()
    yield
    task.cancel()
    await asyncio.wait([task])


def build_sweeper(app: web.Application, servers: Sequence[web.Server]) -> Sweeper:
    """Return the periodic work of the application and of aiohttp's servers."""
    return Sweeper(
        app[SETTINGS],
        app[HUB],
        sessions=app[SERVICE].sessions,
        readiness=app[READINESS],
        limits=app[LIMITS],
        lag=app[LAG],
        http_transports=partial(http_transports, servers),
        late_heads=partial(late_heads, servers),
        progress=progress,
        discard=discard,
    )


if __name__ == "__main__":
    main()
