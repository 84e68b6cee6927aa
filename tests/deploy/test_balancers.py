"""What each balancer of deploy/ does for clients, in front of real servers."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from handlers.takeover import MAX_TARGET_BYTES
from hub.auth.tokens import MAX_TOKEN_BYTES
from hub.settings import Settings
from tests.support.balancers import NAME, TIMEOUT, Balancer, Start, caddy, haproxy, nginx
from tests.support.behind import BEHIND, publish, said, subscribed
from tests.support.eventually import eventually
from tests.support.frames import TEXT, client_frame
from tests.support.patience import PATIENCE
from tests.support.process import server_process
from tests.support.raw import HANDSHAKE
from tests.support.redis import free_port
from tests.support.server import Running, running
from tests.support.tokens import settings

MB = 1_048_576


@asynccontextmanager
async def behind(
    start: Start, folder: Path, wanted: Settings = BEHIND
) -> AsyncIterator[tuple[Running, Balancer, aiohttp.ClientSession]]:
    """Run one server behind a balancer, and yield a session of a client, too."""
    async with (
        running(wanted) as server,
        start(folder, [server.port]) as balancer,
        balancer.session() as client,
    ):
        yield server, balancer, client


@pytest.mark.parametrize("start", [nginx, haproxy])
async def test_it_starts_without_a_warning(start: Start, tmp_path: Path) -> None:
    async with running(BEHIND) as server, start(tmp_path, [server.port]):
        logs = "".join(file.read_text() for file in tmp_path.glob("*.*"))  # noqa: ASYNC240
        assert re.search(r"(?i)\[?(warn|alert|emerg)", logs) is None, logs


async def test_haproxy_does_not_serve_as_root(tmp_path: Path) -> None:
    async with behind(haproxy, tmp_path) as (_, balancer, client):
        async with client.get("/live") as answer:  # then the worker has become what it stays
            assert answer.status == 200
        master = balancer.process.pid
        (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()  # noqa: ASYNC240
        status = Path(f"/proc/{worker}/status").read_text()  # noqa: ASYNC240
        ids = re.findall(r"(?m)^[UG]id:\t(.*)$", status)
        assert len(ids) == 2
        assert "0" not in " ".join(ids).split()


async def test_events_arrive_at_once(start: Start, tmp_path: Path) -> None:
    """Each event is read before the next is published: one in a buffer would not arrive."""
    async with behind(start, tmp_path) as (_, _, client), AsyncExitStack() as stack:
        socket, stream = await subscribed(client, stack)
        for number in range(5):
            await publish(client, number)
            assert (await said(socket))["message"]["payload"] == number
            assert (await stream.next())["message"]["payload"] == number


async def test_events_arrive_at_once_over_http_2(start: Start, tmp_path: Path) -> None:
    async with behind(start, tmp_path) as (server, balancer, client):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "--http2", "-isN", "--cacert", str(balancer.certificate)),
            *("-H", "Accept: text/event-stream", f"{balancer.url}/events?topic=t"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert curl.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                assert await curl.stdout.readline() == b"HTTP/2 200 \r\n"
                await curl.stdout.readuntil(b'"status":"ok"')
                for number in range(5):
                    await publish(client, number)
                    await curl.stdout.readuntil(b'"payload":%d' % number)
        finally:
            curl.kill()
            await curl.communicate()
        await eventually(lambda: not server.hub.clients)


async def test_a_client_that_leaves_is_gone_at_the_server(start: Start, tmp_path: Path) -> None:
    """HAProxy ends the stream of a client that has left when there is something to send."""
    async with behind(start, tmp_path) as (server, _, client), AsyncExitStack() as stack:
        await subscribed(client, stack)
        assert len(server.hub.clients) == 2
        await client.close()

        def gone() -> bool:
            if server.hub.topic_count:
                server.hub.publish("t", None, 1, lambda _: None)
            return not server.hub.clients

        await eventually(gone)


@pytest.mark.parametrize("start", [nginx, haproxy])
async def test_the_server_notices_a_client_that_reads_nothing(start: Start, tmp_path: Path) -> None:
    """Only few bytes hide in the buffers of the balancer; without limits it would be 5 MB."""
    async with running(BEHIND) as server, start(tmp_path, [server.port]) as balancer:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", balancer.port, ssl=balancer.tls, server_hostname=NAME, limit=1_000
        )
        writer.write(HANDSHAKE + client_frame(TEXT, b'{"type":"subscribe","topic":"t"}'))
        await reader.readuntil(b'"ack"')
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        published = 0
        while server.hub.topic_count:
            server.hub.publish("t", None, "x" * 10_000, lambda _: None)
            published += 10_000
            await asyncio.sleep(0.001)  # for the balancer to take it
            assert published < 4 * MB
        writer.transport.abort()


async def test_the_address_is_that_of_the_client(start: Start, tmp_path: Path) -> None:
    """Also where the client claims another one, and where the balancer shares its connections."""
    limited = replace(BEHIND, max_connections_per_ip=1)
    async with (
        behind(start, tmp_path, limited) as (server, balancer, _),
        balancer.session("127.0.0.2") as ann,
        balancer.session("127.0.0.3") as bob,
        ann.ws_connect("/ws"),
        bob.ws_connect("/ws", headers={"X-Forwarded-For": "127.0.0.4"}),
    ):
        assert sorted(it.address for it in server.hub.clients) == ["127.0.0.2", "127.0.0.3"]
        for claimed in ("127.0.0.4", "127.0.0.1", "203.0.113.7, 127.0.0.1", "unknown"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await ann.ws_connect("/ws", headers={"X-Forwarded-For": claimed})
            assert refused.value.status == 429


@pytest.mark.parametrize("works", [True, False], ids=["answered", "failed"])
async def test_no_log_has_a_token(start: Start, tmp_path: Path, works: bool) -> None:
    secret = "5ecret"
    headers = {
        "Authorization": f"Bearer {secret}",
        "X-API-Key": secret,
        "Sec-WebSocket-Protocol": f"bearer, {secret}",
    }
    async with (
        running(replace(settings(), trusted_proxies=BEHIND.trusted_proxies)) as server,
        start(tmp_path, [server.port if works else free_port()]) as balancer,
        balancer.session("127.0.0.2") as client,
    ):
        paths = ("/ws", "/events", "/stats")
        query = {"topic": "t", "access_token": secret}
        requests = [client.get(path, params=query, headers=headers) for path in paths]
        assert all(answer.status >= 400 for answer in await asyncio.gather(*requests))
        await eventually(
            lambda: all(
                re.search(rf"\b127\.0\.0\.2\b.*[ \"]{it}\b", balancer.log()) for it in paths
            )
        )
    written = [file.read_text() for file in tmp_path.glob("*.*")]  # noqa: ASYNC240
    assert [text for text in written if secret in text] == []


async def test_the_largest_batch_passes(start: Start, tmp_path: Path) -> None:
    """What is larger is answered by the server."""
    async with behind(start, tmp_path) as (_, _, client), AsyncExitStack() as stack:
        socket, _ = await subscribed(client, stack)
        batch = json.dumps({"items": [{"topic": "t", "payload": 1}]}).encode()
        for size, status in ((4 * MB, 200), (4 * MB + 1, 413)):
            async with client.post("/publish/batch", data=io.BytesIO(batch.ljust(size))) as answer:
                assert answer.status == status
                assert list(await answer.json()) == ["results" if status == 200 else "error"]
        assert (await said(socket))["message"]["payload"] == 1


@pytest.mark.parametrize(
    ("start", "size"),
    [(nginx, MAX_TARGET_BYTES), (haproxy, 14_000), (caddy, MAX_TARGET_BYTES)],
    ids=["nginx", "haproxy", "caddy"],
)
async def test_long_urls_and_the_longest_tokens_pass(
    start: Start, tmp_path: Path, size: int
) -> None:
    async with behind(start, tmp_path) as (_, _, client):
        path = "/stats?a="
        async with client.get(path + "x" * (size - len(path))) as answer:
            assert answer.status == 200
        headers = {"Authorization": f"Bearer {'x' * MAX_TOKEN_BYTES}"}
        async with client.get("/stats", headers=headers) as answer:
            assert answer.status == 200


async def test_http_is_redirected_to_https(start: Start, tmp_path: Path) -> None:
    async with start(tmp_path, [free_port()]) as balancer, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{balancer.redirect}/publish/a%20b?x=1&y"
        async with client.post(url, allow_redirects=False, headers={"Host": NAME}) as answer:
            assert answer.status == 308
            assert answer.headers["Location"] == f"https://{NAME}/publish/a%20b?x=1&y"


@pytest.mark.parametrize("start", [nginx, haproxy])
async def test_two_servers_share_2000_clients(start: Start, tmp_path: Path) -> None:
    """More than a worker of nginx takes by default, and evenly."""
    number, at_once = 2_000, asyncio.Semaphore(100)
    async with (
        server_process() as one,
        server_process() as two,
        start(tmp_path, [one.port, two.port]) as balancer,
        balancer.session() as client,
    ):

        async def connect() -> aiohttp.ClientWebSocketResponse:
            async with at_once:
                return await client.ws_connect("/ws")

        sockets = await asyncio.gather(*(connect() for _ in range(number)))
        counts = [await clients_of(server.port) for server in (one, two)]
        assert sum(counts) == number
        assert abs(counts[0] - counts[1]) <= number // 50
        for socket in sockets:
            await socket.send_json({"type": "ping"})
        for socket in sockets:
            assert (await said(socket))["type"] == "pong"


async def clients_of(port: int) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/stats") as it,
    ):
        return int((await it.json())["total_clients"])


def test_the_timeouts_are_longer_than_the_pings_are_apart() -> None:
    assert Settings().ping_interval + 2 < TIMEOUT


@pytest.mark.parametrize("start", [nginx, haproxy])  # Caddy has no such timeouts
async def test_quiet_connections_outlive_the_timeouts(start: Start, tmp_path: Path) -> None:
    """Pings keep a connection open on which nothing else is sent."""
    timeout = 5
    clock = asyncio.get_running_loop().time
    async with (
        server_process(PING_INTERVAL="0.5", IDLE_TIMEOUT=str(PATIENCE)) as server,
        start(tmp_path, [server.port], timeout=timeout) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        socket, stream = await subscribed(client, stack)
        event = asyncio.create_task(socket.receive(PATIENCE))  # it answers pings
        end = clock() + 1.5 * timeout
        while clock() < end:
            await stream.comments(1)
        await publish(client, 1)
        assert (await stream.next())["message"]["payload"] == 1
        assert json.loads((await event).data)["message"]["payload"] == 1


async def test_a_reload_cuts_nobody(start: Start, tmp_path: Path) -> None:
    """Events reach the connections of before, and new requests the new list of servers."""
    async with (
        running(BEHIND) as old,
        running(BEHIND) as new,
        start(tmp_path, [old.port]) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        pairs = [await subscribed(client, stack) for _ in range(5)]
        balancer.list_servers([new.port])
        balancer.reload()
        async with asyncio.timeout(PATIENCE):
            while True:
                async with (
                    balancer.session() as fresh,
                    fresh.post("/topics", data=b'{"name":"new"}'),
                ):
                    pass
                if "new" in new.topics():
                    break
        assert len(old.hub.clients) == 10
        old.hub.publish("t", None, 1, lambda _: None)
        for socket, stream in pairs:
            assert (await said(socket))["message"]["payload"] == 1
            assert (await stream.next())["message"]["payload"] == 1
            await socket.send_json({"type": "ping"})
            assert (await said(socket))["type"] == "pong"
