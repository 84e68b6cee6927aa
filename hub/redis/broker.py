"""The broker of a server that shares Redis with others.

State: whether Redis can be reached, and the commands that are queued until that is known.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from functools import partial
from typing import Final

from hub.brokers.base import (
    SUBSCRIBED,
    Asked,
    BrokerEvents,
    ClusterStats,
    DisconnectEvents,
    NotifiedDone,
    OutageReason,
    PublishDone,
    QuestionEvents,
    SubscribeDone,
    SubscribeResult,
    TopicDone,
)
from hub.brokers.history import History, HistoryBudget
from hub.brokers.idempotency import FirstPublish
from hub.errors import Refusal
from hub.logs import events
from hub.redis.batching import TURN
from hub.redis.channels import Channels
from hub.redis.cluster_stats import ClusterStatsReader
from hub.redis.control import Control
from hub.redis.envelope import Sender
from hub.redis.history_cache import HistoryCache
from hub.redis.keys import Keys
from hub.redis.poison import Poison
from hub.redis.publish_pipeline import AWAY, PublishPipeline
from hub.redis.questions import Questions
from hub.redis.session import Session
from hub.redis.subscriptions import Subscriptions
from hub.redis.topic_registry import TopicRegistry
from hub.values import Json, Position

GRACE: Final = 5.0  # seconds after a connect during which other nodes may lack their leases


class Bus(Enum):
    """The state of the connection to Redis."""

    JOINING = "joining"  # not connected, and no outage declared: commands are queued
    UP = "up"
    OUT = "out"  # an outage: commands are answered as REDIS_FAIL_MODE says


class RedisBroker:
    """A `Broker` that carries events between nodes through Redis.

    An event takes one path: to Redis, and from there to every node that is subscribed, including
    the one that published it. So all subscribers see the same order.

    The supervisor (hub/redis/supervisor.py) connects, and reports the state of the connection:

        JOINING -- attach, up --> UP        commands go through Redis
        UP -- detach --> JOINING            commands are queued
        JOINING -- out --> OUT              commands are served locally, or refused
        OUT -- attach, up --> UP

    Queued commands are carried out in order, and later commands queue after them.
    """

    def __init__(
        self,
        keys: Keys,
        run: bytes,
        cache: HistoryCache,
        *,
        strict: bool,
        grace: float = GRACE,
    ) -> None:
        """Create a broker that is not connected.

        Args:
            keys: the names of keys and channels.
            run: 8 bytes that identify this process.
            cache: the histories.
            strict: whether commands are refused in an outage, and not served locally.
            grace: seconds after a connect during which publishes to unknown topics are accepted.
        """
        self.node_id = run.hex()
        self.bus = Bus.JOINING
        self.keys = keys
        self.strict = strict
        self.remembers = cache.remembers  # whether any topic has a history
        self.channels = Channels(keys, self.node_id, self._leases_lost)
        self._cache = cache
        sender = Sender(run)
        self.poison = Poison()
        self.subscriptions = Subscriptions(
            keys, sender, self.channels, cache, self.poison, self.subscribe
        )
        self._pipeline = PublishPipeline(
            self.node_id, sender, self.channels, cache, strict=strict, grace=grace
        )
        self._registry = TopicRegistry(self.node_id, sender, self.channels, self.subscriptions)
        self.control = Control(keys, sender, self.poison)
        self.questions = Questions(keys, self.node_id, sender, self.poison)
        self.round_trip: float | None = None  # of the newest beat that came back, in seconds
        self._stats = ClusterStatsReader(keys, self.node_id)
        self.events: BrokerEvents
        self._session: Session
        self._backlog: deque[Callable[[], None]] = deque()

    def _standing(self, topic: str) -> SubscribeResult | Refusal:
        """Return the result of a subscribe that needs no call to Redis."""
        if self.bus is not Bus.OUT:
            return SUBSCRIBED
        return AWAY if self._is_strict(topic) else SubscribeResult(degraded=True)

    def _is_strict(self, topic: str) -> bool:
        """Return whether a topic is refused in an outage.

        A topic with a history always is, since only Redis can assign offsets.
        """
        return self.strict or self._cache.rule(topic) is not None

    @property
    def degraded(self) -> bool:
        return self.bus is Bus.OUT

    @property
    def reachable(self) -> bool:
        return self.bus is Bus.UP

    def serve(self, events: BrokerEvents) -> None:
        self.events = events
        self._pipeline.serve(events)
        self._cache.serve(events, self.poison)
        self.subscriptions.serve(events)

    def serve_disconnects(self, events: DisconnectEvents) -> None:
        self.control.serve(events)

    def serve_questions(self, events: QuestionEvents) -> None:
        self.questions.serve(events)

    def join(self, topic: str, done: SubscribeDone) -> None:
        self._in_turn(lambda: done(self._standing(topic)))

    # Commands, in order.

    def _in_turn(self, command: Callable[[], None]) -> None:
        if self.bus is Bus.JOINING or self._backlog:
            self._backlog.append(command)
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

    def set_subscriber_count(self, topic: str, subscribers: int) -> None:
        self.channels.count(topic, subscribers)

    def create(self, topic: str, done: TopicDone) -> None:
        self._in_turn(partial(self._change, self._registry.create, topic, done))

    def delete(self, topic: str, done: TopicDone) -> None:
        self._in_turn(partial(self._change, self._registry.delete, topic, done))

    def _change(
        self, change: Callable[[Session, str, TopicDone, int], None], topic: str, done: TopicDone
    ) -> None:
        """Change the registry of topics; refused without Redis, in both modes."""

        def changed(refusal: Refusal | None) -> None:
            self._stats.forget()  # so that the next statistics include the change
            done(refusal)

        if self.bus is Bus.UP:
            change(self._session, topic, changed, self._pipeline.force)
        else:
            done(AWAY)

    # Disconnects.

    def disconnect(self, subject: str, client_id: str, done: NotifiedDone) -> None:
        notify = partial(self.control.disconnect, subject=subject, client_id=client_id)
        self._in_turn(partial(self._notify, notify, done))

    def ban(self, subject: str, end: float, done: NotifiedDone) -> None:
        notify = partial(self.control.ban, bans={subject: end})
        self._in_turn(partial(self._notify, notify, done))

    def _notify(self, notify: Callable[..., None], done: NotifiedDone) -> None:
        """Notify the other nodes through Redis; without Redis, report that they were not."""
        if self.bus is Bus.UP:
            notify(self._session, done=done)
        else:
            done(False)

    # Histories, topics and stats.

    @property
    def history_budget(self) -> HistoryBudget:
        return self._cache.budget

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
        return ()  # Redis has them: see `cluster_stats`

    def sweep(self) -> None:
        self._pipeline.sweep()
        self._cache.drop_expired()
        if self.bus is Bus.UP:
            self._cache.extend_due(self._session)

    def _leases_lost(self) -> None:
        """Handle the loss of this node's leases: those of other nodes may be lost, too."""
        self._pipeline.grant_grace()
        self._cache.renew()
        self.control.forgotten(self._session)

    async def cluster_stats(self) -> ClusterStats:
        if self.bus is Bus.UP:
            return await self._stats.read(self._session, self.poison.count)
        return ClusterStats(self.node_id, degraded=True)

    async def ask(self, question: Json, start: str) -> Asked:
        if self.bus is Bus.UP:
            return await self.questions.ask(question, start)
        return Asked(degraded=True)

    # Called by the supervisor.

    def attach(self, session: Session) -> None:
        """Handle a new session: subscribe and write leases. Commands stay queued."""
        self._session = session
        self.subscriptions.attach(session)
        self.questions.attach(session)

    def detach(self) -> None:
        """Handle the loss of the session: queue commands until Redis is back, or is given up."""
        if self.bus is Bus.UP:
            self.bus = Bus.JOINING
        self._pipeline.down()
        self.subscriptions.detach()
        self.questions.detach()
        self.round_trip = None
        if self.bus is Bus.OUT:  # lost before it was up
            self._give_up()

    def up(self) -> None:
        """Send commands through Redis, now that everything is subscribed and leased."""
        outage = self.bus is Bus.OUT
        self.bus = Bus.UP
        if outage:
            self.events.broker_back()
        self._pipeline.up(self._session)
        self._report_missed()
        self._run_backlog()

    def out(self, reason: OutageReason) -> None:
        """Declare an outage: answer queued and new commands as REDIS_FAIL_MODE says."""
        self.bus = Bus.OUT
        self.events.broker_lost(reason)
        self._give_up()
        self._run_backlog()

    # These methods may handle very many topics and commands, so they take several ticks. A change
    # of `bus` ends them early, and the next change starts them again.

    def _report_missed(self) -> None:
        """Report the topics that may have missed events."""
        if self.bus is Bus.UP and self.subscriptions.report_missed():
            asyncio.get_running_loop().call_soon(self._report_missed)

    def _give_up(self) -> None:
        """Answer the subscribes that Redis has not answered."""
        if self.bus is Bus.OUT and not self.channels.attached:
            unconfirmed = self.channels.take_unconfirmed()
            for topic, done in unconfirmed:
                self._subscribe(topic, done)
            if unconfirmed:
                asyncio.get_running_loop().call_soon(self._give_up)

    def _run_backlog(self) -> None:
        """Carry out the queued commands, in order."""
        for _ in range(TURN):
            if not self._backlog or self.bus is Bus.JOINING:
                return
            try:
                # Removed after it has run, so that commands that it sends queue after it.
                self._backlog[0]()
            except Exception as fault:
                # A fault of the server may be any exception. It must not stop the other commands.
                events.COMMAND_FAULT.log(fault)
            finally:
                self._backlog.popleft()
        asyncio.get_running_loop().call_soon(self._run_backlog)
