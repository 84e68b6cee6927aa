"""Clients on real sockets that read slowly or not at all."""

import asyncio
import re
import tracemalloc
from typing import cast

import pytest

from handlers.sockets import discard, progress
from hub.delivery.client import FLOWING, Client, State, Transport
from hub.delivery.keepalive import Keepalive
from hub.logs import events
from hub.settings import Settings
from tests.support.frames import PING, TEXT, client_frame
from tests.support.logs import records, said
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running

EVENT = "x" * 4_000
SMALL = 4_096  # bytes of receive buffer, so that the kernel buffers little


async def read_events(client: RawClient, count: int) -> list[int]:
    """Return the numbers of the next `count` events."""
    return [(await client.hear())["message"]["payload"]["n"] for _ in range(count)]


async def publish(server: Running, topic: str, number: int) -> None:
    server.hub.publish(topic, None, {"n": number, "pad": EVENT}, lambda outcome: None)
    await asyncio.sleep(0)  # its tick ends


@pytest.mark.parametrize("backpressure", ["disconnect", "drop_oldest"])
async def test_a_client_that_stops_reading_is_cut_and_the_others_get_all_events(
    backpressure: str,
) -> None:
    async with (
        running(Settings(backpressure=backpressure)) as server,
        raw_client(server.port) as healthy,
        raw_client(server.port, receive_buffer=SMALL) as stalled,
    ):
        await healthy.subscribe("t")
        await stalled.subscribe("t")
        count = 500  # x 4 KB: more than the kernel's buffers and the 256 that may wait
        reading = asyncio.create_task(read_events(healthy, count))
        for number in range(count):
            await publish(server, "t", number)
        assert await reading == list(range(count))
        assert server.topics() == {"t": 1 if backpressure == "disconnect" else 2}
        server.visit_all(0.0)
        server.visit_all(9.0)
        assert len(server.hub.clients) == 2
        server.visit_all(10.0)
        await until(lambda: len(server.hub.clients) == 1)
        await publish(server, "t", count)
        assert await read_events(healthy, 1) == [count]


async def test_a_slow_client_gets_slow_consumer_before_close() -> None:
    """It resumes reading after it was closed: buffered events, the error and the Close arrive."""
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as slow,
    ):
        await slow.subscribe("t")
        number = 0
        while server.topics():
            await publish(server, "t", number)
            number += 1
        heard = await slow.rest_until_close()
        numbers = [message["message"]["payload"]["n"] for message in heard[:-2]]
        assert numbers == list(range(len(numbers)))
        assert heard[-2]["error"]["code"] == "SLOW_CONSUMER"
        assert heard[-1] == ("close", 1013, "slow_consumer")


async def test_a_client_that_pauses_gets_every_event_or_a_gap_notice() -> None:
    async with (
        running(Settings(backpressure="drop_oldest")) as server,
        raw_client(server.port, receive_buffer=SMALL) as slow,
    ):
        await slow.subscribe("t")
        count = 600
        for number in range(count):
            await publish(server, "t", number)
        expected = 0
        while expected < count:
            message = (await slow.hear())["message"]["payload"]
            if "dropped" in message:
                expected += message["dropped"]
            else:
                assert message["n"] == expected
                expected += 1
        assert expected == count


async def test_a_write_that_the_kernel_takes_in_part_is_completed_once() -> None:
    """Events of two topics in one tick, which are joined."""
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as client,
    ):
        await client.subscribe("a", "b")
        (reader,) = server.hub.clients
        count = 0
        while reader.state is FLOWING:
            for topic in ("a", "b") * 2:
                payload = {"n": count, "pad": EVENT}
                server.hub.publish(topic, None, payload, lambda outcome: None)
                count += 1
            await asyncio.sleep(0)  # the tick ends
        assert sorted(await read_events(client, count)) == list(range(count))


