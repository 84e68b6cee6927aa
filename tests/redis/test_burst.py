"""A burst that is published on one server, and read on another."""

import asyncio

import aiohttp

from tests.support.burst import ITEMS, batch, post, read, subscribers
from tests.support.process import server_process


async def test_readers_on_another_server_keep_their_connections(address: str, prefix: str) -> None:
    settings = {"REDIS_ADDR": address, "REDIS_PREFIX": prefix}
    async with server_process(**settings) as here, server_process(**settings) as there:
        readers = await subscribers(there.port, 10)
        reading = [asyncio.create_task(read(reader, 2 * ITEMS)) for reader in readers]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{here.port}") as session:
            body = batch("t")
            for _ in range(2):
                answers = await post(session, body)
                assert {answer["nodes"] for answer in answers} == {1}
        for numbers in await asyncio.gather(*reading):
            assert numbers == [*range(ITEMS)] * 2
        for reader in readers:
            reader.close()
