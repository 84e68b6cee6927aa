"""The shutdown of the server process: messages to the clients, and its time limits."""

import asyncio
import signal
import socket

import aiohttp
import pytest

from hub.drain import MAX_SPREAD, SLICE, TOPICS
from hub.logs import events
from tests.support.frames import CLOSE, client_frame
from tests.support.node import Node
from tests.support.process import ServerProcess, server_process
from tests.support.raw import HANDSHAKE, RawClient, stalled_client
from tests.support.sse import Listener

READY = b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n"
STATS = b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n"


async def ask(client: RawClient, request: bytes) -> tuple[int, bytes]:
    """Send a request; return the status and the head of the answer, and drop its body."""
    await client.send(request)
    head = await client.read_head()
    await client.read_exactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return int(head.split()[1]), head


async def test_during_the_drain_delay_only_ready_is_refused() -> None:
    async with server_process(DRAIN_DELAY="1.5", SHUTDOWN_TIMEOUT="20") as server:
        kept = await RawClient.dial(server.port)
        assert (await ask(kept, READY))[0] == 200
        server.terminate()
        await server.wait_for_log("no longer ready.*seconds=1.5")
        status, head = await ask(kept, READY)
        assert (status, b"Connection: close" in head, b"Retry-After" in head) == (503, True, True)
        client = await RawClient.connect(server.port)
        await client.subscribe("t")
        late = await RawClient.dial(server.port)
        assert (await ask(late, STATS))[0] == 200
        told = await client.hear()
        assert list(told) == ["type", "message", "reason", "reconnect", "ts"]
        assert told["reason"] == "SHUTDOWN"
        assert told["reconnect"] == {"min_ms": 0, "max_ms": 2}
        assert await client.hear() == ("close", 1001, "going_away")
        await client.send(client_frame(CLOSE, b"\x03\xe9"))
        assert await server.exit_code() == 0
        for it in (kept, client, late):
            it.close()


async def test_open_connections_are_served_and_new_ones_are_refused() -> None:
    async with server_process(SHUTDOWN_TIMEOUT="20") as server:
        silent = await RawClient.connect(server.port)
        rest, upgrade, stream, idle = [await RawClient.dial(server.port) for _ in range(4)]
        for client in (rest, upgrade, stream, idle):
            assert (await ask(client, STATS))[0] == 200
        server.terminate()
        await server.wait_for_log("shutting down: clients=1")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        status, head = await ask(rest, STATS)
        assert (status, b"Connection: close" in head) == (200, True)
        assert (await ask(upgrade, HANDSHAKE))[0] == 503
        assert (await ask(stream, b"GET /events?topic=t HTTP/1.1\r\nHost: t\r\n\r\n"))[0] == 503
        for client in (rest, upgrade, stream, idle):
            assert await client.read_to_end() == b""
            client.close()
        # It has been given everything, and does not answer the Close.
        assert await server.exit_code() == 0
        assert "cutting" not in "".join(server.log)
        silent.close()


async def test_connections_in_the_backlog_are_accepted() -> None:
    """Connections that arrive while the process is stopped are served after the signal."""
    async with server_process(SHUTDOWN_TIMEOUT="20") as server:
        pause(server)
        waiting = [await RawClient.dial(server.port) for _ in range(50)]
        for client in waiting:
            await client.send(STATS)
        server.terminate()
        go_on(server)
        for client in waiting:
            assert b" 200 " in await client.read_head()
            client.close()
        assert await server.exit_code() == 0


def pause(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGSTOP)


def go_on(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGCONT)


async def test_an_unread_answer_is_cut_at_the_shutdown_timeout() -> None:
    settings = {"HISTORY_SIZE": "40", "HISTORY_BYTES": "10000000", "SHUTDOWN_TIMEOUT": "0.5"}
    async with server_process(**settings) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession(url) as session:
            async with session.post("/topics", json={"name": "t"}) as answer:
                assert answer.status == 201
            for _ in range(40):
                async with session.post(
                    "/publish", json={"topic": "t", "payload": "x" * 60_000}
                ) as answer:
                    assert answer.status == 200
        stalled = await RawClient.dial(server.port, receive_buffer=4_096)
        await stalled.send(b"GET /topics/t/history HTTP/1.1\r\nHost: test\r\n\r\n")
        await stalled.read_some(1)
        server.terminate()
        assert await server.exit_code() == 0
        stalled.close()


async def test_a_body_that_does_not_end_is_cut_at_the_timeout() -> None:
    async with server_process(SHUTDOWN_TIMEOUT="0.5") as server:
        stalled = await RawClient.dial(server.port)
        await stalled.send(b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n{")
        later = await RawClient.dial(server.port)
        assert (await ask(later, STATS))[0] == 200
        server.terminate()
        assert await server.exit_code() == 0
        assert events.CUTTING.text in "".join(server.log)
        for client in (stalled, later):
            client.close()


async def test_a_stream_gets_the_range_in_which_to_reconnect() -> None:
    async with server_process() as server:
        clients = [await RawClient.dial(server.port) for _ in range(20)]
        for client in clients:
            await client.send(b"GET /events?topic=t HTTP/1.1\r\nHost: test\r\n\r\n")
            await client.read_until(b'"ts":')
        server.terminate()
        retries = set()
        for client in clients:
            listener = Listener()
            rest = bytearray(await client.read_to_end())
            (said,) = listener.take(rest[rest.index(b"\n\n") + 2 :])
            assert said.message["reason"] == "SHUTDOWN"
            assert said.message["reconnect"] == {"min_ms": 0, "max_ms": 40}
            assert 0 <= listener.retry <= 40
            retries.add(listener.retry)
            client.close()
        assert len(retries) > 1
        assert await server.exit_code() == 0


def test_10_000_clients_are_closed_in_slices() -> None:
    node = Node()
    peers = [node.subscribed("t") for _ in range(10_000)]
    node.drain.begin()
    turns = 0
    dismissed = 0
    while dismissed < len(peers):
        now = sum(not peer.client.open for peer in peers)
        assert now - dismissed <= SLICE
        dismissed = now
        turns += 1
        node.turn()
    assert turns >= 10_000 / SLICE
    info = peers[-1].hear()[0]
    assert info["reconnect"]["max_ms"] == 20_000
    assert MAX_SPREAD == 30_000


def test_clients_with_many_topics_are_fewer_in_a_slice() -> None:
    node = Node()
    names = [f"t{number}" for number in range(20 * TOPICS)]
    peers = [node.subscribed(*names) for _ in range(SLICE)]
    node.drain.begin()
    assert 0 < sum(not peer.client.open for peer in peers) <= SLICE // 20
    node.tick()
    assert not any(peer.client.open for peer in peers)


async def test_a_client_that_reads_nothing_is_cut_before_the_shutdown_timeout() -> None:
    async with server_process(WRITE_TIMEOUT="0.5", SHUTDOWN_TIMEOUT="3600") as server:
        stalled = await stalled_client(server.port)
        server.terminate()
        async with asyncio.timeout(15):
            assert await server.exit_code() == 0
        stalled.close()
