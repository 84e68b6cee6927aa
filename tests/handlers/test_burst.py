"""A burst of publishes, and the subscribers that read without pause, or do not."""

import asyncio
import io
import json
from typing import Any

import aiohttp

from tests.support.process import ServerProcess, server_process
from tests.support.raw import RawClient

ITEMS = 1_000
READERS = 20


def batch(topic: str) -> bytes:
    items = [{"topic": topic, "payload": f"{number:06}" + "x" * 4_000} for number in range(ITEMS)]
    return json.dumps({"items": items}).encode()


async def post(session: aiohttp.ClientSession, body: bytes) -> list[dict[str, Any]]:
    async with session.post("/publish/batch", data=io.BytesIO(body)) as response:
        assert response.status == 200
        return list((await response.json())["results"])


async def read(client: RawClient, count: int) -> list[Any]:
    """The payloads' numbers of the next events; anything else as it is."""
    heard = [await client.hear() for _ in range(count)]
    return [int(it["message"]["payload"][:6]) if isinstance(it, dict) else it for it in heard]


async def subscribers(server: ServerProcess, count: int, **options: Any) -> list[RawClient]:
    clients = [await RawClient.connect(server.port, **options) for _ in range(count)]
    for client in clients:
        await client.subscribe("t")
    return clients


async def test_readers_that_share_a_process_keep_their_connections() -> None:
    async with server_process() as server:
        readers = await subscribers(server, READERS)
        reading = [asyncio.create_task(read(reader, 2 * ITEMS)) for reader in readers]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            body = batch("t")
            for _ in range(2):
                answers = await post(session, body)
                assert [answer["status"] for answer in answers] == ["published"] * ITEMS
        for numbers in await asyncio.gather(*reading):
            assert numbers == [*range(ITEMS)] * 2
        for reader in readers:
            reader.close()


async def test_bursts_of_several_publishers_at_once_cut_nobody() -> None:
    async with server_process() as server:
        readers = await subscribers(server, 3)
        reading = [asyncio.create_task(read(reader, 4 * ITEMS)) for reader in readers]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            body = batch("t")
            await asyncio.gather(*(post(session, body) for _ in range(4)))
        for numbers in await asyncio.gather(*reading):
            assert sorted(numbers) == sorted([*range(ITEMS)] * 4)
        for reader in readers:
            reader.close()


async def test_one_that_reads_nothing_is_cut_and_delays_the_burst_once() -> None:
    async with server_process() as server:
        (stuck,) = await subscribers(server, 1, receive_buffer=4_096)
        (reader,) = await subscribers(server, 1)
        reading = asyncio.create_task(read(reader, ITEMS))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            answers = await post(session, batch("t"))
            assert [answer["status"] for answer in answers] == ["published"] * ITEMS
            assert await reading == [*range(ITEMS)]
            async with session.get("/stats") as response:
                assert (await response.json())["topics"] == {"t": 1}
        heard = await stuck.rest_until_close()
        assert heard[-1] == ("close", 1013, "slow_consumer")
        stuck.close()
        reader.close()
