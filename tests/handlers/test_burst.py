"""Bursts of publishes, to subscribers that read and to one that does not.

The server runs in this process, so that its subscribers are as slow as it is on a busy machine.
"""

import asyncio

import aiohttp
import pytest

from handlers import publish
from hub.delivery import pacing
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.burst import ITEMS, batch, post, read, subscribers
from tests.support.patience import PATIENCE
from tests.support.server import running

READERS = 20


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bursts wait for readers as long as they need on a busy machine."""
    monkeypatch.setattr(pacing, "PATIENCE", PATIENCE)
    monkeypatch.setattr(publish, "LIMIT", PATIENCE)


async def test_readers_that_share_a_thread_keep_their_connections(backstage: Backstage) -> None:
    server = backstage.enter(running(Settings()))
    readers = await subscribers(server.port, READERS)
    reading = [asyncio.create_task(read(reader, 2 * ITEMS)) for reader in readers]
    async with aiohttp.ClientSession(server.url) as session:
        body = batch("t")
        for _ in range(2):
            answers = await post(session, body)
            assert [answer["status"] for answer in answers] == ["published"] * ITEMS
    for numbers in await asyncio.gather(*reading):
        assert numbers == [*range(ITEMS)] * 2
    for reader in readers:
        reader.close()


async def test_bursts_of_several_publishers_at_once_cut_nobody() -> None:
    async with running(Settings()) as server:
        readers = await subscribers(server.port, 3)
        reading = [asyncio.create_task(read(reader, 4 * ITEMS)) for reader in readers]
        async with aiohttp.ClientSession(server.url) as session:
            body = batch("t")
            await asyncio.gather(*(post(session, body) for _ in range(4)))
        for numbers in await asyncio.gather(*reading):
            assert sorted(numbers) == sorted([*range(ITEMS)] * 4)
        for reader in readers:
            reader.close()


async def test_a_client_that_reads_nothing_is_cut_and_delays_the_burst_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing, "PATIENCE", 3)  # seconds, which this test takes
    async with running(Settings()) as server:
        (stuck,) = await subscribers(server.port, 1, receive_buffer=4_096)
        (reader,) = await subscribers(server.port, 1)
        reading = asyncio.create_task(read(reader, ITEMS))
        async with aiohttp.ClientSession(server.url) as session:
            answers = await post(session, batch("t"))
            assert [answer["status"] for answer in answers] == ["published"] * ITEMS
            assert await reading == [*range(ITEMS)]
            async with session.get("/stats") as response:
                assert (await response.json())["topics"] == {"t": 1}
        heard = await stuck.rest_until_close()
        assert heard[-1] == ("close", 1013, "slow_consumer")
        stuck.close()
        reader.close()
