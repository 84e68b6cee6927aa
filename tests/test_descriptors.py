"""Limits of file descriptors, and the reserve when clients use up the others."""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from hub.logs import events
from tests.support.patience import PATIENCE
from tests.support.process import ROOT, ServerProcess
from tests.support.raw import RawClient
from tests.support.redis import RedisServer, redis_server

HARD = 160
MOST = HARD - HARD // 2  # WebSockets and streams
# `server.py` with a soft limit that is below the hard one.
LIMITED = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({HARD // 2}, {HARD}))
runpy.run_path("server.py", run_name="__main__")
"""


@asynccontextmanager
async def limited_server(**settings: str) -> AsyncIterator[ServerProcess]:
    environ = {"PATH": "", "HOST": "127.0.0.1", "PORT": "0", **settings}
    server = ServerProcess(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LIMITED),
            cwd=ROOT,
            env=environ,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        found = await server.wait_for_log(r"listening on http://127\.0\.0\.1:(\d+)")
        server.port = int(found[1])
        yield server
    finally:
        if server.process.returncode is None:
            server.process.kill()
        await server.process.communicate()


async def status(port: int, path: str, **headers: str) -> int:
    """Send a request over a new connection, and return the status."""
    async with (
        aiohttp.ClientSession(headers={"Connection": "close", **headers}) as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        assert (answer.status == 503) == ("Retry-After" in answer.headers)
        return answer.status


async def test_the_soft_limit_is_raised_and_clients_leave_a_reserve() -> None:
    async with limited_server() as server:
        (starting,) = [line for line in server.log if "starting" in line]
        shown = f"max_connections={MOST} descriptors={HARD} soft_limit={HARD // 2}\n"
        assert starting.endswith(shown)
        clients = [await RawClient.connect(server.port) for _ in range(MOST)]
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        for _ in range(3):
            assert await status(server.port, "/ws", **upgrade) == 503
        assert await status(server.port, "/events?topic=t") == 503
        assert await status(server.port, "/stats") == 200
        assert await status(server.port, "/ready") == 200  # a full server still serves REST
        clients.pop().close()
        async with asyncio.timeout(PATIENCE):
            while await status(server.port, "/events?topic=t") == 503:
                pass
        for client in clients:
            client.close()
        server.terminate()
        assert await server.exit_code() == 0
        assert "".join(server.log).count(f"{events.FULL.text}: limit={MOST}") == 1
        assert "reason=FULL" not in "".join(server.log)  # not a line for each refusal, too


async def test_a_full_server_tells_an_event_source_to_reconnect() -> None:
    async with limited_server(MAX_CONNECTIONS="1") as server:
        only = await RawClient.connect(server.port)
        stream = await RawClient.dial(server.port)
        await stream.send(
            b"GET /events?topic=t HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n\r\n"
        )
        head = await stream.read_head()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: text/event-stream" in head
        body = await stream.read_to_end()
        assert body.startswith(b"retry: ")
        assert body.endswith(b"\n\n")
        only.close()
        stream.close()


async def test_more_connections_than_descriptors_stop_the_start_with_one_line() -> None:
    with pytest.raises(AssertionError, match="no line matches") as caught:
        async with limited_server(MAX_CONNECTIONS=str(MOST + 1)):
            pass
    assert str(caught.value).splitlines()[1:] == [
        f"MAX_CONNECTIONS='{MOST + 1}' is not valid: at most {MOST} are allowed with {HARD} file"
        " descriptors (ulimit -n)"
    ]


GET = b"GET /live HTTP/1.1\r\nHost: t\r\n\r\n"


async def live(client: RawClient) -> None:
    """Send one request, and check that it is answered."""
    await client.send(GET)
    assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
    await client.read_until(b"}")


async def test_idle_http_connections_leave_descriptors_for_others() -> None:
    async with limited_server() as server:
        websocket = await RawClient.connect(server.port)
        used, unfinished = [await RawClient.dial(server.port) for _ in range(2)]
        await unfinished.send(b"POST /publish HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")
        idle = []
        for number in range(3 * HARD):
            idle.append(await RawClient.dial(server.port))
            if number % 2:  # the others send no request
                await live(idle[-1])
            if number % 10 == 0:
                await live(used)
        assert await status(server.port, "/stats") == 200
        await live(idle[-1])
        await unfinished.send(b"{}")
        assert (await unfinished.read_head()).startswith(b"HTTP/1.1 400 ")
        await websocket.subscribe("t")
        assert await idle[0].read_to_end() == b""  # the longest idle one was closed
        for client in (websocket, used, unfinished, *idle):
            client.close()
        await server.wait_for_log("few file descriptors are left")
        server.terminate()
        assert await server.exit_code() == 0
        assert "out of file descriptors" not in "".join(server.log)


async def test_the_server_reconnects_to_redis_while_clients_use_all_descriptors() -> None:
    """Without a reserve for itself, a node could never reconnect to Redis."""
    with redis_server() as redis:
        assert isinstance(redis, RedisServer)
        async with limited_server(REDIS_ADDR=f"127.0.0.1:{redis.port}") as server:
            knocking = [await knock(server.port) for _ in range(2 * HARD)]
            await server.wait_for_log("out of file descriptors")
            redis.kill()
            await server.wait_for_log("Redis is out of reach")
            knocker = asyncio.create_task(keep_knocking(server.port))
            redis.start()
            await server.wait_for_log("joined the other servers")
            knocker.cancel()
            await asyncio.wait([knocker])
            for client in knocking:
                client.close()
            assert "".join(server.log).count("out of file descriptors") == 1


async def knock(port: int) -> RawClient:
    """Open a connection with a request whose body does not come, so that it is not idle."""
    client = await RawClient.dial(port)
    with suppress(ConnectionError):  # the server has closed it
        await client.send(b"POST /publish HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n")
    return client


async def keep_knocking(port: int) -> None:
    """Open connections until cancelled, and keep those that the server does not close."""
    kept: list[RawClient] = []
    try:
        while True:
            kept.append(await knock(port))
            if len(kept) > HARD:
                kept.pop(0).close()
    finally:
        for client in kept:
            client.close()


def test_this_process_has_enough_descriptors_for_these_tests() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4 * HARD