@pytest.mark.parametrize("topics", [["a"], ["a", "b"]])
async def test_a_client_that_reads_gets_its_events_past_the_transport(
    topics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rests = []
    write_rest = Client.write_rest

    def record(client: Client, data: bytes) -> bool:
        rests.append(data)
        return write_rest(client, data)

    monkeypatch.setattr(Client, "write_rest", record)
    async with running(Settings()) as server, raw_client(server.port) as client:
        await client.subscribe(*topics)
        for topic in topics:
            server.hub.publish(topic, None, {"n": 1}, lambda outcome: None)
        assert await read_events(client, len(topics)) == [1] * len(topics)
    assert rests == []


async def test_queued_events_are_shared_by_all_stalled_clients() -> None:
    """A hundred stalled clients need little more memory than the queued events."""
    count = 100
    async with running(Settings()) as server:
        clients = [await RawClient.connect(server.port, receive_buffer=SMALL) for _ in range(count)]
        for client in clients:
            await client.subscribe("t")
        number = 0
        while all(client.state.value == "flowing" for client in server.hub.clients):
            await publish(server, "t", number)
            number += 1
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            await publish(server, "t", number)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert server.topics() == {"t": count}
        waiting = 200 * len(EVENT)  # for each client
        assert after - before < 3 * waiting
        for client in clients:
            client.close()
        await until(lambda: not server.hub.clients)


async def test_a_flood_of_commands_without_reading_the_answers_is_cut() -> None:
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as flooder,
    ):
        ping = client_frame(TEXT, b'{"type":"ping","request_id":"%b"}' % (b"x" * 1_000))
        async with asyncio.timeout(30):
            while any(client.open for client in server.hub.clients):
                await flooder.send(ping * 16)
        server.visit_all(0.0)
        server.visit_all(10.0)
        await until(lambda: not server.hub.clients)


# --- Slow, but not stalled ------------------------------------------------------------------------

ANSWER = Settings(history_size=40, history_bytes=10_000_000)  # that a request may ask for


async def ask_for_much(server: Running) -> RawClient:
    """Send a request with an answer of 1.6 MB, and read none of it."""
    server.hub.broker.create("t", lambda outcome: None)
    for number in range(40):
        server.hub.publish("t", None, {"n": number, "pad": "x" * 40_000}, lambda outcome: None)
    client = await RawClient.dial(server.port, receive_buffer=SMALL)
    await client.send(b"GET /topics/t/history HTTP/1.1\r\nHost: test\r\n\r\n")
    await until(lambda: any(waiting(it.transport) for it in server.requests))
    return client


def waiting(transport: asyncio.Transport | None) -> bool:
    return transport is not None and transport.get_write_buffer_size() > 0


async def test_a_connection_with_an_unread_answer_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(ANSWER) as server:
        client = await ask_for_much(server)
        server.visit_requests(0.0)
        server.visit_requests(9.9)
        assert len(server.requests) == 1
        assert not records(caplog, events.HTTP_FAILED)
        server.visit_requests(10.0)
        await until(lambda: not server.requests)
        (line,) = said(caplog, events.HTTP_FAILED)
        assert re.fullmatch(r".*: peer=127\.0\.0\.1:\d+ reason=write_timeout", line)
        with pytest.raises(ConnectionResetError):  # the kernel has dropped its bytes, too
            await client.read_to_end()
        client.close()


async def test_a_client_that_reads_nothing_is_reset() -> None:
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as stalled,
    ):
        await stalled.subscribe("t")
        while server.topics():
            await publish(server, "t", 0)
        server.visit_all(0.0)
        server.visit_all(10.0)
        await until(lambda: not server.hub.clients)
        with pytest.raises(ConnectionResetError):
            await stalled.read_to_end()


async def test_a_silent_client_is_reset_if_it_has_not_acknowledged_everything() -> None:
    """A flowing client: all of its bytes are in the kernel, which would keep them."""
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as silent,
    ):
        await silent.subscribe("t")
        for number in range(16):  # x 4 KB: more than the client's kernel takes
            await publish(server, "t", number)
        (client,) = server.hub.clients
        assert client.state is FLOWING
        for now in (0.0, 1.0, 55.0, 61.0):
            server.visit_all(now)
        await until(lambda: not server.hub.clients)
        with pytest.raises(ConnectionResetError):
            await silent.read_to_end()


async def test_a_closing_client_that_reads_slowly_is_reset_at_its_deadline() -> None:
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=SMALL) as slow,
    ):
        await slow.subscribe("t")
        while server.topics():
            await publish(server, "t", 0)
        (client,) = server.hub.clients
        for now in (0.0, 5.0):
            server.visit_all(now)
            await read_a_little(slow, client.transport)
        server.visit_all(10.0)  # it has taken bytes since the last visit
        await until(lambda: not server.hub.clients)
        with pytest.raises(ConnectionResetError):
            await slow.read_to_end()


async def test_a_silent_client_that_has_acknowledged_everything_is_not_reset() -> None:
    async with running(Settings()) as server, raw_client(server.port) as silent:
        await silent.subscribe("t")
        for now in (0.0, 1.0, 55.0):
            server.visit_all(now)
        (client,) = server.hub.clients
        await until(lambda: not progress(client.transport)[1])
        server.visit_all(61.0)
        assert await silent.read_to_end() == bytes([0x80 | PING, 0])


