"""What this node remembers of the topics that it is subscribed to, kept equal to Redis' streams.

State: for each such topic its newest events, and what has come while they are being read. Every
event on the bus says its epoch and offset: what came before is dropped, a hole is read again from
the stream, and what cannot be read any more, or is no event, is told. So clients are answered from
here, however many.
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
from hub.redis.session import Session
from hub.values import NOWHERE, TOTAL_BYTES, Position, Rule, find_rule

CHECKED: Final = 30.0  # seconds between two looks whether an idle topic is where its stream is


class CachedHistory:
    """One topic's."""

    __slots__ = ("history", "last", "waiting")

    def __init__(self, history: History) -> None:
        self.history = history
        self.last = b""  # who said its newest event (envelope.py); empty where that is unknown
        # What has come since a reading began; None where none is under way.
        self.waiting: list[Envelope] | None = None


class HistoryCache:
    """Reads and repairs; what it hands on is whole and in order."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        new_epoch: Callable[[], str],
        clock: Callable[[], float],
        total_bytes: int = TOTAL_BYTES,
    ) -> None:
        """`rules`: by prefix of topics, empty where none has a history.

        `clock`: seconds; `total_bytes`: of all histories here.
        """
        self._rules = rules
        self.new_epoch = new_epoch
        self._clock = clock
        self._budget = HistoryBudget(total_bytes)
        self._cache: dict[str, CachedHistory] = {}
        # How often Redis is told that all of them live, and when it was.
        self._pause = min([CHECKED, *(rule.ttl / 3 for rule in rules.values() if rule.size)])
        self._renewed = 0.0
        self._due: dict[str, object] = {}  # those that it is still to be told of
        self._events: BrokerEvents
        self._poison: Callable[[str, bytes], None]

    def serve(self, events: BrokerEvents, poison: Callable[[str, bytes], None]) -> None:
        """Set the hub that receives the events; called once, before anything else.

        `poison` gets what is no event: where it was, and its bytes.
        """
        self._events = events
        self._poison = poison

    @property
    def remembers(self) -> bool:
        """Whether any topic has a history."""
        return bool(self._rules)

    def rule(self, topic: str) -> Rule | None:
        """How much of a topic is remembered; None where it has no history."""
        return find_rule(self._rules, topic) if self._rules else None

    def history(self, topic: str) -> History | None:
        """What is remembered of a topic that the node is subscribed to."""
        cached = self._cache.get(topic)
        if cached is None or not cached.history.epoch:  # it is being opened
            return None
        cached.history.expire(self._clock())
        return cached.history

    def open(self, session: Session, topic: str, opened: Callable[[bool], None]) -> None:
        """Read what there is of a topic that is subscribed just now; whether it was read."""
        rule = self.rule(topic)
        assert rule is not None
        cached = self._cache[topic] = CachedHistory(History("", rule, budget=self._budget))
        self._read(session, topic, cached, opened, -rule.size)

    def check(self, session: Session, topic: str) -> bool:
        """Read what a topic's subscribers may have missed; whether it has a history."""
        cached = self._cache.get(topic)
        if cached is None:
            return False
        self._repair(session, topic, cached)
        return True

    def _repair(self, session: Session, topic: str, cached: CachedHistory) -> None:
        """Go on behind what is known, if the stream still says the same there."""
        if cached.waiting is None:
            here = cached.history.position
            self._read(session, topic, cached, _ignore, here.offset, here.epoch, cached.last)

    def live(self, session: Session, topics: Iterable[str]) -> None:
        """Tell Redis that these live on for their time from now on; see where they are."""
        words: list[str | int] = []
        told: list[str] = []
        for topic in topics:
            if (cached := self._cache.get(topic)) is not None:
                words += (topic, int(cached.history.rule.ttl * 1_000))
                told.append(topic)
        if told:
            answered = partial(self._placed, session, told)
            session.commands.send(answered, "EVALSHA", session.shas.live, 0, *words)

    def _placed(self, session: Session, topics: list[str], reply: Any) -> None:
        """Where Redis has them: what is not where this node has it is read."""
        if not session.check(reply):
            return
        for topic, epoch, top in zip(topics, reply[::2], reply[1::2], strict=True):
            cached = self._cache.get(topic)
            if cached is None:
                continue
            known = cached.history
            if epoch != known.epoch.encode() or int(top) != known.top:
                self._repair(session, topic, cached)

    def expire(self) -> None:
        """Let go of what is too old, of some topics at each call."""
        self._budget.sweep(self._clock())

    def sweep(self, session: Session) -> None:
        """Now and then, tell Redis that all of them live, a share of them at a time."""
        now = self._clock()
        if now >= self._renewed + self._pause:
            self._renewed = now
            self._due = {**self._cache}
        for some in chunks(take(self._due)):
            self.live(session, some)

    def renew(self) -> None:
        """Redis has forgotten them: the next sweeps tell it."""
        self._renewed = 0.0

    async def fetch(
        self, session: Session, topic: str, since: Position | None, node: str
    ) -> History | Refusal | None:
        """What there is of a topic that the node is not subscribed to; None where Redis is lost."""
        rule = self.rule(topic)
        if rule is None:
            return NOT_REMEMBERED
        words = self._reading(topic, rule, -rule.size if since is None else since.offset)
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
        """The node is subscribed no more."""
        cached = self._cache.pop(topic, None)
        if cached is not None:
            cached.history.close()

    def heard(self, session: Session, topic: str, envelope: Envelope) -> None:
        """An event that has a position has come."""
        cached = self._cache.get(topic)
        if cached is None:
            return
        history = cached.history
        epoch, offset = envelope.position or NOWHERE
        if cached.waiting is not None:
            cached.waiting.append(envelope)
        elif epoch == history.epoch and offset == history.top + 1:
            cached.last = envelope.ident
            self._events.deliver(topic, history.append(envelope.event, self._clock()))
        elif epoch != history.epoch or offset > history.top:
            self._repair(session, topic, cached)

    def _read(
        self,
        session: Session,
        topic: str,
        cached: CachedHistory,
        read: Callable[[bool], None],
        since: int,
        *known: str | bytes,
    ) -> None:
        cached.waiting = []
        words = (*self._reading(topic, cached.history.rule, since), *known)
        answered = partial(self._was_read, session, topic, cached, read)
        session.commands.send(answered, "EVALSHA", session.shas.read, 0, *words)

    def _reading(self, topic: str, rule: Rule, since: int) -> tuple[str | int, ...]:
        return (topic, self.new_epoch(), rule.size, int(rule.ttl * 1_000), since)

    def _was_read(
        self,
        session: Session,
        topic: str,
        cached: CachedHistory,
        read: Callable[[bool], None],
        reply: Any,
    ) -> None:
        waiting, cached.waiting = cached.waiting or [], None
        if self._cache.get(topic) is not cached:
            return  # it was left meanwhile
        if not session.check(reply):
            read(False)  # the next session reads again
            return
        self._take(topic, cached, reply)
        read(True)
        for place, envelope in enumerate(waiting):
            if cached.waiting is not None:  # a hole even now: it is being read again
                cached.waiting += waiting[place:]
                return
            self.heard(session, topic, envelope)

    def _take(self, topic: str, cached: CachedHistory, reply: Any) -> None:
        """Go on with what was read, or begin anew where it does not join what there is."""
        epoch, top, first, events, ages, last = reply
        epoch, history, now = epoch.decode(), cached.history, self._clock()
        known = history.epoch != ""  # else it is being opened: nobody is to hear what was
        joins = history.epoch == epoch and first <= history.top + 1 <= top + 1
        if not joins:
            history.restart(epoch, first - 1)
            if known:
                self._events.missed(topic)
        for offset, (event, age) in enumerate(zip(events, ages, strict=True), first):
            if offset == history.top + 1:
                said = self._append(topic, history, event, now - age / 1_000)
                if not known:
                    continue
                if said is None:
                    self._events.missed(topic)
                else:
                    self._events.deliver(topic, said)
        cached.last = last if history.top == top else b""

    def _append(self, topic: str, history: History, event: bytes, now: float) -> bytes | None:
        """Append an entry of a stream; None where it is no event: the history begins behind it."""
        if is_event(event):
            return history.append(event, now)
        self._poison(f"history of {topic!r}", event)
        history.restart(history.epoch, history.top + 1)
        return None


def _ignore(_: bool) -> None:
    """Whether it was read: where it was not, the next session reads it again."""
