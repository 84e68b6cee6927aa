"""Publishes on their way through Redis: their order, what becomes of each, and none of them twice.

State: the session that they go through, while there is one, and the keys of those that were served
without. An event that Redis has taken is owed until it comes back (hub/redis/envelope.py).
"""

import asyncio
from functools import partial
from typing import Any, Final

import orjson

from hub.brokers.base import BrokerEvents, PublishDone, PublishResult
from hub.brokers.idempotency import FirstPublish, IdempotencyKeys
from hub.errors import ErrorCode, Refusal
from hub.redis.channels import Channels
from hub.redis.envelope import EVENT, PLACED, Sender
from hub.redis.history_cache import HistoryCache
from hub.redis.session import Session
from hub.values import Position, Rule

# Bytes of an encoded event. Redis cuts a subscriber for whom 8 MB have waited for a minute, or
# 32 MB at once (client-output-buffer-limit pubsub): every node would lose its subscriptions.
MAX_EVENT: Final = 8_388_608

AWAY: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis cannot be reached: try again")
_UNSURE: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis was lost: it may have been delivered")
_DEGRADED: Final = PublishResult(degraded=True)
_TOO_LARGE: Final = Refusal(
    ErrorCode.INVALID_MESSAGE,
    f"The event is too large for Redis: at most {MAX_EVENT} bytes of JSON are allowed",
)


class PublishPipeline:
    """Sends what is published, or serves it without Redis, each in its turn."""

    def __init__(
        self,
        node_id: str,
        sender: Sender,
        channels: Channels,
        cache: HistoryCache,
        *,
        strict: bool,
        grace: float,
    ) -> None:
        """`grace`: seconds after a connect in which other nodes may not have their leases yet."""
        self._node_id = node_id
        self._sender = sender
        self._channels = channels
        self._cache = cache
        self._strict = strict
        self._grace = grace
        self._events: BrokerEvents
        self._session: Session | None = None
        self._graces = 0  # that are under way
        clock = asyncio.get_running_loop().time
        self._served = IdempotencyKeys(clock)  # without Redis, which does not know of them
        self._taken = IdempotencyKeys(clock)  # by Redis: for repetitions while it is away

    def serve(self, events: BrokerEvents) -> None:
        """Set the hub that receives the events; called once, before anything else."""
        self._events = events

    def up(self, session: Session) -> None:
        """Publishes go through Redis from here on."""
        self._session = session
        self.grant_grace()

    def down(self) -> None:
        """The session is over: what is still unanswered does not come back either."""
        self._session = None

    def sweep(self) -> None:
        """Forget the keys that have run out."""
        self._served.sweep()
        self._taken.sweep()

    def grant_grace(self) -> None:
        """For a while other nodes may be about to write their leases: refuse no topic."""
        self._graces += 1
        asyncio.get_running_loop().call_later(self._grace, self._end_grace)

    def _end_grace(self) -> None:
        self._graces -= 1

    @property
    def force(self) -> int:
        """1 while an unknown topic is published all the same."""
        return 1 if self._graces else 0

    def publish(self, topic: str, event: bytes, done: PublishDone, *once: str | bytes) -> None:
        """Send an event; `once` is its key and what is to be remembered for that."""
        session = self._session
        if len(event) > MAX_EVENT:
            done(_TOO_LARGE)
        elif (rule := self._cache.rule(topic)) is not None:
            self._append(topic, event, rule, done, *once)
        elif session is not None:
            seq, envelope = self._sender.seal(EVENT, event)
            session.commands.send(
                partial(self._published, session, topic, event, seq, done),
                "EVALSHA",
                session.shas.publish,
                0,
                topic,
                self._node_id,
                envelope,
                self.force,
                *once,
            )
        elif self._strict:
            done(AWAY)
        else:
            self._events.deliver(topic, event)
            done(_DEGRADED)

    def _append(
        self, topic: str, event: bytes, rule: Rule, done: PublishDone, *once: str | bytes
    ) -> None:
        """The same for a topic with history, which has no offset to give without Redis."""
        session = self._session
        if session is None:
            done(AWAY)
            return
        _, head = self._sender.seal(PLACED)
        session.commands.send(
            partial(self._appended, session, topic, done),
            "EVALSHA",
            session.shas.append,
            0,
            topic,
            self._node_id,
            head,
            self.force,
            event,
            self._cache.new_epoch(),
            rule.size,
            int(rule.ttl * 1_000),
            rule.max_bytes,
            *once,
        )

    def publish_once(
        self, topic: str, event: bytes, done: PublishDone, *, key: str, first: FirstPublish
    ) -> None:
        """Send it unless a publish to the topic had this key: Redis knows, or this node does."""
        known = self._served.get(topic, key)
        if known is None and self._session is None:
            known = self._taken.get(topic, key)
        if known is not None:
            done(PublishResult(first=known, position=known.position))
            return

        def taken(result: PublishResult | Refusal) -> None:
            if isinstance(result, PublishResult) and result.first is None:
                known = first._replace(position=result.position)
                (self._served if result.degraded else self._taken).remember(topic, key, known)
            done(result)

        self.publish(topic, event, taken, key, orjson.dumps([first.message_id, first.receivers]))

    def _published(
        self, session: Session, topic: str, event: bytes, seq: int, done: PublishDone, reply: Any
    ) -> None:
        if type(reply) is bytes:
            done(_repeated(reply))
        elif type(reply) is not int:
            session.check(reply)
            if not self._strict:
                self._serve(topic, event, seq)
            done(_UNSURE if self._strict else _DEGRADED)
        elif reply < 0:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, f"Topic '{topic}' does not exist"))
        else:
            if session is not self._session:
                self._serve(topic, event, seq)
            elif topic in self._channels:
                self._sender.owe(seq, topic, event)
            done(PublishResult(nodes=reply))

    def _appended(self, session: Session, topic: str, done: PublishDone, reply: Any) -> None:
        if type(reply) is list:
            nodes, epoch, offset = reply
            done(PublishResult(nodes=nodes, position=Position(epoch.decode(), offset)))
        elif type(reply) is bytes:
            done(_repeated(reply))
        elif type(reply) is int:
            done(Refusal(ErrorCode.TOPIC_NOT_FOUND, f"Topic '{topic}' does not exist"))
        else:
            session.check(reply)
            done(_UNSURE)

    def _serve(self, topic: str, event: bytes, seq: int) -> None:
        """Deliver an own event that does not come back any more, unless it has."""
        if self._sender.serve(seq):
            self._events.deliver(topic, event)


def _repeated(answer: bytes) -> PublishResult:
    """What Redis remembers of a publish that had the same key."""
    nodes, epoch, offset, first = answer.split(b" ", 3)
    position = Position(epoch.decode(), int(offset)) if epoch != b"-" else None
    message_id, receivers = orjson.loads(first)
    remembered = FirstPublish(message_id, receivers, position)
    return PublishResult(nodes=int(nodes), first=remembered, position=position)
