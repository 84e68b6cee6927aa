"""The broker of many servers: what is published goes through Redis and comes back from there.

State: whether Redis can be reached, and the commands that wait to know. An event takes one path, to
Redis and back to every node that is subscribed, the publisher's own included; so all see one order.
Connections, and when they are given up, are hub/redis_listener.py's.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, Final

import orjson

from hub.broker import ACCEPTED, DEGRADED, Accepted, Census, Done, Node
from hub.envelope import EVENT, Sender, unseal
from hub.errors import ErrorCode, Refusal
from hub.once import First, Once
from hub.redis_census import Figures
from hub.redis_channels import Channels
from hub.redis_register import Register
from hub.redis_scripts import Names
from hub.redis_session import Session

log = logging.getLogger(__name__)

GRACE: Final = 5.0  # seconds after a connect in which other nodes may not have their leases yet

_AWAY: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis cannot be reached: try again")
_UNSURE: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis was lost: it may have been delivered")


class Bus(Enum):
    """Whether Redis can be reached."""

    JOINING = "joining"  # not yet, or not any more, or not known: commands wait
    UP = "up"
    OUT = "out"  # an outage: REDIS_FAIL_MODE says what commands come to


class RedisBroker:
    """A `Broker` over Redis. `strict` refuses in an outage what the other mode serves locally."""

    def __init__(self, names: Names, run: bytes, *, strict: bool, grace: float = GRACE) -> None:
        """`run`: 8 bytes that no other process has. `grace`: seconds."""
        self.node_id = run.hex()
        self.bus = Bus.JOINING
        self.names = names
        self.channels = Channels(names, self.node_id, lambda topic: self._node.missed(topic))
        self.poisoned = 0  # messages on our channels that were none
        self._sender = Sender(run)
        self.strict = strict
        self._grace = grace
        self._node: Node
        self._session: Session
        self._once = Once(asyncio.get_running_loop().time)
        self._waiting: deque[Callable[[], None]] = deque()
        self._force = 0  # 1 while an unknown topic is published all the same
        self._register = Register(self.node_id, self._sender, self.channels)
        self._figures = Figures(names, self.node_id)

    @property
    def standing(self) -> Accepted | Refusal:
        if self.bus is not Bus.OUT:
            return ACCEPTED
        return _AWAY if self.strict else DEGRADED

    def serve(self, node: Node) -> None:
        self._node = node

    # Commands. Those that wait are carried out in order, and none overtakes them.

    def _in_turn(self, command: Callable[[], None]) -> None:
        if self.bus is Bus.JOINING or self._waiting:
            self._waiting.append(command)
        else:
            command()

    def publish(self, topic: str, event: bytes, done: Done) -> None:
        self._in_turn(partial(self._publish, topic, event, done))

    def _publish(self, topic: str, event: bytes, done: Done, *once: str | bytes) -> None:
        if self.bus is Bus.UP:
            seq, envelope = self._sender.seal(EVENT, event)
            self._session.publisher.send(
                partial(self._published, topic, event, seq, done),
                "EVALSHA",
                self._session.shas.publish,
                0,
                topic,
                self.node_id,
                envelope,
                self._force,
                *once,
            )
        elif self.strict:
            done(_AWAY)
        else:
            self._node.deliver(topic, event)
            done(DEGRADED)

    def publish_once(self, topic: str, event: bytes, done: Done, key: str, first: First) -> None:
        if known := self._once.first(topic, key):  # what was served without Redis: it has it not
            done(Accepted(first=known))
            return

        def taken(outcome: Accepted | Refusal) -> None:
            if isinstance(outcome, Accepted) and outcome.degraded:
                self._once.remember(topic, key, first)
            done(outcome)

        self._in_turn(partial(self._publish, topic, event, taken, key, orjson.dumps([*first])))

    def _published(self, topic: str, event: bytes, seq: int, done: Done, reply: Any) -> None:
        if type(reply) is bytes:
            nodes, _, first = reply.partition(b" ")
            done(Accepted(nodes=int(nodes), first=First(*orjson.loads(first))))
        elif type(reply) is not int:
            self._session.check(reply)
            if not self.strict:
                self._serve(topic, event, seq)
            done(_UNSURE if self.strict else DEGRADED)
        elif reply < 0:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, f"Topic '{topic}' does not exist"))
        else:
            if self.bus is not Bus.UP:
                self._serve(topic, event, seq)
            elif topic in self.channels:
                self._sender.owe(seq, topic, event)
            done(Accepted(nodes=reply))

    def _serve(self, topic: str, event: bytes, seq: int) -> None:
        """Deliver an own event that does not come back any more, unless it has."""
        if self._sender.serve(seq):
            self._node.deliver(topic, event)

    def subscribe(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._subscribe, topic, done))

    def _subscribe(self, topic: str, done: Done) -> None:
        if self.bus is Bus.UP:
            self.channels.want(topic, done)
            return
        if not self.strict:
            self.channels.hold(topic)
        done(self.standing)

    def unsubscribe(self, topic: str) -> None:
        self.channels.drop(topic)

    def counted(self, topic: str, subscribers: int) -> None:
        self.channels.count(topic, subscribers)

    def create(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._change, self._register.create, topic, done))

    def delete(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._change, self._register.delete, topic, done))

    def _change(self, change: Callable[[Session, str, Done], None], topic: str, done: Done) -> None:
        """Change the register, which only Redis can: nothing is served locally."""
        if self.bus is Bus.UP:
            change(self._session, topic, done)
        else:
            done(_AWAY)

    # What Redis says.

    def heard(self, push: list[Any]) -> None:
        """A push on the subscribed connection, of a topic."""
        if push[0] == b"message":
            _, channel, data = push
            topic = self.names.topic(channel)
            envelope = unseal(data)
            if envelope is None or topic is None:
                self._poison(channel, data)
            elif not self._sender.is_news(envelope):
                return
            elif envelope.kind == EVENT:
                self._node.deliver(topic, envelope.event)
            else:
                self._deleted(topic)
        elif push[0] == b"subscribe":
            self.channels.confirmed(push[1])

    def _deleted(self, topic: str) -> None:
        if self.channels.deleted(topic):
            self._node.deleted(topic)
        self._register.returned(topic)

    def _poison(self, channel: bytes, data: bytes) -> None:
        self.poisoned += 1
        if self.poisoned == 1:
            text = "dropped a message on Redis' channel %r that is none of ours (told once): %.60r"
            log.warning(text, channel, data)

    # Figures.

    def topics(self) -> Iterable[str]:
        return self._figures.newest.explicit

    async def census(self) -> Census:
        if self.bus is Bus.UP:
            return await self._figures.take(self._session, self.poisoned)
        return Census(self.node_id, degraded=True)

    # What the listener says.

    def attach(self, session: Session) -> None:
        """Redis is connected: tell it what is wanted. Commands wait on."""
        self._session = session
        self.channels.attach(session)

    def detach(self) -> None:
        """Redis is lost: commands wait until it is back or the outage is declared."""
        if self.bus is Bus.UP:
            self.bus = Bus.JOINING
        self.channels.detach()
        self._register.lost()
        for topic, event in self._sender.take_owed():
            self._node.deliver(topic, event)

    def up(self) -> None:
        """All is subscribed and leased: commands go through Redis from here on."""
        self.bus = Bus.UP
        self.grant_grace()
        self._run_waiting()

    def out(self) -> None:
        """It takes too long: what waits is answered, and what comes, as REDIS_FAIL_MODE says."""
        self.bus = Bus.OUT
        for topic, done in self.channels.give_up():
            self._subscribe(topic, done)
        self._run_waiting()

    def _run_waiting(self) -> None:
        while self._waiting and self.bus is not Bus.JOINING:
            self._waiting[0]()  # it stays first while it runs: what it sets off comes behind
            self._waiting.popleft()

    def grant_grace(self) -> None:
        """For a while other nodes may be about to write their leases: refuse no topic."""
        self._force += 1
        asyncio.get_running_loop().call_later(self._grace, self._end_grace)

    def _end_grace(self) -> None:
        self._force -= 1
