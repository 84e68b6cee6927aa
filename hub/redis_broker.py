"""The broker of many servers: what is published goes through Redis and comes back from there.

State: whether Redis can be reached, and the commands that wait to know. An event takes one path, to
Redis and back to every node that is subscribed, the publisher's own included; so all see one order.
Connections, and when they are given up, are hub/redis_listener.py's.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, Final

from hub.broker import ACCEPTED, DEGRADED, Accepted, Census, Done, Node
from hub.envelope import EVENT, Sender, unseal
from hub.errors import Refusal
from hub.once import First
from hub.redis_census import Figures
from hub.redis_channels import Channels
from hub.redis_publisher import AWAY, Publisher
from hub.redis_register import Register
from hub.redis_scripts import Names
from hub.redis_session import Session

log = logging.getLogger(__name__)

GRACE: Final = 5.0  # seconds after a connect in which other nodes may not have their leases yet


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
        self.strict = strict
        self.poisoned = 0  # messages on our channels that were none
        self.channels = Channels(names, self.node_id, lambda: self._publisher.grant_grace())
        self._sender = Sender(run)
        self._publisher = Publisher(
            self.node_id, self._sender, self.channels, strict=strict, grace=grace
        )
        self._register = Register(self.node_id, self._sender, self.channels, self._deleted)
        self._figures = Figures(names, self.node_id)
        self._node: Node
        self._session: Session
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def _standing(self) -> Accepted | Refusal:
        """What a command comes to that needs no Redis."""
        if self.bus is not Bus.OUT:
            return ACCEPTED
        return AWAY if self.strict else DEGRADED

    @property
    def degraded(self) -> bool:
        return self.bus is Bus.OUT

    def serve(self, node: Node) -> None:
        self._node = node
        self._publisher.serve(node)

    def join(self, done: Done) -> None:
        self._in_turn(lambda: done(self._standing))

    # Commands. Those that wait are carried out in order, and none overtakes them.

    def _in_turn(self, command: Callable[[], None]) -> None:
        if self.bus is Bus.JOINING or self._waiting:
            self._waiting.append(command)
        else:
            command()

    def publish(self, topic: str, event: bytes, done: Done) -> None:
        self._in_turn(partial(self._publisher.publish, topic, event, done))

    def publish_once(self, topic: str, event: bytes, done: Done, key: str, first: First) -> None:
        self._in_turn(partial(self._publisher.publish_once, topic, event, done, key, first))

    def subscribe(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._subscribe, topic, done))

    def _subscribe(self, topic: str, done: Done) -> None:
        if self.channels.attached:
            self.channels.want(topic, done)
            return
        if not self.strict:
            self.channels.hold(topic)
        done(self._standing)

    def unsubscribe(self, topic: str) -> None:
        self.channels.drop(topic)

    def counted(self, topic: str, subscribers: int) -> None:
        self.channels.count(topic, subscribers)

    def create(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._change, self._register.create, topic, done))

    def delete(self, topic: str, done: Done) -> None:
        self._in_turn(partial(self._change, self._register.delete, topic, done))

    def _change(
        self, change: Callable[[Session, str, Done, int], None], topic: str, done: Done
    ) -> None:
        """Change the register, which only Redis can: nothing is served locally."""

        def changed(outcome: Accepted | Refusal) -> None:
            self._figures.forget()  # whoever made the change sees it
            done(outcome)

        if self.bus is Bus.UP:
            change(self._session, topic, changed, self._publisher.force)
        else:
            done(AWAY)

    # What Redis says.

    def heard(self, push: list[Any]) -> None:
        """A push on the subscribed connection, of a topic."""
        if push[0] == b"message":
            _, channel, data = push
            topic = self.names.topic(channel)
            envelope = unseal(data)
            if envelope is None or topic is None or self._sender.is_forged(envelope):
                self.poison(channel, data)
            elif not self._sender.is_news(envelope):
                return
            else:
                if topic in self.channels.unsure:
                    del self.channels.unsure[topic]
                    self._node.missed(topic)
                if envelope.kind == EVENT:
                    self._node.deliver(topic, envelope.event)
                else:
                    self._deleted(topic)
        elif push[0] == b"subscribe":
            self.channels.confirmed(push[1])

    def _deleted(self, topic: str) -> None:
        if self.channels.deleted(topic):
            self._node.deleted(topic)
        self._register.returned(topic)

    def poison(self, channel: bytes, data: bytes) -> None:
        """Something came on a channel of ours that nobody of ours has said."""
        self.poisoned += 1
        if self.poisoned == 1:
            text = "dropped a message on Redis' channel %r that is none of ours (told once): %.60r"
            log.warning(text, channel, data)

    # Figures.

    def topics(self) -> Iterable[str]:
        return ()  # only Redis knows

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
        self._publisher.down()
        for topic, event in self._sender.take_owed():
            if event is None:
                self._deleted(topic)
            else:
                self._node.deliver(topic, event)
        if self.bus is Bus.OUT:  # it was never up
            self._give_up()

    def up(self) -> None:
        """All is subscribed and leased: commands go through Redis from here on."""
        self.bus = Bus.UP
        self._publisher.up(self._session)
        while self.channels.unsure:
            self._node.missed(self.channels.unsure.popitem()[0])
        self._run_waiting()

    def out(self) -> None:
        """It takes too long: what waits is answered, and what comes, as REDIS_FAIL_MODE says."""
        self.bus = Bus.OUT
        self._give_up()
        self._run_waiting()

    def _give_up(self) -> None:
        """Answer the subscribes that Redis was asked for, and does not answer."""
        if not self.channels.attached:
            for topic, done in self.channels.give_up():
                self._subscribe(topic, done)

    def _run_waiting(self) -> None:
        while self._waiting and self.bus is not Bus.JOINING:
            try:
                self._waiting[0]()  # it stays first while it runs: what it sets off comes behind
            finally:
                self._waiting.popleft()
