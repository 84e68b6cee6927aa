"""Two thousand clients that reconnect at once while Redis is restarted: no event is lost.

There are 200 topics, 2,000 messages a second, two servers, and one Redis that writes every change
to its append-only file. The publisher repeats unanswered publishes with the same key.
"""

import asyncio
import itertools
import os
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.support.cluster import Cluster, cluster
from tests.support.proxy import proxy
from tests.support.redis import RedisServer, redis_server

CLIENTS = 2_000
TOPICS = [f"storm/{number}" for number in range(200)]
RATE = 2_000  # messages a second, to all topics together
PATIENCE = 60  # seconds for anything that must happen
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Follower:
    """A client that recovers. It keeps its events in pieces; each loss begins a new piece."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str], topic: str) -> None:
        self.topic = topic
        self.pieces: list[list[int]] = [[]]
        self.joined = asyncio.Event()
        self.returns = 0
        self._session = session
        self._urls = urls
        self.position: tuple[str, int] | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                async with self._session.ws_connect(random.choice(self._urls)) as made:
                    self._socket = made
                    await self._follow(made)
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(random.uniform(0, 1))  # jitter, as every client should

    def cut(self) -> None:
        """Cut the connection; bytes in transit are lost."""
        if self._socket is not None:
            made, self._socket = self._socket, None
            number = made.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(number)) as way:  # the loop's own has no shutdown
                way.shutdown(socket.SHUT_RDWR)

    async def _follow(self, made: aiohttp.ClientWebSocketResponse) -> None:
        await made.send_json(self._wish())
        async for message in made:
            if self._socket is not made:
                return
            said = orjson.loads(message.data)
            if said["type"] == "event":
                self._heard(said)
            elif said["type"] == "ack":
                self._subscribed(said)
            elif said["type"] == "info":
                told = said["message"]["payload"]
                assert told["reason"] == "GAP"
                self._lost(told)
            else:
                assert said["error"]["code"] == "UNAVAILABLE", said  # Redis is away
                await asyncio.sleep(0.2)
                await made.send_json(self._wish())

    def _wish(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"type": "subscribe", "topic": self.topic}
        if self.position is not None:
            wish["recover"] = dict(zip(("epoch", "offset"), self.position, strict=True))
        return wish

    def _subscribed(self, ack: dict[str, Any]) -> None:
        if self.position is not None:
            self.returns += 1
        if self.position is None:
            self.position = (ack["epoch"], ack["offset"])
        elif not ack["recovered"]:
            self._lost(ack)
        self.joined.set()

    def _lost(self, told: dict[str, Any]) -> None:
        self.position = (told["epoch"], told["offset"])
        self.pieces.append([])

    def _heard(self, event: dict[str, Any]) -> None:
        assert self.position is not None
        epoch, offset = self.position
        assert event["offset"] == offset + 1, (self.topic, self.position, event)
        self.position = (epoch, offset + 1)
        self.pieces[-1].append(event["message"]["payload"])


class Publisher:
    """Publishes at a constant rate, and repeats unanswered publishes with the same key."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.accepted: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        self._session = session
        self._urls = urls
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self, stack: AsyncExitStack) -> None:
        """Open the publisher's connections, which are never cut, and handle the answers."""
        for url in self._urls:
            made = await stack.enter_async_context(self._session.ws_connect(url))
            self._sockets.append(made)
            reading = asyncio.create_task(self._read(made))
            stack.callback(reading.cancel)

    async def _read(self, made: aiohttp.ClientWebSocketResponse) -> None:
        async for message in made:
            said = orjson.loads(message.data)
            self._asked.pop(said["request_id"]).set_result(said)

    async def publish(self, seconds: float) -> None:
        """Publish RATE messages a second, without waiting for answers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent = 0
        while (passed := loop.time() - began) < seconds:
            for _ in range(int(passed * RATE) - sent):
                call = asyncio.create_task(self._publish(next(self._numbers)))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                sent += 1
            await asyncio.sleep(0.01)

    async def answered(self) -> None:
        """Wait until all publishes are accepted."""
        async with asyncio.timeout(PATIENCE):
            while self._calls:
                await asyncio.gather(*self._calls)

    async def _publish(self, number: int) -> None:
        topic = TOPICS[number % len(TOPICS)]
        message = {"type": "publish", "topic": topic, "payload": number}
        for attempt in itertools.count():
            request_id = f"{number}.{attempt}"
            answer = self._asked[request_id] = asyncio.get_running_loop().create_future()
            made = self._sockets[(number + attempt) % len(self._sockets)]
            await made.send_json(
                {**message, "request_id": request_id, "idempotency_key": f"k{number}"}
            )
            said = await answer
            if said["type"] == "ack":
                self.accepted[topic][said["epoch"], said["offset"]] = number
                return
            assert said["error"]["code"] == "UNAVAILABLE", said
            await asyncio.sleep(random.uniform(0, 0.5))


class Storm:
    """The servers, the followers and the publisher."""

    def __init__(self, servers: Cluster, session: aiohttp.ClientSession) -> None:
        self.urls = [f"ws://127.0.0.1:{it.port}/ws?client_id=storm" for it in servers.nodes]
        self.publisher = Publisher(session, self.urls)
        self.followers = [
            Follower(session, self.urls, TOPICS[number % len(TOPICS)]) for number in range(CLIENTS)
        ]

    async def begin(self, stack: AsyncExitStack) -> None:
        for follower in self.followers:
            stack.callback(asyncio.create_task(follower.run()).cancel)
        async with asyncio.timeout(PATIENCE):
            for follower in self.followers:
                await follower.joined.wait()
        await self.publisher.run(stack)

    def cut_all(self) -> None:
        for follower in self.followers:
            follower.cut()

    async def end(self) -> None:
        """Wait until all is accepted and every follower is at the end of its topic.

        It has the last message, or a report of a loss up to there: a server that hears from Redis
        again after the last publish has nothing more to deliver.
        """
        await self.publisher.answered()
        last = {topic: max(said) for topic, said in self.publisher.accepted.items()}
        async with asyncio.timeout(PATIENCE):
            for follower in self.followers:
                while follower.position != last[follower.topic]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    def check(self) -> int:
        """Check that events are missing between pieces only; return the number of losses."""
        told = 0
        for follower in self.followers:
            said = self.publisher.accepted[follower.topic]
            order = [said[place] for place in sorted(said)]
            assert len({epoch for epoch, _ in said}) == 1
            assert len(set(order)) == len(order)
            at = 0
            for number, piece in enumerate(follower.pieces):
                told += number > 0
                if piece:
                    begin = order.index(piece[0])
                    assert begin > at if number else begin == 0
                    assert piece == order[begin : begin + len(piece)]
                    at = begin + len(piece)
            assert at == len(order) or not follower.pieces[-1]  # a loss up to the end was reported
        return told


@asynccontextmanager
async def storm(servers: Cluster) -> AsyncIterator[Storm]:
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Storm(servers, session)
        await made.begin(stack)
        yield made


async def test_a_storm_within_the_window_loses_nothing() -> None:
    with redis_server(*DURABLE) as redis:
        settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "HISTORY_SIZE": "300"}
        async with cluster(settings, settings) as servers, storm(servers) as it:
            publishing = asyncio.create_task(it.publisher.publish(12))
            await asyncio.sleep(2)
            it.cut_all()
            await asyncio.sleep(3)
            await asyncio.to_thread(_kill_and_start, redis)
            await publishing
            await it.end()
            assert it.check() == 0
            # A busy machine publishes less in that time; this much is a storm all the same.
            assert sum(len(said) for said in it.publisher.accepted.values()) > 3 * RATE
            assert all(follower.returns == 1 for follower in it.followers)


def _kill_and_start(redis: RedisServer) -> None:
    redis.kill()
    redis.start()


async def test_a_storm_beyond_the_window_is_reported_to_the_clients_it_concerns() -> None:
    with redis_server(*DURABLE) as redis:
        async with proxy(redis.port) as way:
            settings = {"HISTORY_SIZE": "10"}
            async with (
                cluster(
                    {**settings, "REDIS_ADDR": f"127.0.0.1:{redis.port}"},
                    {**settings, "REDIS_ADDR": f"127.0.0.1:{way.port}"},
                ) as servers,
                storm(servers) as it,
            ):
                publishing = asyncio.create_task(it.publisher.publish(12))
                await asyncio.sleep(2)
                it.cut_all()
                await asyncio.sleep(3)
                way.silent = True  # the second server hears nothing, and does not know it yet
                await asyncio.sleep(4)
                way.silent = False
                await publishing
                await it.end()
                assert it.check() > 0
