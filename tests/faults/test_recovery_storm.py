"""A thousand clients that reconnect at once while Redis is restarted: no event is lost.

There are 100 topics, up to 1,000 messages a second, two servers, and one Redis that writes every
change to its append-only file. The publisher repeats refused publishes with the same key.
"""

import asyncio
import itertools
import os
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import orjson

from tests.support.cluster import Cluster, cluster
from tests.support.patience import PATIENCE
from tests.support.proxy import proxy
from tests.support.redis import RedisServer, redis_server

CLIENTS = 1_000
TOPICS = [f"storm/{number}" for number in range(100)]
RATE = 1_000  # messages a second, to all topics together
WORKERS = 50  # of the publisher, each with one publish under way
SOME = 500  # messages, five to each topic
# At RATE, a topic gets so many events in 100 seconds.
WINDOW = {"HISTORY_SIZE": "1000", "RECOVERY_LIMIT": "1000"}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Follower:
    """A client that recovers. It keeps its events in pieces; each loss begins a new piece."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: list[str],
        topic: str,
        returned: asyncio.Queue[str],
    ) -> None:
        """`returned` gets the topic after each return."""
        self.topic = topic
        self.pieces: list[list[int]] = [[]]
        self.joined = asyncio.Event()
        self.returns = 0
        self.position: tuple[str, int] | None = None
        self._returned = returned
        self._moved = asyncio.Event()  # its position is another one
        self._session = session
        self._urls = urls
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

    async def reach(self, position: tuple[str, int]) -> None:
        """Wait until it is at a position."""
        while self.position != position:
            self._moved.clear()
            await self._moved.wait()

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
                await asyncio.sleep(0.2)  # the pause before it asks again
                await made.send_json(self._wish())

    def _wish(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"type": "subscribe", "topic": self.topic}
        if self.position is not None:
            wish["recover"] = dict(zip(("epoch", "offset"), self.position, strict=True))
        return wish

    def _subscribed(self, ack: dict[str, Any]) -> None:
        if self.position is None:
            self._move(ack["epoch"], ack["offset"])
            self.joined.set()
            return
        if not ack["recovered"]:
            self._lost(ack)
        self.returns += 1
        self._returned.put_nowait(self.topic)

    def _lost(self, told: dict[str, Any]) -> None:
        self._move(told["epoch"], told["offset"])
        self.pieces.append([])

    def _heard(self, event: dict[str, Any]) -> None:
        assert self.position is not None
        epoch, offset = self.position
        assert event["offset"] == offset + 1, (self.topic, self.position, event)
        self._move(epoch, offset + 1)
        self.pieces[-1].append(event["message"]["payload"])

    def _move(self, epoch: str, offset: int) -> None:
        self.position = (epoch, offset)
        self._moved.set()


class Publisher:
    """Publishes numbers, at most RATE a second, and repeats what was refused with the same key.

    Each of its workers waits for the answer before it publishes again. So a machine that is too
    slow for the rate publishes less, and the servers' queues of answers stay short.
    """

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.accepted: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        self._session = session
        self._urls = urls
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []
        self._numbers = itertools.count()
        self._count = 0  # of those accepted
        self._more = asyncio.Event()  # another one is accepted
        self._stopping = False
        self._workers: list[asyncio.Task[None]] = []

    async def run(self, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        """Open the publisher's connections, which are never cut, and begin to publish."""
        for url in self._urls:
            made = await stack.enter_async_context(self._session.ws_connect(url))
            self._sockets.append(made)
            stack.callback(tasks.create_task(self._read(made)).cancel)
        self._workers = [tasks.create_task(self._work()) for _ in range(WORKERS)]
        for worker in self._workers:
            stack.callback(worker.cancel)

    async def more(self, count: int) -> None:
        """Wait until `count` more publishes are accepted."""
        end = self._count + count
        async with asyncio.timeout(PATIENCE):
            while self._count < end:
                self._more.clear()
                await self._more.wait()

    async def stop(self) -> None:
        """Publish no more, and wait until everything is accepted."""
        self._stopping = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._workers)

    async def _read(self, made: aiohttp.ClientWebSocketResponse) -> None:
        async for message in made:
            said = orjson.loads(message.data)
            assert "request_id" in said, said
            self._asked.pop(said["request_id"]).set_result(said)
        raise AssertionError(f"the publisher was disconnected: {made.close_code}")

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = WORKERS / RATE
        due = clock() + random.uniform(0, pause)
        while not self._stopping:
            await asyncio.sleep(due - clock())  # this makes the rate
            due = max(due + pause, clock())
            await self._publish(next(self._numbers))

    async def _publish(self, number: int) -> None:
        topic = TOPICS[number % len(TOPICS)]
        message = {"type": "publish", "topic": topic, "payload": number}
        for attempt in itertools.count():
            request_id = f"{number}.{attempt}"
            answer = self._asked[request_id] = asyncio.get_running_loop().create_future()
            made = self._sockets[(number + attempt) % len(self._sockets)]
            body = {**message, "request_id": request_id, "idempotency_key": f"k{number}"}
            with suppress(aiohttp.ClientConnectionResetError):  # `_read` says why it is lost
                await made.send_json(body)
            said = await answer
            if said["type"] == "ack":
                self.accepted[topic][said["epoch"], said["offset"]] = number
                self._count += 1
                self._more.set()
                return
            assert said["error"]["code"] == "UNAVAILABLE", said
            await asyncio.sleep(random.uniform(0, 0.5))  # the pause before it publishes again


