"""The broker of many servers: what is published goes through Redis and comes back from there.

State: whether Redis can be reached, and the commands that wait to know. An event takes one path, to
Redis and back to every node that is subscribed, the publisher's own included; so all see one order.
Connections, and when they are given up, are hub/redis/supervisor.py's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from functools import partial
from typing import Final

from hub.brokers.base import (
    SUBSCRIBED,
    BrokerEvents,
    ClusterFigures,
    PublishDone,
    SubscribeDone,
    SubscribeResult,
    TopicDone,
)
from hub.brokers.history import History
from hub.brokers.idempotency import FirstPublish
from hub.errors import Refusal
from hub.redis.batching import TURN
from hub.redis.channels import Channels
from hub.redis.cluster_stats import ClusterStats
from hub.redis.envelope import Sender
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.publish_pipeline import AWAY, PublishPipeline
from hub.redis.session import Session
from hub.redis.subscriptions import Subscriptions
from hub.redis.topic_registry import TopicRegistry
from hub.values import Position

GRACE: Final = 5.0  # seconds after a connect in which other nodes may not have their leases yet


class Bus(Enum):
    """Whether Redis can be reached."""

    JOINING = "joining"  # not yet, or not any more, or not known: commands wait
    UP = "up"
    OUT = "out"  # an outage: REDIS_FAIL_MODE says what commands come to


class RedisBroker:
    """A `Broker` over Redis. `strict` refuses in an outage what the other mode serves locally."""

    def __init__(
        self,
        keys: Keys,
        run: bytes,
        cache: HistoryCache,
        *,
        strict: bool,
        grace: float = GRACE,
    ) -> None:
        """`run`: 8 bytes that no other process has. `grace`: seconds."""
        self.node_id = run.hex()
        self.bus = Bus.JOINING
        self.keys = keys
        self.strict = strict
        self.remembers = cache.remembers  # whether any topic has a history
        self.channels = Channels(keys, self.node_id, self._forgotten)
        self._cache = cache
        sender = Sender(run)
        self.subscriptions = Subscriptions(keys, sender, self.channels, cache, self.subscribe)
        self._pipeline = PublishPipeline(
            self.node_id, sender, self.channels, cache, strict=strict, grace=grace
        )
        self._registry = TopicRegistry(self.node_id, sender, self.channels, self.subscriptions)
        self._stats = ClusterStats(keys, self.node_id)
        self._session: Session
        self._waiting: deque[Callable[[], None]] = deque()

    def _standing(self, topic: str) -> SubscribeResult | Refusal:
        """Return the result of a subscribe that needs no command to Redis."""
        if self.bus is not Bus.OUT:
            return SUBSCRIBED
        return AWAY if self._is_strict(topic) else SubscribeResult(degraded=True)

    def _is_strict(self, topic: str) -> bool:
        """A topic with history always is: without Redis there is no offset to give."""
        return self.strict or self._cache.rule(topic) is not None

    @property
    def degraded(self) -> bool:
        return self.bus is Bus.OUT

    @property
    def reachable(self) -> bool:
        return self.bus is Bus.UP

    def serve(self, events: BrokerEvents) -> None:
        self._pipeline.serve(events)
        self._cache.serve(events, self.subscriptions.poison)
        self.subscriptions.serve(events)

    def join(self, topic: str, done: SubscribeDone) -> None:
        self._in_turn(lambda: done(self._standing(topic)))

    # Commands. Those that wait are carried out in order, and none overtakes them.

    def _in_turn(self, command: Callable[[], None]) -> None:
        if self.bus is Bus.JOINING or self._waiting:
            self._waiting.append(command)
        else:
            command()

    def publish(self, topic: str, event: bytes, done: PublishDone) -> None:
        self._in_turn(partial(self._pipeline.publish, topic, event, done))

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        publish = partial(self._pipeline.publish_once, topic, event, done, key=key, first=first)
        self._in_turn(publish)

    def subscribe(self, topic: str, done: SubscribeDone) -> None:
        self._in_turn(partial(self._subscribe, topic, done))

    def _subscribe(self, topic: str, done: SubscribeDone) -> None:
        if self.channels.attached:
            self.subscriptions.want(topic, done)
            return
        if not self._is_strict(topic):
            self.channels.hold(topic)
        done(self._standing(topic))

    def unsubscribe(self, topic: str) -> None:
        self.subscriptions.drop(topic)

    def counted(self, topic: str, subscribers: int) -> None:
        self.channels.count(topic, subscribers)

    def create(self, topic: str, done: TopicDone) -> None:
        self._in_turn(partial(self._change, self._registry.create, topic, done))

    def delete(self, topic: str, done: TopicDone) -> None:
        self._in_turn(partial(self._change, self._registry.delete, topic, done))

    def _change(
        self, change: Callable[[Session, str, TopicDone, int], None], topic: str, done: TopicDone
    ) -> None:
        """Change the register, which only Redis can: nothing is served locally."""

        def changed(refusal: Refusal | None) -> None:
            self._stats.forget()  # whoever made the change sees it
            done(refusal)

        if self.bus is Bus.UP:
            change(self._session, topic, changed, self._pipeline.force)
        else:
            done(AWAY)

    # Statistics.

    def history(self, topic: str) -> History | None:
        return self._cache.history(topic)

    async def fetch_history(self, topic: str, since: Position | None) -> History | Refusal:
        held = self._cache.history(topic)
        if held is not None:
            return held
        if self.bus is not Bus.UP:
            return AWAY
        return await self._cache.fetch(self._session, topic, since, self.node_id) or AWAY

    def topics(self) -> Collection[str]:
        return ()  # only Redis knows

    def sweep(self) -> None:
        self._pipeline.sweep()
        self._cache.expire()
        if self.bus is Bus.UP:
            self._cache.sweep(self._session)

    def _forgotten(self) -> None:
        """Redis has lost the register."""
        self._pipeline.grant_grace()
        self._cache.renew()

    async def cluster_figures(self) -> ClusterFigures:
        if self.bus is Bus.UP:
            return await self._stats.take(self._session, self.subscriptions.poisoned)
        return ClusterFigures(self.node_id, degraded=True)

    # Called by the supervisor.

    def attach(self, session: Session) -> None:
        """Redis is connected: tell it what is wanted. Commands wait on."""
        self._session = session
        self.subscriptions.attach(session)

    def detach(self) -> None:
        """Redis is lost: commands wait until it is back or the outage is declared."""
        if self.bus is Bus.UP:
            self.bus = Bus.JOINING
        self._pipeline.down()
        self.subscriptions.detach()
        if self.bus is Bus.OUT:  # it was never up
            self._give_up()

    def up(self) -> None:
        """All is subscribed and leased: commands go through Redis from here on."""
        self.bus = Bus.UP
        self._pipeline.up(self._session)
        self._report_missed()
        self._run_waiting()

    def out(self) -> None:
        """It takes too long: what waits is answered, and what comes, as REDIS_FAIL_MODE says."""
        self.bus = Bus.OUT
        self._give_up()
        self._run_waiting()

    # What may be very many is dealt with over several ticks. A change of `bus` in between ends it,
    # and the next one begins it again.

    def _report_missed(self) -> None:
        """Tell which topics may have lost events; those that get one are told ahead of it."""
        if self.bus is Bus.UP and self.subscriptions.report_missed():
            asyncio.get_running_loop().call_soon(self._report_missed)

    def _give_up(self) -> None:
        """Answer the subscribes that Redis was asked for, and does not answer."""
        if self.bus is Bus.OUT and not self.channels.attached:
            given_up = self.channels.give_up()
            for topic, done in given_up:
                self._subscribe(topic, done)
            if given_up:
                asyncio.get_running_loop().call_soon(self._give_up)

    def _run_waiting(self) -> None:
        """Carry out the commands that wait; what comes meanwhile waits behind them."""
        for _ in range(TURN):
            if not self._waiting or self.bus is Bus.JOINING:
                return
            try:
                self._waiting[0]()  # it stays first while it runs: what it sets off comes behind
            finally:
                self._waiting.popleft()
        asyncio.get_running_loop().call_soon(self._run_waiting)
