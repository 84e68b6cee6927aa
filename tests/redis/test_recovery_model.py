"""A model of clients that recover on two nodes, while Redis loses connections and data."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from hub.brokers.base import PublishResult
from hub.errors import ErrorCode, Refusal
from hub.redis.broker import Bus
from hub.settings import Settings
from hub.values import TOTAL_BYTES, Rule
from tests.support.bus import HubNode, hub_node
from tests.support.patience import PATIENCE
from tests.support.reader import Reader, StreamReader, Truth
from tests.support.redis import RedisServer, redis_server

CLIENTS = st.integers(0, 2)
NODES = st.integers(0, 1)
ROOMS = st.sampled_from([None, None, 150, 600])  # bytes that reach a client before it reads
TOPICS = st.sampled_from(["a", "b"])
HARMS = {
    "cut the way out": "CLIENT KILL TYPE normal SKIPME yes",
    "cut the way back": "CLIENT KILL TYPE pubsub",
    "cut it once more": "CLIENT KILL TYPE pubsub",
    "trim": "XTRIM p:events:{} MAXLEN = 1",
    "expire": "DEL p:events:{}",
    "lose an epoch": "DEL p:history:{}",
    "lose all": "FLUSHALL",
}
RULES = {"": Rule(12, 60.0, 10_000)}
BEAT = 0.3  # seconds; a session ends when three beats are outstanding, also on a busy machine
LIMITS = Settings(recovery_limit=8, max_queue_size=2, backpressure="drop_oldest")


def _in_loop(act: Callable[..., None]) -> Callable[..., None]:
    """Run a rule inside the event loop."""

    @functools.wraps(act)
    def acted(self: "Lives", **drawn: Any) -> None:
        async def acting() -> None:
            act(self, **drawn)

        self.run(acting())

    return acted


class Lives(RuleBasedStateMachine):
    """Topics with 12 events of history, and clients on two nodes that come, go and are slow."""

    def __init__(self, server: RedisServer, total_bytes: int) -> None:
        super().__init__()
        self.server = server
        self.total_bytes = total_bytes
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        with server.client() as client:
            client.flushall()
        self.nodes: list[HubNode] = [self.run(self._start()) for _ in range(2)]
        self.truth = Truth()
        self.readers = [Reader(self.truth) for _ in range(3)]
        self.at = [0, 0, 0]  # the node of each reader
        self.stream = StreamReader(self.truth)
        self.stream_at = 0
        self.numbers = 0  # payloads so far
        self.drawn = 0  # publishes that were drawn: the same number whenever an example is repeated
        self.pending = 0  # unanswered publishes
        self.last: PublishResult | Refusal  # the outcome of the newest publish
        self.reading = False  # whether slow clients read too

    async def _start(self) -> HubNode:
        address = f"127.0.0.1:{self.server.port}"
        node = hub_node(address, "p", RULES, BEAT, LIMITS, self.total_bytes)
        return await self.stack.enter_async_context(node)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(what)

    def teardown(self) -> None:
        try:
            if hasattr(self, "pending"):
                self.calm()
        finally:
            self.run(self.stack.aclose())
            self.loop.close()

    # Clients.

    @rule(who=CLIENTS, where=NODES, room=ROOMS)
    @_in_loop
    def recover(self, who: int, where: int, room: int | None) -> None:
        self._come_back(who, where, room, recover=True)

    @rule(
        who=CLIENTS,
        where=NODES,
        room=ROOMS,
        recover=st.booleans(),
    )
    @_in_loop
    def come_back(self, who: int, where: int, room: int | None, recover: bool) -> None:
        self._come_back(who, where, room, recover=recover)

    @rule(who=CLIENTS)
    @_in_loop
    def go(self, who: int) -> None:
        self._go(who)

    def _go(self, who: int) -> None:
        """Lose the connection, with everything in flight."""
        reader = self.readers[who]
        if reader.peer is not None:
            self.nodes[self.at[who]].hub.leave(reader.peer.client)
            reader.peer = None

    def _come_back(self, who: int, where: int, room: int | None, *, recover: bool) -> None:
        """Reconnect to either node, and subscribe."""
        reader = self.readers[who]
        self._go(who)
        self.at[who] = where
        reader.connect(self.nodes[where].connect("me", room))
        for topic in ("a", "b"):
            reader.subscribe(topic, recover)

    @rule(where=NODES, room=ROOMS, cut=st.integers(0, 6))
    @_in_loop
    def follow(self, where: int, room: int | None, cut: int) -> None:
        """Lose the stream after some of the messages in flight, and resume on either node."""
        reader = self.stream
        if reader.peer is not None:
            reader.listen(cut)
            self.nodes[self.stream_at].hub.leave(reader.peer.client)
        self.stream_at = where
        made = self.nodes[where].stream("a", "b", last_id=reader.last_id, room=room)
        reader.begin(made, ("a", "b"))

    @rule(who=CLIENTS, topic=TOPICS, recover=st.booleans())
    @_in_loop
    def subscribe(self, who: int, topic: str, recover: bool) -> None:
        if self.readers[who].open:
            self.readers[who].subscribe(topic, recover)

    @rule(who=CLIENTS, topic=TOPICS)
    def unsubscribe(self, who: int, topic: str) -> None:
        self.calm()
        self._leave(who=who, topic=topic)
        self.calm()

    @_in_loop
    def _leave(self, who: int, topic: str) -> None:
        reader = self.readers[who]
        if reader.peer is not None and reader.open:
            reader.peer.say({"type": "unsubscribe", "request_id": "un", "topic": topic})
            reader.subscribed.discard(topic)

    @rule(where=NODES, topic=TOPICS, count=st.integers(1, 5))
    @_in_loop
    def publish(self, where: int, topic: str, count: int) -> None:
        self.drawn += count
        for _ in range(count):
            self._publish(where, topic)

    def _publish(self, where: int, topic: str) -> None:
        self.numbers += 1
        self.pending += 1
        number = self.numbers
        self.nodes[where].hub.publish(topic, None, number, self._published(number))

    def _published(self, number: int) -> Callable[[PublishResult | Refusal], None]:
        def published(outcome: PublishResult | Refusal) -> None:
            self.pending -= 1
            self.last = outcome
            if isinstance(outcome, PublishResult):
                assert outcome.position is not None
                self.truth.said(*outcome.position, number)

        return published

    @rule(who=CLIENTS, room=st.sampled_from([50, 200, 1_000]))
    @_in_loop
    def read_some(self, who: int, room: int) -> None:
        peer = self.readers[who].peer
        if peer is not None and peer.transport.room is not None:
            peer.transport.drain(room)
            self._pump()

    # Topics and Redis.

    @rule(where=NODES, topic=TOPICS, what=st.sampled_from(["create", "delete"]))
    @_in_loop
    def change(self, where: int, topic: str, what: str) -> None:
        getattr(self.nodes[where].broker, what)(topic, lambda _: None)

    @rule(topic=TOPICS, what=st.sampled_from([*HARMS]))
    def hurt(self, topic: str, what: str) -> None:
        with self.server.client() as client:
            client.execute_command(*HARMS[what].format(topic).split())

    @precondition(lambda self: self.drawn % 4 == 3)  # slow, so not every time
    @rule()
    def restart(self) -> None:
        self.server.kill()
        self.turn()
        self.server.start()

    # Time.

    @rule()
    def turn(self) -> None:
        """Run a few turns of the loop."""

        async def some() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            self._pump()

        self.run(some())

    @rule()
    @_in_loop
    def sweep(self) -> None:
        for node in self.nodes:
            node.hub.gaps.sweep()
            node.broker.sweep()

    @rule()
    def calm(self) -> None:
        """Wait until everything in flight has arrived, and every client is up to date."""
        self.reading = True
        self.run(self._calm())
        self.reading = False

    async def _calm(self) -> None:
        async with asyncio.timeout(PATIENCE):
            for topic in ("a", "b"):
                while not await self._said_last(topic):
                    pass
                while not self._heard(topic):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)

    async def _said_last(self, topic: str) -> bool:
        """Publish once more to a topic; return whether Redis accepted or refused it."""
        while not self._settled():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        self._publish(0, topic)
        while not self._settled():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        last = self.last
        return isinstance(last, PublishResult) or last.code == ErrorCode.TOPIC_NOT_FOUND

    def _settled(self) -> bool:
        self._pump()
        up = all(node.bus.bus is Bus.UP for node in self.nodes)
        asked = sum(it.asked for it in self.readers if it.open)
        if self.stream.peer is not None:
            asked += self.stream.peer.client.commands.awaiting
        return up and not self.pending and not asked

    def _heard(self, topic: str) -> bool:
        """Return whether every subscriber is at the newest position of a topic."""
        self._pump()
        there = {it.positions[topic] for it in self.readers if it.open and topic in it.subscribed}
        stream = self.stream
        if stream.peer is not None and stream.peer.client.open:
            topics = {it.name for it in stream.peer.client.topics}
            there |= {stream.place(topic)} if topic in topics else set()
        if isinstance(self.last, Refusal):
            return not there
        return there <= {self.last.position}

    def _pump(self) -> None:
        """Let clients read the messages that have arrived."""
        for reader, where in zip(self.readers, self.at, strict=True):
            node = self.nodes[where]
            node.tick()
            if reader.peer is not None and reader.open:
                if self.reading:
                    reader.peer.transport.drain()
                node.hub.recovery.resume(reader.peer.client)
                reader.listen()
        if self.stream.peer is not None and self.reading:
            self.stream.peer.drain()
            self.stream.listen()


@pytest.mark.parametrize(
    ("examples", "total_bytes"),
    [(30, TOTAL_BYTES), (15, 1_500)],
    ids=["all that the rule says", "a few events of each topic"],
)
def test_clients_get_every_event_once_or_a_gap(examples: int, total_bytes: int) -> None:
    limits = settings(max_examples=examples, stateful_step_count=30, deadline=None)
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        run_state_machine_as_test(lambda: Lives(server, total_bytes), settings=limits)
