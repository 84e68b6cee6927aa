"""A restart behind each balancer of deploy/: no publish fails, though it has no key.

One client of the restarting server reads nothing, so that the shutdown takes the maximum time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from hub.logs import events
from tests.support.balancers import Start, haproxy, nginx
from tests.support.patience import PATIENCE
from tests.support.process import ServerProcess, server_process
from tests.support.raw import RawClient, stalled_client
from tests.support.redis import RedisServer, free_port
from tests.support.sse import Listener

NO_END = aiohttp.ClientTimeout()


@asynccontextmanager
async def restarting(port: int, redis: RedisServer) -> AsyncIterator[ServerProcess]:
    settings = {
        "PORT": str(port),
        "REDIS_ADDR": f"127.0.0.1:{redis.port}",
        "SHUTDOWN_TIMEOUT": "4",
        "WRITE_TIMEOUT": "60",
        "MAX_QUEUE_BYTES": "10000000",
    }
    async with server_process(**settings) as server:
        yield server


class Publisher:
    """Publishes without a pause through the balancer. State: the count, and the failures."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.published = 0
        self.failed: list[str] = []
        self.more = asyncio.Event()  # set after each publish

    async def run(self) -> None:
        while True:
            body = {"topic": "t", "payload": self.published}
            try:
                async with self._session.post("/publish", json=body) as answer:
                    if answer.status != 200:
                        self.failed.append(f"{answer.status} {await answer.text()}")
            except aiohttp.ClientError as error:
                self.failed.append(repr(error))
            self.published += 1
            self.more.set()

    async def another(self, count: int) -> None:
        """Wait for `count` more publishes."""
        end = self.published + count
        while self.published < end:
            self.more.clear()
            await self.more.wait()


async def event_source(session: aiohttp.ClientSession, heard: asyncio.Queue[int]) -> None:
    """Read a stream as a browser does: reconnect after its end, but not after an HTTP error."""
    listener = Listener()
    retry = 0.5
    while True:
        try:
            headers = {"Accept": "text/event-stream"}
            async with session.get("/events?topic=t", headers=headers, timeout=NO_END) as answer:
                assert answer.status == 200, (
                    f"EventSource does not reconnect after a {answer.status}"
                )
                stream = bytearray()
                async for data in answer.content.iter_any():
                    stream += data
                    for said in listener.take(stream):
                        if said.message["type"] == "event":
                            heard.put_nowait(said.message["message"]["payload"])
                    retry = listener.retry / 1_000
        except aiohttp.ClientError:
            pass  # the connection was lost, or refused
        await asyncio.sleep(min(retry, 0.5))  # the pause before it reconnects


async def until_ready(session: aiohttp.ClientSession) -> None:
    """Wait until the balancer has a server."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with session.get("/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)  # there is no event for it


@pytest.mark.parametrize("start", [nginx, haproxy])
async def test_during_a_restart_no_publish_fails_and_a_stream_reconnects(
    start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    async with start(tmp_path, ports) as balancer, balancer.session() as session:
        await restart(session, ports, redis)


async def restart(session: aiohttp.ClientSession, ports: list[int], redis: RedisServer) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    async with restarting(ports[1], redis):
        async with restarting(ports[0], redis) as leaving:
            stuck = await stalled_client(ports[0])
            direct = await RawClient.connect(ports[0])
            await direct.subscribe("t")  # so that the topic is there, whatever comes
            await until_ready(session)
            streams = [asyncio.create_task(event_source(session, heard)) for _ in range(4)]
            publisher = Publisher(session)
            publishing = asyncio.create_task(publisher.run())
            await publisher.another(200)
            leaving.terminate()
            await leaving.wait_for_log("shutting down: clients=")
            await publisher.another(200)
            assert await leaving.exit_code() == 0
            assert events.CUTTING.text in "".join(leaving.log)
            await publisher.another(200)
        async with restarting(ports[0], redis):
            await publisher.another(200)
            last = publisher.published + 50
            # Each of the streams is there again, on whichever server.
            count = 0
            async with asyncio.timeout(PATIENCE):
                while count < len(streams):
                    count += await heard.get() == last
            publishing.cancel()
            await asyncio.wait([publishing])
            assert publisher.failed == []
            for stream in streams:
                assert not stream.done()
                stream.cancel()
            await asyncio.wait(streams)
            stuck.close()
            direct.close()
