"""Recovery: a client reads a topic's history up to its newest event.

Theory of operation. A subscribe may ask for the events after a position, or for the newest n. If
the history has them, the client is recovering: it reads up to CHUNK bytes a tick while its
transport takes everything. Nothing of a replay is queued, since a replay may exceed the bounds of a
send queue. In one tick all clients together read about SHARE bytes, in turns. In the tick in which
a client has read the newest event, it becomes an ordinary subscriber. If the history drops events
that the client has not read, the client gets a gap notice and reads on after the gap.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from hub.brokers.base import SubscribeResult
from hub.delivery.client import FLOWING, Client
from hub.delivery.fanout import Fanout
from hub.delivery.topic import Topic
from hub.protocol.notices import Notices
from hub.reports import GapCause
from hub.values import Position, RecoverFrom

CHUNK: Final = 65_536  # bytes of events that a client reads in one tick
SHARE: Final = 16 * CHUNK  # bytes that all clients together read in one tick: about 5 ms
READ: Final = 2_000  # bytes that a read of one topic counts in addition to its events


class Recovery:
    """State: the recovering clients, with their topics, and those of them that may read.

    `Topic.cursors` has the position up to which each client has read.
    """

    def __init__(
        self,
        fanout: Fanout,
        notices: Notices,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        limit: int,
        recovered: Callable[[bool, int], None],
        gap: Callable[[str, GapCause], None],
    ) -> None:
        """Connect it to the fan-out and the loop.

        Args:
            limit: maximum number of events in one recovery.
            recovered: called for each recovery from a position, with whether the history has the
                events, and their number.
            gap: called with the topic and the cause for each gap notice that a recovery sends.
        """
        self._fanout = fanout
        self._notices = notices
        self._call_soon = call_soon
        self._limit = limit
        self._report = recovered
        self._report_gap = gap
        self._recovering: dict[Client, dict[Topic[Client], None]] = {}
        self._ready: dict[Client, None] = {}  # clients that may read, in turn
        self._scheduled = False

    def answer(
        self,
        topic: Topic[Client],
        client: Client,
        recover_from: RecoverFrom | None,
        result: SubscribeResult,
    ) -> SubscribeResult:
        """Begin the recovery that a subscribe asks for, if any.

        Args:
            topic: the topic.
            client: the new subscriber.
            recover_from: where the recovery begins; None for none.
            result: the broker's result of the subscribe.

        Returns:
            The result with the topic's position, and the position after which the client's events
            begin.
        """
        start = None
        if recover_from is not None:
            start = self._begin(topic, client, recover_from)
        if topic.history is not None:
            newest = topic.history.position
            result = result._replace(position=newest, start=start or newest)
        if isinstance(recover_from, Position):
            result = result._replace(recovered=start is not None)
            count = topic.position.offset - start.offset if start is not None else 0
            self._report(start is not None, count)
        return result

    def _begin(
        self, topic: Topic[Client], client: Client, recover_from: RecoverFrom
    ) -> Position | None:
        """Start to send the requested events, and return the position before them.

        Nothing is sent before the end of this tick, so the ack comes first. Return None if the
        history does not have the events.
        """
        history = topic.history
        if history is None or client in topic:
            return None
        if isinstance(recover_from, int):
            start = Position(history.epoch, history.start_of_newest(min(recover_from, self._limit)))
        elif history.can_recover(recover_from, self._limit):
            start = recover_from
        else:
            return None
        if start.offset < history.top:
            topic.cursors[client] = start
            self._recovering.setdefault(client, {})[topic] = None
            self.resume(client)
        return start

    def drop(self, topic: Topic[Client], client: Client) -> None:
        """End a client's recovery in a topic, if there is one."""
        if topic.cursors.pop(client, None) is not None:
            topics = self._recovering[client]
            del topics[topic]
            if not topics:
                del self._recovering[client]
                self._ready.pop(client, None)

    def resume(self, client: Client) -> None:
        """Read on in one of the next ticks, if recovering; the transport has drained."""
        if client in self._recovering:
            self._ready[client] = None
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        """Let the next clients read, until they have read SHARE bytes."""
        self._scheduled = False
        room = SHARE
        for client in list(islice(self._ready, SHARE // READ)):
            if room <= 0:
                break
            if client not in self._ready:
                continue  # it was disconnected while another client's read was handled
            del self._ready[client]
            if client.state is FLOWING:  # a congested client is resumed when it has drained
                room -= self._advance(client)
        if self._ready:
            self._schedule()

    def _advance(self, client: Client) -> int:
        """Read about CHUNK bytes of a client's topics; return the bytes that were read."""
        room = CHUNK
        for topic in list(self._recovering[client]):
            room -= READ + self._read(topic, client, room)
            if room <= 0:
                break
        self.resume(client)
        return CHUNK - room

    def _read(self, topic: Topic[Client], client: Client, room: int) -> int:
        """Send the next events of a topic, about `room` bytes of them; return their size."""
        history = topic.history
        assert history is not None
        framing, cursor = client.framing, topic.cursors[client]
        if cursor.epoch != history.epoch or cursor.offset < history.first - 1:
            # The history has another epoch, or has dropped events that the client has not read.
            cursor = Position(history.epoch, history.first - 1)
            gap = self._notices.gap(topic.name, None, cursor)
            self._fanout.tell(client, topic, framing.encoding.message_at(gap, cursor))
            self._report_gap(topic.name, GapCause.RECOVERY)
        events = history.after(cursor.offset, room)
        data = framing.replay(topic.name, events, cursor)
        if data:
            self._fanout.send(client, data)
        cursor = topic.cursors[client] = cursor._replace(offset=cursor.offset + len(events))
        if cursor.offset == history.top:
            # The batch is part of what the client has read: it goes to the other subscribers.
            self._fanout.settle(topic)
            self.drop(topic, client)
            topic.add(client)
        return len(data)
