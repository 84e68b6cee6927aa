"""Clients that catch up: they read a topic's history at their own pace until they meet its top.

State: who is behind in which topics, and how far each has read (`Topic.behind`). What is read goes
to clients that flow, CHUNK bytes a tick, and never waits in an outbox: a replay may be larger than
its bounds. A client that has met the top becomes a subscriber in the same tick.
"""

from collections.abc import Callable
from typing import Final

from hub.brokers.base import Accepted
from hub.delivery.client import FLOWING, Client
from hub.delivery.fanout import Fanout
from hub.delivery.topic import Topic
from hub.protocol.notices import Notices
from hub.values import Position, RecoverFrom

CHUNK: Final = 65_536  # bytes of events that a client reads in one tick


class Recovery:
    """Gives those who come back what they have missed, or says that it can't."""

    def __init__(
        self,
        fanout: Fanout,
        notices: Notices,
        call_soon: Callable[[Callable[[], None]], object],
        limit: int,
    ) -> None:
        """`limit`: events that one recovery may have."""
        self._fanout = fanout
        self._notices = notices
        self._call_soon = call_soon
        self._limit = limit
        self._behind: dict[Client, dict[Topic, None]] = {}
        self._ready: dict[Client, None] = {}  # those of them that may read in this tick
        self._scheduled = False

    def answer(
        self, topic: Topic, client: Client, since: RecoverFrom | None, outcome: Accepted
    ) -> Accepted:
        """What a subscribe is answered: where the topic is, and whether what was missed follows."""
        start = self._begin(topic, client, since) if since is not None else None
        if topic.history is not None:
            here = topic.history.position
            outcome = outcome._replace(position=here, start=start or here)
        if isinstance(since, Position):
            outcome = outcome._replace(recovered=start is not None)
        return outcome

    def _begin(self, topic: Topic, client: Client, since: RecoverFrom) -> Position | None:
        """Put a client behind the top, where what it asks for is there; what it is behind.

        Nothing is said before this tick's end, so that the answer comes first.
        """
        history = topic.history
        if history is None or topic in client.topics:
            return None
        if isinstance(since, int):
            since = Position(history.epoch, history.newest(min(since, self._limit)))
        elif not history.recovers(since, self._limit):
            return None
        if since.offset < history.top:
            topic.behind[client] = since
            self._behind.setdefault(client, {})[topic] = None
            self.resume(client)
        return since

    def drop(self, topic: Topic, client: Client) -> None:
        """A client leaves a topic in which it may be behind."""
        if topic.behind.pop(client, None) is not None:
            topics = self._behind[client]
            del topics[topic]
            if not topics:
                del self._behind[client]
                self._ready.pop(client, None)

    def resume(self, client: Client) -> None:
        """A client may read on: it has begun, or its transport has drained."""
        if client in self._behind:
            self._ready[client] = None
            if not self._scheduled:
                self._scheduled = True
                self._call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        ready, self._ready = self._ready, {}
        for client in ready:
            if client.state is FLOWING:  # else it is resumed when it is, or is gone
                self._advance(client)

    def _advance(self, client: Client) -> None:
        room = CHUNK
        for topic in list(self._behind.get(client, ())):
            room -= self._read(topic, client, room)
            if room <= 0:
                break
        self.resume(client)

    def _read(self, topic: Topic, client: Client, room: int) -> int:
        """Say the next events of a topic; how many bytes they are."""
        history = topic.history
        assert history is not None
        wire, here = client.wire, topic.behind[client]
        if here.epoch != history.epoch or here.offset < history.first - 1:
            # The history is another, or shorter than this client is slow.
            here = Position(history.epoch, history.first - 1)
            gap = self._notices.gap(topic.name, 0, here)
            self._fanout.tell(client, topic, wire.say(gap, here))
        events = history.after(here.offset, room)
        data = wire.replay(topic.name, events, here)
        if data:
            self._fanout.send(client, data)
        here = topic.behind[client] = here._replace(offset=here.offset + len(events))
        if here.offset == history.top:
            # What others are still to be told in this tick, it has read.
            self._fanout.settle(topic)
            self.drop(topic, client)
            topic.add(client)
        return len(data)
