"""Brokers over a real Redis, with nodes that record the calls of their broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_bytes, token_hex
from types import MappingProxyType
from typing import Any

from hub.brokers.base import Broker, OutageReason, PublishDone, PublishResult, SubscribeResult
from hub.brokers.idempotency import FirstPublish
from hub.errors import ErrorCode, Refusal
from hub.redis.address import parse_redis_address
from hub.redis.broker import RedisBroker
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.supervisor import Supervisor
from hub.reports import GapCause
from hub.settings import Settings
from hub.values import TOTAL_BYTES, Rule
from tests.support.node import Node
from tests.support.patience import PATIENCE


def refused(outcome: object) -> ErrorCode:
    """Return the code of an outcome that must be a refusal."""
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


class RecordingNode:
    """`BrokerEvents` that record all calls in order."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clients: list[Any] = []
        self.heard: list[tuple[str, str, bytes]] = []  # method, topic, event
        self.outages: list[str] = []  # the reason of each, and "back" at its end
        self.answered: list[float] = []  # seconds of each beat until its answer
        self.returned: list[float] = []  # and until it came back
        self.bans: dict[str, float] = {}
        self.answering: Callable[[], Awaitable[Any]] = partial(asyncio.sleep, 0)  # before an answer
        self._news = asyncio.Event()
        broker.serve(self)
        broker.serve_disconnects(self)
        broker.serve_questions(self)

    def deliver(self, topic: str, event: bytes) -> None:
        self._hear("event", topic, event)

    def deleted(self, topic: str) -> None:
        self._hear("deleted", topic)

    def missed(self, topic: str, cause: GapCause = GapCause.OUTAGE) -> None:
        self._hear("missed", topic)

    def disconnect(self, subject: str, client_id: str) -> None:
        self._hear("disconnect", subject or client_id)

    def ban(self, bans: Mapping[str, float]) -> None:
        self.bans.update(bans)
        self._news.set()

    async def answer(self, question: Any) -> Any:
        """Answer every question by its repetition."""
        await self.answering()
        return question

    def broker_lost(self, reason: OutageReason) -> None:
        self.outages.append(reason)

    def broker_back(self) -> None:
        self.outages.append("back")

    def broker_answered(self, seconds: float) -> None:
        self.answered.append(seconds)

    def broker_returned(self, seconds: float) -> None:
        self.returned.append(seconds)

    def _hear(self, what: str, topic: str, event: bytes = b"") -> None:
        self.heard.append((what, topic, event))
        self._news.set()

    async def hear(self, count: int) -> list[tuple[str, str, bytes]]:
        """Wait until `count` calls are recorded; return and remove all."""
        await self.until(lambda: len(self.heard) >= count)
        heard, self.heard = self.heard, []
        return heard

    async def until(self, come: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not come():
                self._news.clear()
                await self._news.wait()

    async def ask(self, call: Callable[..., None], *arguments: Any) -> Any:
        """Make a call of the broker and wait for its outcome."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call(*arguments, future.set_result)
        async with asyncio.timeout(PATIENCE):
            return await future

    async def subscribe(self, topic: str) -> SubscribeResult | Refusal:
        return await self.ask(self.broker.subscribe, topic)

    async def publish(self, topic: str, event: bytes = b"{}") -> PublishResult | Refusal:
        return await self.ask(self.broker.publish, topic, event)

    async def publish_once(
        self, topic: str, event: bytes, key: str, first: FirstPublish
    ) -> PublishResult | Refusal:
        def call(done: PublishDone) -> None:
            self.broker.publish_once(topic, event, done, key=key, first=first)

        return await self.ask(call)

    async def create(self, topic: str) -> Refusal | None:
        return await self.ask(self.broker.create, topic)

    async def delete(self, topic: str) -> Refusal | None:
        return await self.ask(self.broker.delete, topic)


class BusNode(RecordingNode):
    """A recording node with a broker over Redis."""

    def __init__(
        self,
        address: str,
        prefix: str,
        *,
        strict: bool,
        beat: float,
        grace: float,
        rules: Mapping[str, Rule],
        total_bytes: int,
        clock: Callable[[], float] | None,
    ) -> None:
        where = parse_redis_address(address)
        keys = Keys(prefix, where.db)
        clock = clock or asyncio.get_running_loop().time
        cache = HistoryCache(rules, partial(token_hex, 8), clock, total_bytes)
        self.bus = RedisBroker(keys, token_bytes(8), cache, strict=strict, grace=grace)
        super().__init__(self.bus)
        # Joining a Redis that runs may take a while; without one it fails at once.
        self.supervisor = Supervisor(self.bus, where, self.clients, beat=beat, patience=PATIENCE)


@asynccontextmanager
async def bus_node(
    address: str,
    prefix: str,
    *,
    strict: bool = False,
    beat: float = 1.0,
    patience: float = 0.1,
    grace: float = 0.0,
    rules: Mapping[str, Rule] = MappingProxyType({}),
    total_bytes: int = TOTAL_BYTES,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[BusNode]:
    """A node that has connected to Redis, or failed to; it refuses unknown topics at once.

    `patience` is the time in seconds from the loss of the connection to an outage. `clock` returns
    the time in seconds, for the age of events.
    """
    node = BusNode(
        address,
        prefix,
        strict=strict,
        beat=beat,
        grace=grace,
        rules=rules,
        total_bytes=total_bytes,
        clock=clock,
    )
    async with supervised(node.supervisor):
        node.supervisor.patience = patience
        yield node


@asynccontextmanager
async def supervised(supervisor: Supervisor) -> AsyncIterator[None]:
    """Keep a broker connected; the block begins when the first attempt has an outcome."""
    task = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await supervisor.settled.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class HubNode(Node):
    """A complete node without sockets, with a broker over Redis."""

    def __init__(
        self,
        address: str,
        prefix: str,
        rules: Mapping[str, Rule],
        beat: float,
        settings: Settings | None,
        total_bytes: int,
    ) -> None:
        where = parse_redis_address(address)
        clock = asyncio.get_running_loop().time
        cache = HistoryCache(rules, partial(token_hex, 8), clock, total_bytes)
        broker = RedisBroker(Keys(prefix, where.db), token_bytes(8), cache, strict=False)
        super().__init__(settings, broker, node=broker.node_id)
        self.bus = broker
        self.supervisor = Supervisor(broker, where, self.hub.clients, beat=beat)


@asynccontextmanager
async def hub_node(
    address: str,
    prefix: str,
    rules: Mapping[str, Rule] = MappingProxyType({}),
    beat: float = 1.0,
    settings: Settings | None = None,
    total_bytes: int = TOTAL_BYTES,
) -> AsyncIterator[HubNode]:
    """A complete node that has connected to Redis."""
    node = HubNode(address, prefix, rules, beat, settings, total_bytes)
    async with supervised(node.supervisor):
        yield node
