"""Publish events through Redis, or deliver them locally during an outage.

State: the session, while there is one, and the idempotency keys of recent publishes.
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

# Bytes of an encoded event. Redis disconnects a subscriber whose output buffer holds 8 MB for a
# minute, or 32 MB (client-output-buffer-limit pubsub); every node would lose its subscriptions.
MAX_EVENT: Final = 8_388_608

AWAY: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis cannot be reached: try again")
_UNSURE: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis was lost: it may have been delivered")
_DEGRADED: Final = PublishResult(degraded=True)
_TOO_LARGE: Final = Refusal(
    ErrorCode.INVALID_MESSAGE,
    f"The event is too large for Redis: at most {MAX_EVENT} bytes of JSON are allowed",
)


class PublishPipeline:
    """Publishes events in order, each at most once.

    A publish is one script, whose reply says whether Redis accepted it. In a topic without history:

        accepted                       done; if the node holds the topic, the event is owed until it
                                       comes back (hub/redis/envelope.py)
        accepted, but the session is   deliver the event here: it does not come back
        over
        no reply, REDIS_FAIL_MODE=     deliver it here; the outcome is degraded
        local
        no reply, strict               refuse: it may have been delivered

    In a topic with history, a publish without a reply is refused in both modes. The history cache
    reads accepted events that did not come back.

    A publish with an idempotency key is answered by Redis if Redis knows the key. The node also
    remembers the keys of its own publishes: of those without Redis, and for outages of the others.
    """

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
        """`grace`: seconds after a connect during which unknown topics are not refused."""
        self._node_id = node_id
        self._sender = sender
        self._channels = channels
        self._cache = cache
        self._strict = strict
        self._grace = grace
        self._events: BrokerEvents
        self._session: Session | None = None
        self._graces = 0  # running now
        clock = asyncio.get_running_loop().time
        self._served = IdempotencyKeys(clock)  # keys of publishes delivered without Redis
        self._taken = IdempotencyKeys(clock)  # keys of publishes accepted by Redis

    def serve(self, events: BrokerEvents) -> None:
        """Set the hub that receives the events; called once, before anything else."""
        self._events = events

    def up(self, session: Session) -> None:
        """Publish through a new session."""
        self._session = session
        self.grant_grace()

    def down(self) -> None:
        """Handle the end of the session: its unanswered publishes will not come back."""
        self._session = None

    def sweep(self) -> None:
        """Forget idempotency keys that have expired."""
        self._served.sweep()
        self._taken.sweep()

    def grant_grace(self) -> None:
        """Refuse no unknown topic for a while, until other nodes have written their leases."""
        self._graces += 1
        asyncio.get_running_loop().call_later(self._grace, self._end_grace)

    def _end_grace(self) -> None:
        self._graces -= 1

    @property
    def force(self) -> int:
        """1 while unknown topics are not refused, else 0."""
        return 1 if self._graces else 0

    def publish(self, topic: str, event: bytes, done: PublishDone, *once: str | bytes) -> None:
        """Publish an event.

        Args:
            topic: the topic's name.
            event: the encoded event.
            done: called with the result.
            once: the idempotency key and the answer to keep for it; nothing without a key.
        """
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
        """Publish to a topic with a history; refused without Redis, which assigns the offset."""
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
        """Publish an event, unless a publish to the topic had the same idempotency key."""
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
        """Deliver an event of this node that will not come back, unless it has already."""
        if self._sender.mark_delivered(seq):
            self._events.deliver(topic, event)


def _repeated(answer: bytes) -> PublishResult:
    """Parse the remembered answer to a publish with the same key."""
    nodes, epoch, offset, first = answer.split(b" ", 3)
    position = Position(epoch.decode(), int(offset)) if epoch != b"-" else None
    message_id, receivers = orjson.loads(first)
    remembered = FirstPublish(message_id, receivers, position)
    return PublishResult(nodes=int(nodes), first=remembered, position=position)
