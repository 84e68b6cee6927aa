"""Workers that are killed in mid-stream: their clients come back, and miss nothing."""

import asyncio
import os
import random
import signal

import pytest
from broadcast_client import _connection as connection

from tests.support.redis import RedisServer
from tests.support.streams import Streams
from tests.support.workers import all_ready, pids, server_with_workers

KILLS = 6
SUBSCRIBERS = 100
SOME = 100  # messages that are published before, between and after the kills


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses of the clients short."""
    monkeypatch.setattr(connection, "FIRST", 0.05)
    monkeypatch.setattr(connection, "LONGEST", 0.5)


@pytest.mark.parametrize("workers", [2, 4])
async def test_clients_of_killed_workers_miss_nothing(redis: RedisServer, workers: int) -> None:
    settings = {"HISTORY_SIZE": "50000", "RECOVERY_LIMIT": "50000", "HISTORY_BYTES": "50000000"}
    async with (
        server_with_workers(redis.port, workers, **settings) as server,
        Streams(server.port, SUBSCRIBERS) as streams,
    ):
        stop = asyncio.Event()
        publishing = [asyncio.create_task(streams.publish(stop)) for _ in range(4)]
        for _ in range(KILLS):
            await streams.more(SOME)
            number, pid = random.choice(list(pids(server).items()))
            os.kill(pid, signal.SIGKILL)
            await server.wait_for_log(f"worker is ready: worker={number} ")
        await streams.more(SOME)
        stop.set()
        await asyncio.gather(*publishing)
        await streams.complete()
        await all_ready(server)
