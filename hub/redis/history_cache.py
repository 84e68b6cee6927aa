"""Caches of the histories in Redis, for the topics that this node is subscribed to.

State: the newest events of each such topic, and the events that arrived while it was being read.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import hiredis

from hub.brokers.base import BrokerEvents
from hub.brokers.history import NOT_REMEMBERED, History, HistoryBudget
from hub.errors import Refusal
from hub.redis.batching import chunks, take
from hub.redis.envelope import Envelope, is_event
from hub.redis.poison import Poison
from hub.redis.session import Session
from hub.reports import GapCause
from hub.values import NOWHERE, TOTAL_BYTES, Position, Rule, find_rule

CHECKED: Final = 30.0  # maximum of the seconds between two comparisons of a topic with Redis


class CachedHistory:
    """The history of one topic."""

    __slots__ = ("history", "last", "queued")

    def __init__(self, history: History) -> None:
        self.history = history
        self.last = b""  # identity of the newest event (envelope.py); empty if it is unknown
        # The events that arrived during a read; None if no read is running.
        self.queued: list[Envelope] | None = None


class HistoryCache:
    """Delivers events without a hole, and keeps the histories from which clients recover.

    When the node subscribes to a topic, its history is read from Redis (`open`). Events that arrive
    meanwhile are queued, and handled after the read. Each event has a position:

        the next offset of the epoch    append it and deliver it
        an offset that is known         drop it
        a later offset, or another      read on from the newest known event (repair), and handle
        epoch                           the event after that

    A repair also follows a lost connection (`repair`) and a position in Redis that differs from the
    one here (`extend`). It sends the identity of the newest known event, so that Redis notices if
    it has lost events and would assign their offsets again; it then begins a new epoch
    (hub/redis/lua/read.lua). A gap is reported (`missed`) if a repair does not continue at the end
    of the history here, or if an entry is no event.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        new_epoch: Callable[[], str],
        clock: Callable[[], float],
        total_bytes: int = TOTAL_BYTES,
    ) -> None:
        """Create an empty cache.

        Args:
            rules: the rule of history by the prefix of a topic's name; empty if no topic has one.
            new_epoch: returns the epoch of a new history.
            clock: returns seconds of a monotonic clock.
            total_bytes: limit of all histories here, in bytes.
        """
        self._rules = rules
        self.new_epoch = new_epoch
        self._clock = clock
        self.budget = HistoryBudget(total_bytes)
        self._cache: dict[str, CachedHistory] = {}
        # Seconds between two extensions of the lifetimes in Redis, and the time of the last one.
        self._pause = min([CHECKED, *(rule.ttl / 3 for rule in rules.values() if rule.size)])
        self._renewed = 0.0
        self._due: dict[str, object] = {}  # topics whose lifetime is still to be extended
        self._events: BrokerEvents
        self._poison: Poison

    def serve(self, events: BrokerEvents, poison: Poison) -> None:
        """Set the hub that receives the events; called once, before anything else.

        `poison` counts the entries that are no events.
        """
        self._events = events
        self._poison = poison

    @property
    def remembers(self) -> bool:
        """Whether any topic has a history."""
        return bool(self._rules)

    def rule(self, topic: str) -> Rule | None:
        """Return the rule of a topic; None if it has no history."""
        return find_rule(self._rules, topic) if self._rules else None

    def history(self, topic: str) -> History | None:
        """Return the history of a topic; None if it is not subscribed, or not read yet."""
        cached = self._cache.get(topic)
        if cached is None or not cached.history.epoch:  # not read yet
            return None
        cached.history.expire(self._clock())
        return cached.history

    def open(self, session: Session, topic: str, opened: Callable[[bool], None]) -> None:
        """Read the history of a newly subscribed topic; call `opened` with whether it was read."""
        rule = self.rule(topic)
        assert rule is not None
        cached = self._cache[topic] = CachedHistory(History("", rule, budget=self.budget))
        self._start_read(session, topic, cached, opened, -rule.size)

    def repair(self, session: Session, topic: str) -> bool:
        """Read the events that a topic may have missed; return False if it has no history."""
        cached = self._cache.get(topic)
        if cached is None:
            return False
        self._read_on(session, topic, cached)
        return True

    def _read_on(self, session: Session, topic: str, cached: CachedHistory) -> None:
        """Read the events after the newest known one, unless a read is running."""
        if cached.queued is None:
            here = cached.history.position
            self._start_read(session, topic, cached, _ignore, here.offset, here.epoch, cached.last)

    def extend(self, session: Session, topics: Iterable[str]) -> None:
        """Extend the lifetime of topics in Redis, and compare their positions."""
        words: list[str | int] = []
        sent: list[str] = []
        for topic in topics:
            if (cached := self._cache.get(topic)) is not None:
                words += (topic, int(cached.history.rule.ttl * 1_000))
                sent.append(topic)
        if sent:
            answered = partial(self._compare, session, sent)
            session.commands.send(answered, "EVALSHA", session.shas.extend, 0, *words)

    def _compare(self, session: Session, topics: list[str], reply: Any) -> None:
        """Repair the topics whose position in Redis differs from the one here."""
        if not session.check(reply):
            return
        for topic, epoch, top in zip(topics, reply[::2], reply[1::2], strict=True):
            cached = self._cache.get(topic)
            if cached is None:
                continue
            here = cached.history
            if epoch != here.epoch.encode() or int(top) != here.top:
                self._read_on(session, topic, cached)

    def drop_expired(self) -> None:
        """Drop events that are too old, of some topics at each call."""
        self.budget.sweep(self._clock())

    def extend_due(self, session: Session) -> None:
        """Extend the lifetime of all topics regularly, a share at each call."""
        now = self._clock()
        if now >= self._renewed + self._pause:
            self._renewed = now
            self._due = {**self._cache}
        for some in chunks(take(self._due)):
            self.extend(session, some)

    def renew(self) -> None:
        """Let the next sweeps extend all lifetimes, because Redis may have lost them."""
        self._renewed = 0.0

    async def fetch(
        self, session: Session, topic: str, since: Position | None, node: str
    ) -> History | Refusal | None:
        """Read the history of a topic that this node is not subscribed to.

        Args:
            session: with Redis.
            topic: the topic's name.
            since: the position after which the caller needs the events; None for all.
            node: the id of this node.

        Returns:
            The history; a refusal if the topic has none; None if Redis is lost.
        """
        rule = self.rule(topic)
        if rule is None:
            return NOT_REMEMBERED
        words = self._read_arguments(topic, rule, -rule.size if since is None else since.offset)
        try:
            reply = await session.commands.ask("EVALSHA", session.shas.read, 0, *words, node)
        except (ConnectionError, hiredis.ReplyError):
            return None
        if reply is None:
            return NOT_REMEMBERED
        epoch, _, first, events, ages, _ = reply
        history = History(epoch.decode(), rule, first - 1)
        now = self._clock()
        for event, age in zip(events, ages, strict=True):
            self._append(topic, history, event, now - age / 1_000)
        return history

    def drop(self, topic: str) -> None:
        """Forget the history of a topic that is no longer subscribed."""
        cached = self._cache.pop(topic, None)
        if cached is not None:
            cached.history.close()

    def receive(self, session: Session, topic: str, envelope: Envelope) -> None:
        """Handle an event of a topic with a history, as the class describes."""
        cached = self._cache.get(topic)
        if cached is None:
            return
        history = cached.history
        epoch, offset = envelope.position or NOWHERE
        if cached.queued is not None:
            cached.queued.append(envelope)
        elif epoch == history.epoch and offset == history.top + 1:
            cached.last = envelope.ident
            self._events.deliver(topic, history.append(envelope.event, self._clock()))
        elif epoch != history.epoch or offset > history.top:
            self._read_on(session, topic, cached)

    def _start_read(
        self,
        session: Session,
        topic: str,
        cached: CachedHistory,
        read: Callable[[bool], None],
        since: int,
        *here: str | bytes,
    ) -> None:
        cached.queued = []
        words = (*self._read_arguments(topic, cached.history.rule, since), *here)
        answered = partial(self._finish_read, session, topic, cached, read)
        session.commands.send(answered, "EVALSHA", session.shas.read, 0, *words)

    def _read_arguments(self, topic: str, rule: Rule, since: int) -> tuple[str | int, ...]:
        """Return the first arguments of the script `read`."""
        return (topic, self.new_epoch(), rule.size, int(rule.ttl * 1_000), since)

    def _finish_read(
        self,
        session: Session,
        topic: str,
        cached: CachedHistory,
        read: Callable[[bool], None],
        reply: Any,
    ) -> None:
        queued, cached.queued = cached.queued or [], None
        if self._cache.get(topic) is not cached:
            return  # unsubscribed meanwhile
        if not session.check(reply):
            read(False)  # the next session reads again
            return
        self._merge(topic, cached, reply)
        read(True)
        for place, envelope in enumerate(queued):
            if cached.queued is not None:  # there is still a hole, and a repair is running
                cached.queued += queued[place:]
                return
            self.receive(session, topic, envelope)

    def _merge(self, topic: str, cached: CachedHistory, reply: Any) -> None:
        """Append the events that were read; start over if they do not continue the history."""
        epoch, top, first, events, ages, last = reply
        epoch, history, now = epoch.decode(), cached.history, self._clock()
        is_open = history.epoch != ""  # else this is the first read, and nothing is delivered
        joins = history.epoch == epoch and first <= history.top + 1 <= top + 1
        if not joins:
            history.reset(Position(epoch, first - 1))
            if is_open:
                self._events.missed(topic, GapCause.FORGOTTEN)
        for offset, (event, age) in enumerate(zip(events, ages, strict=True), first):
            if offset == history.top + 1:
                appended = self._append(topic, history, event, now - age / 1_000)
                if not is_open:
                    continue
                if appended is None:
                    self._events.missed(topic, GapCause.INVALID)
                else:
                    self._events.deliver(topic, appended)
        cached.last = last if history.top == top else b""

    def _append(self, topic: str, history: History, event: bytes, now: float) -> bytes | None:
        """Append an entry and return it with its offset.

        If it is no event, let the history begin after it and return None.
        """
        if is_event(event):
            return history.append(event, now)
        self._poison.drop(f"history of {topic!r}", event)
        history.reset(Position(history.epoch, history.top + 1))
        return None


def _ignore(_: bool) -> None:
    """Ignore the outcome of a repair: if it fails, the next session makes another one."""