class Storm:
    """The servers, the followers and the publisher."""

    def __init__(self, servers: Cluster, session: aiohttp.ClientSession) -> None:
        urls = [f"ws://127.0.0.1:{it.port}/ws?client_id=storm" for it in servers.nodes]
        self.publisher = Publisher(session, urls)
        self._returned: asyncio.Queue[str] = asyncio.Queue()
        self.followers = [
            Follower(session, urls, TOPICS[number % len(TOPICS)], self._returned)
            for number in range(CLIENTS)
        ]

    async def begin(self, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        for follower in self.followers:
            stack.callback(tasks.create_task(follower.run()).cancel)
        async with asyncio.timeout(PATIENCE):
            for follower in self.followers:
                await follower.joined.wait()
        await self.publisher.run(stack, tasks)

    def cut_all(self) -> None:
        for follower in self.followers:
            follower.cut()

    async def return_of(self, count: int) -> None:
        """Wait for the returns of so many more followers."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self._returned.get()

    async def end(self) -> None:
        """Wait until all is accepted and every follower is at the end of its topic.

        It has the last message, or a report of a loss up to there: a server that hears from Redis
        again after the last publish has nothing more to deliver.
        """
        await self.publisher.stop()
        last = {topic: max(said) for topic, said in self.publisher.accepted.items()}
        async with asyncio.timeout(PATIENCE):
            for follower in self.followers:
                await follower.reach(last[follower.topic])

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
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Storm(servers, session)
        await made.begin(stack, tasks)
        yield made


async def test_a_storm_within_the_window_loses_nothing() -> None:
    with redis_server(*DURABLE) as redis:
        settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", **WINDOW}
        async with cluster(settings, settings) as servers, storm(servers) as it:
            await it.publisher.more(SOME)
            it.cut_all()
            await it.return_of(CLIENTS // 2)
            await asyncio.to_thread(_kill_and_start, redis)
            await it.return_of(CLIENTS - CLIENTS // 2)
            await it.publisher.more(SOME)
            await it.end()
            assert it.check() == 0
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
                await it.publisher.more(SOME)
                it.cut_all()
                await it.return_of(CLIENTS // 2)
                way.silent = True  # the second server hears nothing, and does not know it yet
                await it.publisher.more(3 * SOME)  # more than the window of each topic
                way.silent = False
                await it.return_of(CLIENTS - CLIENTS // 2)
                await it.publisher.more(SOME)
                await it.end()
                assert it.check() > 0
