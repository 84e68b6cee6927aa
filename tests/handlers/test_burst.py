"""Bursts of publishes, to subscribers that read and to one that does not."""

import asyncio

import aiohttp

from tests.support.burst import ITEMS, batch, post, read, subscribers
from tests.support.process import server_process

READERS = 20


async def test_readers_that_share_a_process_keep_their_connections() -> None:
    async with server_process() as server:
        readers = await subscribers(server.port, READERS)
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
        readers = await subscribers(server.port, 3)
        reading = [asyncio.create_task(read(reader, 4 * ITEMS)) for reader in readers]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            body = batch("t")
            await asyncio.gather(*(post(session, body) for _ in range(4)))
        for numbers in await asyncio.gather(*reading):
            assert sorted(numbers) == sorted([*range(ITEMS)] * 4)
        for reader in readers:
            reader.close()


async def test_a_client_that_reads_nothing_is_cut_and_delays_the_burst_once() -> None:
    async with server_process() as server:
        (stuck,) = await subscribers(server.port, 1, receive_buffer=4_096)
        (reader,) = await subscribers(server.port, 1)
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
