"""A burst of publishes on one server, read by clients of another."""

import asyncio

import aiohttp
import pytest

from handlers import publish
from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.burst import ITEMS, batch, post, read, subscribers
from tests.support.patience import PATIENCE
from tests.support.raw import raw_client
from tests.support.server import running


async def test_burst_without_remote_readers_is_not_paced(
    address: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "NODES_RATE", 1)  # byte a second
    settings = Settings(redis_addr=parse_redis_address(address), redis_prefix=prefix)
    async with running(settings) as server, raw_client(server.port) as reader:
        await reader.subscribe("t")
        reading = asyncio.create_task(read(reader, ITEMS))
        async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(PATIENCE):
            answers = await post(session, batch("t"))
        assert {(answer["nodes"], answer["receivers"]) for answer in answers} == {(1, 1)}
        assert await reading == [*range(ITEMS)]


async def test_burst_keeps_readers_on_another_server_connected(
    address: str, prefix: str, backstage: Backstage
) -> None:
    settings = Settings(redis_addr=parse_redis_address(address), redis_prefix=prefix)
    here, there = [backstage.enter(running(settings)) for _ in range(2)]
    readers = await subscribers(there.port, 10)
    reading = [asyncio.create_task(read(reader, 2 * ITEMS)) for reader in readers]
    async with aiohttp.ClientSession(here.url) as session:
        body = batch("t")
        for _ in range(2):
            answers = await post(session, body)
            assert {answer["nodes"] for answer in answers} == {1}
    for numbers in await asyncio.gather(*reading):
        assert numbers == [*range(ITEMS)] * 2
    for reader in readers:
        reader.close()
