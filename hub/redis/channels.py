"""The channels that this node is subscribed to, and its leases on their topics.

State: the topics that the node holds or is about to hold, and the channels that the connection was
asked for.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from hub.brokers.base import SUBSCRIBED, SubscribeDone
from hub.logs import events
from hub.redis.batching import CHUNK, TURN, chunks, take
from hub.redis.keys import Keys
from hub.redis.session import Session

COUNTS: Final = 40_000  # topics whose number of subscribers is sent with one beat


class _Coming:
    """A topic that the node does not hold yet, since Redis has not confirmed everything."""

    __slots__ = ("done", "leases")

    def __init__(self, done: SubscribeDone) -> None:
        self.done = done
        self.leases = 0  # writes of its lease that Redis has not answered


class Channels:
    """Keeps the subscribed channels and the leases equal to the topics that the node wants.

    A subscribe has four steps: SUBSCRIBE, its confirmation, the write of the lease, and the answer
    to that write. Then the node holds the topic. Because the lease follows the confirmation, a
    deletion that another node makes in between reaches this node, which writes its lease again.

    Changes are collected and sent at the end of the tick, SHARE topics at a time. So many changes
    take few commands, and a new connection is brought up to date in the same way.
    """

    def __init__(self, keys: Keys, node: str, leases_lost: Callable[[], None]) -> None:
        """`leases_lost` is called when Redis has lost this node's leases."""
        self._keys = keys
        self._node = node
        self._on_leases_lost = leases_lost
        self._session: Session | None = None
        self._coming: dict[str, _Coming] = {}
        self._held: dict[str, int] = {}  # with the number of subscribers
        self._counted: dict[str, int] = {}  # changed since the last beat
        self._asked: set[str] = set()  # channels that the connection was asked for
        # Topics to reconcile at the end of the tick, and leases to write. Only the keys matter: a
        # dict is copied from another dict in a tenth of the time.
        self._changed: dict[str, object] = {}
        self._lease: dict[str, object] = {}
        self._beginning = False  # whether the first lease is not answered yet
        self._scheduled = False

    def __contains__(self, topic: str) -> bool:
        return topic in self._held

    # What the node wants.

    def want(self, topic: str, done: SubscribeDone) -> None:
        """Subscribe; call `done` when Redis has confirmed it and the lease is written."""
        self._coming[topic] = _Coming(done)
        self._change(topic)

    def hold(self, topic: str) -> None:
        """Hold a topic while there is no connection."""
        self._held[topic] = 0

    def drop(self, topic: str) -> None:
        """Unsubscribe, and delete the lease."""
        for kept in (self._held, self._counted, self._lease):
            kept.pop(topic, None)
        self._unlease([topic])  # at once: a later publish must not find the lease
        self._change(topic)

    def count(self, topic: str, subscribers: int) -> None:
        """Set the number of subscribers of a topic here; it is sent with the next beat."""
        if topic in self._held:
            self._held[topic] = self._counted[topic] = subscribers

    def take_counts(self) -> dict[str, int]:
        """Remove and return up to COUNTS numbers of subscribers that have changed."""
        taken = dict(islice(self._counted.items(), COUNTS))
        for topic in taken:
            del self._counted[topic]
        return taken

    def deleted(self, topic: str) -> bool:
        """Handle a deletion, at its place in the topic's order; return whether the node held it."""
        coming = self._coming.get(topic)
        if coming is not None:
            if coming.leases:  # the lease may be gone: writing it again creates the topic again
                self._write(topic)
            return False
        held = topic in self._held
        if held:
            self.drop(topic)
        return held

    def take_unconfirmed(self) -> list[tuple[str, SubscribeDone]]:
        """Remove and return up to TURN topics that the node does not hold yet."""
        taken = list(islice(self._coming.items(), TURN))
        for topic, _ in taken:
            del self._coming[topic]
            self._change(topic)
        return [(topic, coming.done) for topic, coming in taken]

    # The connection.

    @property
    def attached(self) -> bool:
        """Whether there is a connection."""
        return self._session is not None

    def attach(self, session: Session) -> None:
        """Subscribe to everything on a new connection, and write all leases."""
        self._session = session
        self._asked.clear()
        self._changed = {**self._held, **self._coming}
        self._lease.clear()
        self._begin_leases(session)
        self._scan_leases(session, b"0")
        self._schedule()

    def _begin_leases(self, session: Session) -> None:
        """Write the lease without a topic, which counts the node's clients."""

        def begun(reply: Any) -> None:
            self._beginning = False
            session.check(reply)

        self._beginning = True
        session.commands.send(begun, "EVALSHA", session.shas.lease, 0, self._node, 1)

    def _scan_leases(self, session: Session, cursor: bytes) -> None:
        """Read a page of the leases, to delete those on topics dropped while disconnected."""
        answered = partial(self._scanned, session)
        leases = self._keys.leases(self._node)
        session.commands.send(answered, "HSCAN", leases, cursor, "COUNT", CHUNK)

    def _scanned(self, session: Session, reply: Any) -> None:
        if not session.check(reply):
            return
        cursor, flat = reply
        topics = [name.decode() for name in flat[::2] if name]
        left = [it for it in topics if it not in self._held and it not in self._coming]
        if left:
            self._unlease(left)
        if cursor != b"0":
            self._scan_leases(session, cursor)

    def detach(self) -> None:
        """Handle the loss of the connection: send nothing until there is another one."""
        self._session = None
        for coming in self._coming.values():
            coming.leases = 0

    def leases_lost(self) -> None:
        """Handle the loss of this node's leases in Redis: write all of them again."""
        if self._session is None or self._beginning:  # already known
            return
        events.LEASES_LOST.log()
        self._on_leases_lost()
        self._begin_leases(self._session)
        self._lease.update(self._held)
        self.flush()

    def confirmed(self, channel: bytes) -> str | None:
        """Handle a confirmed subscription; return its topic if the node held it before."""
        topic = self._keys.topic(channel)
        if topic is None:
            return None  # the node's own channel
        if topic in self._held or topic in self._coming:
            self._write(topic)
        return topic if topic in self._held else None

    def flush(self) -> None:
        """Send the changes, up to SHARE topics of them."""
        self._scheduled = False
        session = self._session
        if session is None:
            self._changed.clear()  # `attach` sends everything
            return
        changed = take(self._changed)
        come, go = [], []
        for topic in changed:
            if topic not in self._held and topic not in self._coming:
                if topic in self._asked:
                    go.append(topic)
            elif topic not in self._asked:
                come.append(topic)
            elif topic in self._coming:
                self._write(topic)  # dropped and wanted within a tick: still subscribed
        self._asked.update(come)
        self._asked.difference_update(go)
        for word, topics in (("UNSUBSCRIBE", go), ("SUBSCRIBE", come)):
            for some in chunks(topics):
                session.pushes.say(word, *map(self._keys.channel, some))
        self._flush_leases(session)
        if self._changed or self._lease:
            self._schedule()

    async def flushed(self) -> None:
        """Wait until all changes were sent."""
        while self._session is not None and (self._changed or self._lease):  # noqa: ASYNC110
            await asyncio.sleep(0)  # each tick sends a share

    def _flush_leases(self, session: Session) -> None:
        for some in chunks(take(self._lease)):
            words: list[str | int] = []
            counted: list[tuple[str, _Coming]] = []
            for topic in some:
                words += (topic, self._held.get(topic, 0))
                if topic in self._coming:
                    self._coming[topic].leases += 1
                    counted.append((topic, self._coming[topic]))
            answered = partial(self._leased, session, counted)
            sha = session.shas.lease
            session.commands.send(answered, "EVALSHA", sha, 0, self._node, 0, *words)

    def _leased(self, session: Session, counted: list[tuple[str, _Coming]], reply: Any) -> None:
        if not session.check(reply) or session is not self._session:
            return
        for topic, coming in counted:
            coming.leases -= 1
            # If the topic was dropped and wanted again, this answers the earlier subscribe.
            if self._coming.get(topic) is not coming:
                continue
            if not reply:
                self._write(topic)
            elif not coming.leases and topic not in self._lease:
                del self._coming[topic]
                self._held[topic] = 0
                coming.done(SUBSCRIBED)
        if not reply:
            self.leases_lost()

    def _unlease(self, topics: list[str]) -> None:
        session = self._session
        if session is not None:
            session.commands.send(session.check, "HDEL", self._keys.leases(self._node), *topics)

    def _write(self, topic: str) -> None:
        self._lease[topic] = None
        self._schedule()

    def _change(self, topic: str) -> None:
        self._changed[topic] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)
