"""Keeps the broker connected to Redis, and finds out when it is not, whatever Redis says.

State: the beats of the session under way. A beat is a script that renews the node's leases and
publishes to the node itself: one that is answered and comes back proves the way out, the way in,
and that the server is a master that takes writes.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sized
from functools import partial
from typing import Any, Final

from hub.redis.address import RedisAddress
from hub.redis.broker import Bus, RedisBroker
from hub.redis.connection import RedisConnection
from hub.redis.outage import Outage
from hub.redis.scripts import scripts_for
from hub.redis.sentinel import leave_time, moved_master, wait_for
from hub.redis.session import FAILURES, Session, open_session

log = logging.getLogger(__name__)

BEAT: Final = 1.0  # seconds between two beats, and between two looks at the sentinels
MISSED: Final = 3  # beats under way that nothing is heard of: Redis is frozen, or the way is cut
PATIENCE: Final = 1.5  # seconds that commands wait for a lost Redis, before they are an outage's
BACKOFF: Final = 1.0  # seconds between two attempts to connect, at most

_DIGITS: Final = 16  # of a beat's number, at most


class Supervisor:
    """One task for the life of the server."""

    def __init__(
        self,
        broker: RedisBroker,
        address: RedisAddress,
        clients: Sized,
        *,
        beat: float = BEAT,
        patience: float = PATIENCE,
    ) -> None:
        """`clients`: those of this node, counted with every beat. Times are in seconds."""
        self._pause = beat
        self.patience = patience
        self._broker = broker
        self._address = address
        self._clients = clients
        self._scripts = scripts_for(broker.keys)
        self._channel = broker.keys.node(broker.node_id)
        self.settled = asyncio.Event()  # joined, or an outage declared, for the first time
        self._session: Session | None = None  # the newest that was opened
        self._sent = self._answered = self._returned = 0  # beats
        self._subscribed = False  # whether all that was asked for at the start is
        self._news = asyncio.Event()  # something of the above has changed, or the session is lost
        clock = asyncio.get_running_loop().time
        self._outage = Outage(address, clock, strict=broker.strict, remembers=broker.remembers)
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        attempt = 0
        self._expect_outage()
        try:
            while True:
                if await self._attempt():
                    attempt = 0
                ceiling = min(BACKOFF, 0.05 * 2**attempt)
                attempt = min(attempt + 1, 10)
                await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
        finally:
            self._calm()

    async def _attempt(self) -> bool:
        """One connection, from its beginning to its end; whether it was ever of use."""
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
        except Exception as error:  # the task's edge: a fault of ours must not leave the node deaf
            why = f"a fault of this server ({type(error).__name__})"
            fault = error
        self._outage.lost(why, fault)
        if not self.settled.is_set():
            self._declare()  # a server that starts has nobody who waits
        return joined

    async def _join(self, session: Session) -> None:
        """Subscribe and write leases, all of it; then commands may go through Redis."""
        broker = self._broker
        # Counted on: a frozen Redis may yet return beats of an earlier session.
        self._answered = self._returned = self._sent
        self._subscribed = False
        session.on_lost = self._on_lost
        if session.lost.is_set():  # before anybody could hear of it
            raise ConnectionError(session.why)
        session.pushes.listen(partial(self._heard, session))
        session.pushes.say("SUBSCRIBE", self._channel)
        broker.attach(session)
        await broker.channels.all_told()
        session.pushes.say("PING")
        await self._until(session, session.pushes, lambda: self._subscribed)
        await broker.channels.all_told()  # the leases of what was confirmed
        self._beat(session)
        await self._until(session, session.commands, lambda: self._under_way == 0)
        self._calm()
        self._outage.end()
        broker.up()
        self.settled.set()
        log.info("joined the other servers through Redis at %s", self._address)

    async def _until(
        self, session: Session, connection: RedisConnection, come: Callable[[], bool]
    ) -> None:
        """Wait as long as anything is heard on the connection that it is to come on.

        Raises:
            ConnectionError, TimeoutError: it does not come.
        """
        clock = asyncio.get_running_loop().time
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
        """Beat until the session is lost, and end it where nothing is heard."""
        async with asyncio.TaskGroup() as tasks:
            if self._address.service:
                tasks.create_task(self._follow(session))
            while not session.lost.is_set():
                if self._under_way >= MISSED:
                    session.abort(f"nothing heard for {MISSED * self._pause:g} s")
                    self._declare()
                    return
                self._beat(session)
                await wait_for(session.lost, self._pause)

    async def _follow(self, session: Session) -> None:
        """End the session where the sentinels name another master."""
        master = await moved_master(self._address, session.master, session.lost, self._pause)
        if master is not None:
            session.abort(f"the sentinels name another master, {master[0]}:{master[1]}")

    @property
    def _under_way(self) -> int:
        """Beats that are not both answered and come back."""
        return self._sent - min(self._answered, self._returned)

    def _beat(self, session: Session) -> None:
        self._sent += 1
        words: list[str | int] = [self._broker.node_id, self._sent, len(self._clients)]
        for topic, count in self._broker.channels.take_counts().items():
            words += (topic, count)

        def answered(reply: Any) -> None:
            if not session.check(reply):
                return
            self._answered += 1
            self._news.set()
            if reply == 0:
                self._broker.channels.forgotten()

        session.commands.send(answered, "EVALSHA", session.shas.beat, 0, *words)

    def _heard(self, session: Session, push: list[Any]) -> None:
        if isinstance(push, Exception):
            session.abort(f"Redis refused: {push}")
        elif push[0] == b"pong":
            self._subscribed = True
            self._news.set()
        elif push[1] != self._channel:
            self._broker.subscriptions.heard(push)
        elif push[0] == b"message":
            self._beat_returned(push[2])

    def _beat_returned(self, data: bytes) -> None:
        number = int(data) if data.isdigit() and len(data) < _DIGITS else 0
        if not 0 < number <= self._sent:
            self._broker.subscriptions.poison(f"channel {self._channel!r}", data)
            return
        self._returned = max(self._returned, number)
        self._news.set()

    # What the log and the clients are told.

    def _on_lost(self) -> None:
        self._broker.detach()
        self._news.set()
        self._expect_outage()

    def _expect_outage(self) -> None:
        if self._timer is None and self._broker.bus is not Bus.OUT:
            self._timer = asyncio.get_running_loop().call_later(self.patience, self._declare)

    def _declare(self) -> None:
        self._calm()
        if self._broker.bus is not Bus.OUT:
            self._outage.declare()
            self._broker.out()
        self.settled.set()

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self, session: Session) -> None:
        """Give up what the node holds, if Redis is there to hear it."""
        keys, node = self._broker.keys, self._broker.node_id
        session.commands.send(session.check, "DEL", keys.leases(node))
        session.commands.send(session.check, "ZREM", keys.nodes, node)
