"""Clients and a publisher that follow docs/protocol.md in reconnects and repetitions."""

import asyncio
import itertools
from collections import Counter
from random import Random
from typing import Any

import aiohttp
import orjson

from tests.support.balancers import Balancer
from tests.support.sse import Listener

NO_END = aiohttp.ClientTimeout()
WORKERS = 20  # of a publisher


class Follower:
    """A client that subscribes to one topic, recovers, and checks that it gets each event once.

    Attributes:
        address: from which it connects, and no other client does.
        payloads: those of all events, in order.
        connected: whether the current connection is subscribed.
        began: the time of the loop at which this connection began.
        returns: the seconds that each return took: from the end of the pause that the server asked
            for to the ack, with all attempts that failed.
    """

    def __init__(self, balancer: Balancer, address: str, topic: str, random: Random) -> None:
        self.address = address
        self.topic = topic
        self.payloads: list[int] = []
        self.connected = False
        self.began = 0.0
        self.returns: list[float] = []
        self._epoch, self._offset = "", 0  # of the last event
        self._balancer = balancer
        self._random = random
        self._allowed = 0.0  # time of the loop from which the client may return

    async def run(self) -> None:
        """Stay connected until cancelled."""
        clock = asyncio.get_running_loop().time
        async with self._balancer.session(self.address) as session:
            while True:
                self.began = clock()
                pause = await self._connect(session)
                if self.connected:
                    self.connected = False
                    self._allowed = clock() + pause
                await asyncio.sleep(pause)

    async def _connect(self, session: aiohttp.ClientSession) -> float:
        """Use one connection until its end, and return the pause after it in seconds."""
        raise NotImplementedError

    def _take(self, message: Any) -> None:
        if message["type"] == "ack":
            self._acked(message)
        elif message["type"] == "event":
            assert message["offset"] == self._offset + 1, (self.topic, self._offset, message)
            self._offset += 1
            self.payloads.append(message["message"]["payload"])
        else:
            assert message["reason"] == "SHUTDOWN", message

    def _acked(self, ack: Any) -> None:
        if self._epoch:
            assert ack["recovered"], (self.topic, self._offset, ack)
            assert ack["epoch"] == self._epoch
            self.returns.append(asyncio.get_running_loop().time() - self._allowed)
        else:
            self._epoch, self._offset = ack["epoch"], ack["offset"]
        self.connected = True


class WebSocketFollower(Follower):
    """Reconnects within the span of the shutdown notice, else after a pause that doubles."""

    _attempts = 0

    async def _connect(self, session: aiohttp.ClientSession) -> float:
        span = None
        try:
            async with session.ws_connect("/ws?client_id=follower") as socket:
                request: dict[str, Any] = {"type": "subscribe", "topic": self.topic}
                if self._epoch:
                    request["recover"] = {"epoch": self._epoch, "offset": self._offset}
                await socket.send_json(request)
                async for frame in socket:
                    message = orjson.loads(frame.data)
                    self._take(message)
                    self._attempts = 0
                    span = message.get("reconnect")
                assert socket.close_code == 1001
        except aiohttp.ClientError:
            pass  # lost, or refused
        if span:
            return self._random.uniform(span["min_ms"], span["max_ms"]) / 1_000
        self._attempts += 1
        return self._random.uniform(0, min(20, 0.25 * 2**self._attempts))


class StreamFollower(Follower):
    """Reads a stream as an EventSource: it reconnects after `retry`, but never after a status."""

    _listener = Listener()

    async def _connect(self, session: aiohttp.ClientSession) -> float:
        self._listener = Listener(self._listener.last_id)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self._listener.last_id}
        stream = bytearray()
        try:
            url = f"/events?topic={self.topic}"
            async with session.get(url, headers=headers, timeout=NO_END) as answer:
                assert answer.status == 200, f"EventSource ends with a {answer.status}"
                async for data in answer.content.iter_any():
                    stream += data
                    for said in self._listener.take(stream):
                        self._take(said.message)
        except aiohttp.ClientError:
            pass  # lost, or refused
        return (self._listener.retry or 3_000) / 1_000


class Publisher:
    """Publishes numbers, at most `rate` a second, and repeats what failed with the same key.

    Each of its workers waits for the answer before it publishes again. So a machine that is too
    slow for the rate publishes less, and is not overrun.

    Attributes:
        published: the numbers that were accepted, by topic.
        failures: what was repeated, with its count.
    """

    def __init__(
        self, session: aiohttp.ClientSession, topics: list[str], rate: int, random: Random
    ) -> None:
        self.published: dict[str, list[int]] = {topic: [] for topic in topics}
        self.failures: Counter[str] = Counter()
        self._session = session
        self._rate = rate
        self._random = random
        self._numbers = itertools.count()
        self._stopping = False

    async def run(self) -> None:
        """Publish until `stop`; return when all is accepted."""
        await asyncio.gather(*(self._work() for _ in range(WORKERS)))

    def stop(self) -> None:
        self._stopping = True

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = WORKERS / self._rate
        due = clock() + self._random.uniform(0, pause)
        while not self._stopping:
            await asyncio.sleep(due - clock())
            due = max(due + pause, clock())
            await self._publish(self._random.choice(list(self.published)), next(self._numbers))

    async def _publish(self, topic: str, number: int) -> None:
        body = {"topic": topic, "payload": number}
        headers = {"Idempotency-Key": f"k{number}"}
        while failure := await self._try(body, headers):
            self.failures[failure] += 1
            await asyncio.sleep(self._random.uniform(0, 0.2))
        self.published[topic].append(number)

    async def _try(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        """Return why a publish failed in a way that may pass; an empty string for success."""
        try:
            async with self._session.post("/publish", json=body, headers=headers) as answer:
                assert answer.status in (200, 502, 503, 504), await answer.text()
                return "" if answer.status == 200 else str(answer.status)
        except aiohttp.ClientError as error:
            return repr(error)
