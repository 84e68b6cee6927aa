"""Subscribers that recover, and a publisher, on one topic of a server with history."""

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from typing import Self

import aiohttp
from broadcast_client import Event, Item, connect

from tests.support.patience import PATIENCE

TOPIC = "stream"


class Streams:
    """State: what each subscriber has got, and the number of messages that are published.

    The subscribers use the Python client, which reconnects and recovers.
    """

    def __init__(self, port: int, subscribers: int) -> None:
        self.failed: list[str] = []  # publishes that were repeated, by the reason
        self._port = port
        self._got: list[list[Item]] = [[] for _ in range(subscribers)]
        self._numbers = count()
        self._published = 0
        self._progress = asyncio.Event()  # another message is published
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        url = f"ws://127.0.0.1:{self._port}/ws"
        for got in self._got:
            client = await self._stack.enter_async_context(connect(url, client_id="it"))
            await client.subscribe(TOPIC, got.append).ready()
        # Each request on a connection of its own.
        connector = aiohttp.TCPConnector(force_close=True)
        session = aiohttp.ClientSession(f"http://127.0.0.1:{self._port}", connector=connector)
        self._session = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def publish(self, stop: asyncio.Event) -> None:
        """Publish numbers, one after another, until `stop` is set."""
        while not stop.is_set():
            await self._publish_next()

    async def more(self, count: int) -> None:
        """Wait until `count` more messages are published."""
        end = self._published + count
        async with asyncio.timeout(PATIENCE):
            while self._published < end:
                self._progress.clear()
                await self._progress.wait()

    async def _publish_next(self) -> None:
        """Publish the next number; repeat it if the outcome is unknown."""
        number = next(self._numbers)
        headers = {"Idempotency-Key": f"k{number}"}
        body = {"topic": TOPIC, "payload": number}
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with self._session.post("/publish", json=body, headers=headers) as answer:
                        if answer.status == 200:
                            break
                        self.failed.append(f"{answer.status} {await answer.text()}")
                except aiohttp.ClientError as error:
                    self.failed.append(repr(error))
                await asyncio.sleep(0.05)  # the pause before it publishes again
        self._published += 1
        self._progress.set()

    async def complete(self) -> None:
        """Wait until all subscribers have all messages; check that none is lost or repeated."""
        async with asyncio.timeout(PATIENCE):
            for got in self._got:
                while len(got) < self._published:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        orders = [[item.payload for item in got if isinstance(item, Event)] for got in self._got]
        assert sorted(orders[0]) == list(range(self._published))
        assert all(order == orders[0] for order in orders)
