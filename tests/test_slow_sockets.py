"""Clients that stop reading, on real sockets: they are cut, and nobody else notices."""

import asyncio
import tracemalloc

import pytest

from hub.settings import Settings
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running

EVENT = "x" * 4_000
SMALL = 4_096  # bytes of receive buffer: what the kernel hides from the server is bounded


async def read_events(client: RawClient, count: int) -> list[int]:
    """The numbers of the next `count` events."""
    return [(await client.hear())["message"]["payload"]["n"] for _ in range(count)]


async def publish(server: Running, topic: str, number: int) -> None:
    server.hub.publish(topic, None, {"n": number, "pad": EVENT}, lambda outcome: None)
    await asyncio.sleep(0)  # its tick ends


@pytest.mark.parametrize("backpressure", ["disconnect", "drop_oldest"])
async def test_a_client_that_stops_reading_is_cut_and_the_healthy_get_all(
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


async def test_a_client_that_is_cut_off_late_hears_why() -> None:
    """It stops reading, is cut for it, and reads on: what the transport held, error and Close."""
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


async def test_a_client_that_pauses_gets_every_event_or_is_told() -> None:
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


async def test_what_waits_is_shared_by_all_that_wait() -> None:
    """A hundred stalled clients cost hardly more than the events that wait for them."""
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
        async with asyncio.timeout(10):
            while any(client.open for client in server.hub.clients):
                await flooder.say({"type": "ping", "request_id": "x" * 1_000})
        server.visit_all(0.0)
        server.visit_all(10.0)
        await until(lambda: not server.hub.clients)
