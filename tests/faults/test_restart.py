"""A restart behind a load balancer, as docs/scaling.md configures it: no publish fails.

One client of the restarting server reads nothing, so that the shutdown takes the maximum time.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from hub.logs import events
from tests.support.nginx import CONFIGURATION, SBIN
from tests.support.process import ROOT, ServerProcess, server_process
from tests.support.raw import RawClient, stalled_client
from tests.support.redis import RedisServer, free_port
from tests.support.sse import Listener


def rules(language: str, port: int, servers: list[int]) -> str:
    """Return the example of docs/scaling.md with the ports of a test."""
    text = (ROOT / "docs/scaling.md").read_text()
    found = re.search(rf"(?ms)^```{language}\n(.*?)^```$", text)
    assert found is not None
    example = found[1]
    for shown, here in (("8080", port), ("8081", servers[0]), ("8082", servers[1])):
        example = re.sub(rf"\b{shown}\b", str(here), example)
    return example


@contextmanager
def balancer(kind: str, folder: Path, servers: list[int]) -> Iterator[int]:
    """Run nginx or HAProxy in front of the servers, and return its port."""
    program = shutil.which(kind, path=SBIN)
    if program is None:
        assert "CI" not in os.environ, f"install {kind}"
        pytest.skip(f"there is no {kind}")
    port = free_port()
    config = folder / f"{kind}.conf"
    if kind == "nginx":
        text = CONFIGURATION.format(folder=folder, rules=rules(kind, port, servers))
        command = [program, "-c", str(config), "-e", str(folder / "error.log")]
    else:
        text = rules(kind, port, servers).replace("bind :", "bind 127.0.0.1:")
        command = [program, "-db", "-f", str(config)]
    config.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


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

    def __init__(self, url: str) -> None:
        self._url = url
        self.published = 0
        self.failed: list[str] = []
        self.more = asyncio.Event()  # set after each publish

    async def run(self) -> None:
        async with aiohttp.ClientSession(self._url) as session:
            while True:
                body = {"topic": "t", "payload": self.published}
                try:
                    async with session.post("/publish", json=body) as answer:
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


async def event_source(url: str, heard: asyncio.Queue[int]) -> None:
    """Read a stream as a browser does: reconnect after its end, but not after an HTTP error."""
    listener = Listener()
    retry = 0.5
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout()) as session:
        while True:
            try:
                headers = {"Accept": "text/event-stream"}
                async with session.get("/events?topic=t", headers=headers) as answer:
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
            await asyncio.sleep(min(retry, 0.5))


async def until_it_answers(url: str) -> None:
    async with aiohttp.ClientSession(url) as session, asyncio.timeout(20):
        while True:
            try:
                async with session.get("/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_during_a_restart_no_publish_fails_and_a_stream_reconnects(
    kind: str, redis: RedisServer, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    with balancer(kind, tmp_path, ports) as port:
        url = f"http://127.0.0.1:{port}"
        heard: asyncio.Queue[int] = asyncio.Queue()
        async with restarting(ports[1], redis):
            async with restarting(ports[0], redis) as leaving:
                stuck = await stalled_client(ports[0])
                direct = await RawClient.connect(ports[0])
                await direct.subscribe("t")  # so that the topic is there, whatever comes
                await until_it_answers(url)
                streams = [asyncio.create_task(event_source(url, heard)) for _ in range(4)]
                publisher = Publisher(url)
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
                async with asyncio.timeout(20):
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
