"""A server that fails: what a balancer must not pass on to clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Stub:
    """State: its port, and the method and path of each request except for probes."""

    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def failing(*, cuts: bool) -> AsyncIterator[Stub]:
    """Serve 503 for every request, or cut its connection without an answer; /ready is 200."""
    stub = Stub()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/ready":
            return web.Response()
        await request.read()
        stub.requests.append((request.method, request.path))
        if cuts:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"error": "stub"}, status=503)

    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.port = runner.addresses[0][1]
    try:
        yield stub
    finally:
        await runner.cleanup()
