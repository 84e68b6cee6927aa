"""Build the application: all parts of a server, and their connections with each other.

`build_app` makes the parts of one process, and stores those that handlers need in the application.
`build_sweeper` makes its periodic work. Nothing here opens a socket or runs before the application
is started.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client.registry import Collector

from handlers.access_log import log_unanswered
from handlers.answers import close_in_shutdown, errors_as_json
from handlers.authentication import authenticate
from handlers.collector import ServerCollector, build_registry
from handlers.keys import (
    ANONYMOUS,
    AUTHENTICATOR,
    BODY_BUDGET,
    DISPATCHER,
    DRAIN,
    FIGURES,
    HUB,
    INFLOW_RATES,
    LAG,
    LIMITS,
    OBSERVER,
    READINESS,
    REGISTRY,
    SERVICE,
    SETTINGS,
    SHUTDOWN,
    STATUS,
)
from handlers.limits import limit_requests
from handlers.origins import check_sender
from handlers.routes import add_routes
from handlers.sockets import discard, http_transports, progress
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
from hub.http_sweep import HttpSweep
from hub.hub import Hub
from hub.ids import Ids
from hub.limits import InflowRates, RequestLimits
from hub.loop_lag import LoopLag
from hub.observer import Observer, Observers
from hub.readiness import Readiness
from hub.redis.broker import RedisBroker
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.supervisor import Supervisor
from hub.service import Service
from hub.sessions import Sessions
from hub.settings import Settings
from hub.status import Status
from hub.sweep import Sweeper


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

    async def own_figures() -> Collector:
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
    app[STATUS], app[FIGURES] = own_status, own_figures
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
        http=build_http_sweep(app[SETTINGS], app[OBSERVER], servers),
        progress=progress,
        discard=discard,
    )


def build_http_sweep(
    settings: Settings, observer: Observer, servers: Sequence[web.Server]
) -> HttpSweep:
    """Return the timeouts of HTTP connections; `servers`: those of aiohttp."""
    return HttpSweep(
        settings,
        observer,
        http_transports=partial(http_transports, servers),
        late_heads=partial(late_heads, servers),
        progress=progress,
        discard=discard,
    )