async def test_an_answer_that_is_read_slowly_is_not_cut() -> None:
    """The size of the transport's buffer does not change during slow reads."""
    async with running(ANSWER) as server:
        client = await ask_for_much(server)
        (connection,) = server.requests
        assert connection.transport is not None
        for visit in range(5):
            server.visit_requests(9.0 * visit)
            await read_a_little(client, connection.transport)
        server.visit_requests(45.0)
        assert len(server.requests) == 1
        head = await client.read_head()
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        assert len(await client.read_exactly(length)) == length
        client.close()


async def test_a_websocket_that_reads_slowly_is_not_cut() -> None:
    async with (
        running(Settings(max_queue_size=1_000, max_queue_bytes=10_000_000)) as server,
        raw_client(server.port, receive_buffer=SMALL) as slow,
    ):
        await slow.subscribe("t")
        for number in range(500):
            await publish(server, "t", number)
        (client,) = server.hub.clients
        for visit in range(5):
            server.visit_all(9.0 * visit)
            await read_a_little(slow, client.transport)
        server.visit_all(45.0)
        assert await read_events(slow, 500) == list(range(500))


async def read_a_little(client: RawClient, transport: Transport) -> None:
    """Read so little that the transport's buffer does not change; wait for the acknowledgement."""
    before = progress(transport)
    for _ in range(32):
        await client.read_some(1_024)
    await until(lambda: progress(transport) != before)


async def test_a_stream_whose_network_is_gone_is_cut_after_a_comment() -> None:
    """A comment has no answer, so TCP's acknowledgement counts as the sign of life."""
    async with running(Settings()) as server:
        stream = await RawClient.dial(server.port)
        await stream.send(b"GET /events?topic=t HTTP/1.1\r\nHost: test\r\n\r\n")
        await stream.read_until(b'"ts":')
        acknowledged = 100

        def unplugged(transport: Transport) -> tuple[int, bool]:
            return acknowledged, True

        hub = server.hub
        server.sweeper.keepalive = Keepalive(
            Settings(),
            hub.clients,
            send=hub.fanout.send,
            fail=hub.fail,
            rights_due=server.sessions.due,
            progress=unplugged,
            discard=discard,
        )
        for now in (0.0, 54.0, 63.9):
            server.visit_all(now)
        assert len(server.hub.clients) == 1
        acknowledged = 101
        server.visit_all(64.0)  # a sign of life
        server.visit_all(65.0)
        for now in (119.0, 129.0):
            assert len(server.hub.clients) == 1
            server.visit_all(now)
        await until(lambda: not server.hub.clients)
        stream.close()


# --- Closed transports ----------------------------------------------------------------------------


async def close_without_notice(client: Client) -> None:
    """Close a client's transport so that the hub is not told."""
    transport = cast(asyncio.Transport, client.transport)
    closed = asyncio.Event()

    class Deaf(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            asyncio.get_running_loop().call_soon(closed.set)

    transport.set_protocol(Deaf())
    transport.abort()
    transport.write(b"ignored")  # uvloop refuses writes only when connection_lost has been called
    await closed.wait()
    with pytest.raises(RuntimeError, match="the handler is closed"):
        transport.write(b"")


async def test_a_closed_transport_does_not_spare_other_clients_that_exceed_their_bounds() -> None:
    async with running(Settings()) as server:
        clients = [await RawClient.connect(server.port, receive_buffer=SMALL) for _ in range(3)]
        for client in clients:
            await client.subscribe("t")
        _, closed, _ = server.hub.clients
        while any(client.state is FLOWING for client in server.hub.clients):
            await publish(server, "t", 0)
        await close_without_notice(closed)
        for number in range(300):
            await publish(server, "t", number)
        assert server.topics() == {}
        assert closed.state is State.GONE
        assert [client.state for client in server.hub.clients] == [State.CLOSING] * 2
        for client in clients:
            client.close()
        await until(lambda: not server.hub.clients)


async def test_a_closed_transport_does_not_keep_a_shutdown_from_other_clients() -> None:
    async with running(Settings()) as server:
        clients = [await RawClient.connect(server.port) for _ in range(3)]
        for client in clients:
            await client.subscribe("t")
        _, closed, _ = server.hub.clients
        await close_without_notice(closed)
        server.drain.begin()
        for client in (clients[0], clients[2]):
            assert (await client.rest_until_close())[-1] == ("close", 1001, "going_away")
        for client in clients:
            client.close()
        await until(lambda: not server.hub.clients)
