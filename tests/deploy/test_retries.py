"""What each balancer of deploy/ does when a server fails, refuses or leaves."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from hub.settings import Settings
from tests.support.balancers import Start, caddy, haproxy, nginx
from tests.support.behind import BEHIND, EVENT_SOURCE, publish, said, subscribed
from tests.support.patience import PATIENCE
from tests.support.redis import free_port
from tests.support.server import running
from tests.support.stub import failing


async def test_a_server_that_refuses_connections_is_skipped(start: Start, tmp_path: Path) -> None:
    async with (
        running(BEHIND) as server,
        start(tmp_path, [free_port(), server.port, free_port()]) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        for number in range(5):
            socket, stream = await subscribed(client, stack)
            await publish(client, number)
            assert (await said(socket))["message"]["payload"] == number
            assert (await stream.next())["message"]["payload"] == number


# Caddy tries the same server again while it has the fewest connections, so it does not try another
# one after a 503 that is no sign of a shutdown.
@pytest.mark.parametrize(
    ("start", "cuts"),
    [
        (nginx, False),
        (haproxy, False),
        (nginx, True),
        (haproxy, True),
        (partial(caddy, aside="300ms"), True),
    ],
    ids=["nginx-503", "haproxy-503", "nginx-cut", "haproxy-cut", "caddy-cut"],
)
async def test_a_failed_request_is_repeated_elsewhere_if_that_is_safe(
    start: Start, tmp_path: Path, cuts: bool
) -> None:
    """The server that fails has the fewest connections, so it is asked first."""
    key = {"Idempotency-Key": "k"}
    async with (
        running(BEHIND) as server,
        failing(cuts=cuts) as stub,
        start(tmp_path, [server.port, stub.port]) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        await subscribed(client, stack)

        async def post(path: str, headers: dict[str, str]) -> int:
            body = {"topic": "t", "payload": 1, "name": f"{len(stub.requests)}"}
            try:
                async with client.post(path, json=body, headers=headers) as answer:
                    return answer.status
            except aiohttp.ServerDisconnectedError:  # HAProxy passes on an end, too
                return 502

        async with asyncio.timeout(PATIENCE):
            for path in ("/ws", "/events", "/topics"):
                while ("GET", path) not in stub.requests:
                    await subscribed(client, stack)
                    async with client.get("/topics") as answer:
                        assert answer.status == 200
            while ("POST", "/publish") not in stub.requests:
                assert await post("/publish", key) == 200
            # These may have been carried out, and are not repeated.
            for path, headers in (("/publish", {}), ("/topics", key), ("/publish/batch", key)):
                stub.requests.clear()
                while not stub.requests:
                    status = await post(path, headers)
                assert status == (502 if cuts else 503)
                assert stub.requests == [("POST", path)]


@pytest.mark.parametrize(
    ("start", "cuts", "status"),
    [
        (nginx, False, 200),
        (nginx, True, 200),
        (haproxy, False, 503),
        (haproxy, True, 502),
        (partial(caddy, aside="300ms"), True, 200),
    ],
    ids=["nginx-503", "nginx-cut", "haproxy-503", "haproxy-cut", "caddy-cut"],
)
async def test_haproxy_alone_does_not_repeat_a_large_publish(
    start: Start, tmp_path: Path, cuts: bool, status: int
) -> None:
    """It has a key, and the largest body."""
    body = json.dumps({"topic": "t", "payload": ""}).encode()
    body = body.replace(b'""', b'"' + b"x" * (Settings().max_message_bytes - len(body)) + b'"')
    async with (
        running(BEHIND) as server,
        failing(cuts=cuts) as stub,
        start(tmp_path, [server.port, stub.port]) as balancer,
        balancer.session() as subscriber,
        AsyncExitStack() as stack,
    ):
        await subscribed(subscriber, stack)
        last = 0
        async with asyncio.timeout(PATIENCE):
            while ("POST", "/publish") not in stub.requests:
                # On a connection that was used before, HAProxy passes on the end.
                async with (
                    balancer.session() as client,
                    client.post("/publish", data=body, headers={"Idempotency-Key": "k"}) as answer,
                ):
                    last = answer.status
        assert last == status


@pytest.mark.parametrize(
    ("start", "repeated"), [(nginx, False), (haproxy, True)], ids=["nginx", "haproxy"]
)
async def test_clients_repeat_what_haproxy_cannot_over_http_2(
    start: Start, tmp_path: Path, repeated: bool
) -> None:
    """curl repeats a publish without a key after REFUSED_STREAM, but not after a 502."""
    async with (
        running(BEHIND) as server,
        failing(cuts=True) as stub,
        start(tmp_path, [server.port, stub.port]) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        await subscribed(client, stack)
        while not (sent := stub.requests.count(("POST", "/publish"))):
            curl = await asyncio.create_subprocess_exec(
                *("curl", "--http2", "-s", "-m", str(PATIENCE), "--cacert"),
                *(str(balancer.certificate), "-o", "/dev/null"),
                *("-d", '{"topic":"t","payload":1}', f"{balancer.url}/publish"),
            )
            await curl.communicate()
        assert (sent > 1) == repeated


async def test_a_server_that_shuts_down_is_skipped(start: Start, tmp_path: Path) -> None:
    """It answers 503 on connections that the balancer keeps."""
    async with (
        running(BEHIND) as leaving,
        running(BEHIND) as staying,
        start(tmp_path, [leaving.port, staying.port]) as balancer,
        balancer.session() as client,
        AsyncExitStack() as stack,
    ):
        for _ in range(10):
            async with client.get("/stats") as answer:
                assert answer.status == 200
        assert leaving.requests
        leaving.drain.begin()
        for _ in range(5):
            await subscribed(client, stack)
        assert len(staying.hub.clients) == 10


async def test_an_event_source_comes_back_when_no_server_was_there(
    start: Start, tmp_path: Path
) -> None:
    async with start(tmp_path, [free_port()]) as balancer, balancer.session() as client:
        path = "/events?topic=t"
        stream, *others = await asyncio.gather(
            client.get(path, headers=EVENT_SOURCE), client.get(path), client.get("/stats")
        )
        assert stream.status == 200
        assert stream.content_type == "text/event-stream"
        assert stream.headers["Access-Control-Allow-Origin"] == "*"
        assert b"data" not in await stream.read()
        assert {answer.status for answer in others} <= {502, 503}


async def test_full_servers_still_answer_requests(start: Start, tmp_path: Path) -> None:
    """Their 503 is for new connections alone, and the balancer does not put them aside."""
    full = replace(BEHIND, max_connections=1)
    async with (
        running(full) as one,
        running(full) as two,
        start(tmp_path, [one.port, two.port]) as balancer,
        balancer.session() as client,
        client.ws_connect("/ws"),
        client.ws_connect("/ws"),
    ):
        for _ in range(2):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/ws")
            assert refused.value.status == 503
            for _ in range(10):
                async with client.get("/stats") as answer:
                    assert answer.status == 200
