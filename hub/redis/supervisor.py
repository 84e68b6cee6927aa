"""Keep the broker connected to Redis, and notice when it is not.

State: the current session and its beats, and the timer until an outage is declared.
"""

import asyncio
import random
from collections.abc import Callable, Sized
from functools import partial
from time import perf_counter
from typing import Any, Final

from hub.brokers.base import OutageReason
from hub.redis.address import RedisAddress
from hub.redis.broker import Bus, RedisBroker
from hub.redis.connection import RedisConnection
from hub.redis.outage_log import OutageLog
from hub.redis.scripts import scripts_for
from hub.redis.sentinel import leave_time, moved_master, wait_for
from hub.redis.session import FAILURES, Session, open_session, reason_of

BEAT: Final = 1.0  # seconds between two beats, and between two questions to the sentinels
MISSED: Final = 3  # outstanding beats at which the session is ended
PATIENCE: Final = 1.5  # seconds from the loss of Redis until an outage is declared
BACKOFF: Final = 1.0  # maximum of the seconds between two attempts to connect

_DIGITS: Final = 16  # most digits of the number of a beat


class Supervisor:
    """Connects the broker, watches the connection, and connects again; one task runs it.

    An attempt opens a session (hub/redis/session.py) and joins: subscribe to every topic, wait for
    the confirmations, read the bans, write every lease, and send a first beat. When the beat has
    come back, the broker is up.

    A beat is a script that renews the node's leases and publishes to the node itself. A beat that
    is answered on one connection and comes back on the other proves that both directions work and
    that the server is a master that accepts writes. One is sent every `beat` seconds. A session
    ends when MISSED beats are outstanding, when Redis refuses a command, when the sentinels name
    another master, or when a connection is lost; the next attempt follows after up to BACKOFF
    seconds.

    When a session is lost the broker queues commands. An outage is declared after `patience`
    seconds, at once if MISSED beats are outstanding, and at the start if the first attempt fails.
    The next join ends it.
    """

    def __init__(
        self,
        broker: RedisBroker,
        address: RedisAddress,
        clients: Sized,
        *,
        beat: float = BEAT,
        patience: float = PATIENCE,
    ) -> None:
        """Create a supervisor; `run` starts it.

        Args:
            broker: is told about each session and its loss.
            address: of Redis.
            clients: those of this node; their number is sent with each beat.
            beat: seconds between two beats.
            patience: seconds from the loss of Redis until an outage is declared.
        """
        self._pause = beat
        self.patience = patience
        self._broker = broker
        self._address = address
        self._clients = clients
        self._scripts = scripts_for(broker.keys)
        self._channel = broker.keys.node(broker.node_id)
        # By channel; every other channel is a topic's.
        self._receivers: dict[bytes, Callable[[bytes], None]] = {
            self._channel: self._beat_returned,
            broker.control.channel: broker.control.receive,
            broker.questions.channel: broker.questions.receive,
        }
        self.settled = asyncio.Event()  # set when joined, or when an outage is declared
        self._session: Session | None = None  # the newest one
        self._sent = self._answered = self._returned = 0  # beats, by number
        self._sent_at: dict[int, float] = {}  # times of the beats that have not come back
        self._confirmed = False  # whether the subscribes of the join are confirmed
        self._news = asyncio.Event()  # one of these changed, or the session is lost
        self._clock = asyncio.get_running_loop().time
        self._outage_log = OutageLog(
            address, self._clock, strict=broker.strict, remembers=broker.remembers
        )
        self._reason: OutageReason | None = None  # the first one since Redis was last connected
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Connect, and reconnect, until cancelled."""
        attempt = 0
        self._start_timer()
        try:
            while True:
                if await self._attempt():
                    attempt = 0
                ceiling = min(BACKOFF, 0.05 * 2**attempt)
                attempt = min(attempt + 1, 10)
                await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
        finally:
            self._stop_timer()

    async def _attempt(self) -> bool:
        """Run one session, from its start to its end; return whether it joined."""
        joined = False
        why = ""
        fault: Exception | None = None
        try:
            name = f"ws-{self._broker.node_id}"
            before = self._session
            session = await open_session(self._address, self._scripts, name, before)
            self._session = session
            try:
                if before is not None and before.master != session.master:
                    await wait_for(session.lost, leave_time(self._address, self._pause))
                await self._join(session)
                joined = True
                await self._watch(session)
            except asyncio.CancelledError:
                self._leave(session)
                raise
            finally:
                await session.finish()
            why = session.why
        except FAILURES as error:
            why = str(error) or f"no answer ({type(error).__name__})"
            self._note(reason_of(error))
        except Exception as error:
            # A fault of the server may be any exception. If it ended this task, the node would
            # never connect again.
            why = f"a fault of this server ({type(error).__name__})"
            fault = error
            self._note(reason_of(error))
        self._outage_log.lost(why, fault)
        if not self.settled.is_set():
            self._declare()  # at the start: there are no commands to queue
        return joined

    async def _join(self, session: Session) -> None:
        """Subscribe to everything and write all leases; then the broker is up.

        The pong follows all confirmations, each of which sent a repair; the beat's answer follows
        those. So histories are up to date before queued subscribes run.
        """
        broker = self._broker
        # Not reset to 0: a frozen Redis may still return beats of an earlier session.
        self._answered = self._returned = self._sent
        self._sent_at.clear()
        self._confirmed = False
        session.on_lost = partial(self._on_lost, session)
        if session.lost.is_set():  # before `on_lost` was set
            raise ConnectionError(session.why)
        session.pushes.listen(partial(self._receive, session))
        session.pushes.say("SUBSCRIBE", *self._receivers)
        broker.attach(session)
        await broker.channels.flushed()
        session.pushes.say("PING")
        await self._until(session, session.pushes, lambda: self._confirmed)
        await broker.control.join(session, MISSED * self._pause)
        await broker.channels.flushed()  # the leases of the confirmed topics
        self._beat(session)
        await self._until(session, session.commands, lambda: self._outstanding == 0)
        self._stop_timer()
        self._reason = None
        self._outage_log.end()
        broker.up()
        self.settled.set()

    async def _until(
        self, session: Session, connection: RedisConnection, come: Callable[[], bool]
    ) -> None:
        """Wait until `come()` is true, as long as the connection receives data.

        Raises:
            ConnectionError: the session is lost.
            TimeoutError: nothing was received for the time of MISSED beats.
        """
        clock = self._clock
        connection.heard = clock()
        while not session.lost.is_set():
            if come():
                return
            self._news.clear()
            left = connection.heard + MISSED * self._pause - clock()
            if left <= 0:
                raise TimeoutError
            await wait_for(self._news, left)
        raise ConnectionError(session.why)

    async def _watch(self, session: Session) -> None:
        """Beat until the session is lost; end it if MISSED beats are outstanding."""
        async with asyncio.TaskGroup() as tasks:
            if self._address.service:
                tasks.create_task(self._follow(session))
            while not session.lost.is_set():
                if self._outstanding >= MISSED:
                    why = f"nothing heard for {MISSED * self._pause:g} s"
                    session.abort(why, OutageReason.TIMEOUT)
                    self._outage_log.lost(why)
                    self._declare()
                    return
                self._beat(session)
                await wait_for(session.lost, self._pause)

    async def _follow(self, session: Session) -> None:
        """End the session if the sentinels name another master."""
        master = await moved_master(self._address, session.master, session.lost, self._pause)
        if master is not None:
            why = f"the sentinels name another master, {master[0]}:{master[1]}"
            session.abort(why, OutageReason.FAILOVER)

    @property
    def _outstanding(self) -> int:
        """The number of beats that are not answered, or have not come back."""
        return self._sent - min(self._answered, self._returned)

    def _beat(self, session: Session) -> None:
        self._sent += 1
        # Not the loop's clock, which has a resolution of a millisecond.
        sent_at = self._sent_at[self._sent] = perf_counter()
        words: list[str | int] = [self._broker.node_id, self._sent, len(self._clients)]
        for topic, count in self._broker.channels.take_counts().items():
            words += (topic, count)

        def answered(reply: Any) -> None:
            if not session.check(reply):
                return
            self._answered += 1
            self._broker.events.broker_answered(perf_counter() - sent_at)
            self._news.set()
            if reply == 0:
                self._broker.channels.leases_lost()

        session.commands.send(answered, "EVALSHA", session.shas.beat, 0, *words)

    def _receive(self, session: Session, push: list[Any]) -> None:
        if isinstance(push, Exception):
            session.abort(f"Redis refused: {push}", OutageReason.UNUSABLE)
        elif push[0] == b"pong":
            self._confirmed = True
            self._news.set()
        elif (receive := self._receivers.get(push[1])) is None:
            self._broker.subscriptions.receive(push)
        elif push[0] == b"message":
            receive(push[2])

    def _beat_returned(self, data: bytes) -> None:
        number = int(data) if data.isdigit() and len(data) < _DIGITS else 0
        if not 0 < number <= self._sent:
            self._broker.poison.drop(f"channel {self._channel!r}", data)
            return
        self._returned = max(self._returned, number)
        sent_at = self._sent_at.pop(number, None)
        if sent_at is not None:
            self._broker.round_trip = perf_counter() - sent_at
            self._broker.events.broker_returned(self._broker.round_trip)
        self._news.set()

    # Outages.

    def _on_lost(self, session: Session) -> None:
        self._note(session.reason)
        self._broker.detach()
        self._news.set()
        self._start_timer()

    def _note(self, reason: OutageReason) -> None:
        """Record the first reason for a loss of Redis; later ones follow from it."""
        if self._reason is None:
            self._reason = reason

    def _start_timer(self) -> None:
        if self._timer is None and self._broker.bus is not Bus.OUT:
            self._timer = asyncio.get_running_loop().call_later(self.patience, self._declare)

    def _declare(self) -> None:
        self._stop_timer()
        if self._broker.bus is not Bus.OUT:
            # Without a reason, the first attempt to connect is under way.
            reason = self._reason or OutageReason.TIMEOUT
            self._outage_log.declare(reason)
            self._broker.out(reason)
        self.settled.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self, session: Session) -> None:
        """Delete the node's leases, if Redis is still connected."""
        keys, node = self._broker.keys, self._broker.node_id
        session.commands.send(session.check, "DEL", keys.leases(node))
        session.commands.send(session.check, "ZREM", keys.nodes, node)
