"""What is said within one tick of the loop, and its delivery at the tick's end.

State: the topics with a batch and the clients with pending frames, until the flush. Nothing here
awaits, and one client's trouble reaches no other. This is the hot path: per message an append, per
subscriber and tick one write.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from hub.delivery.client import FLOWING, Client, State
from hub.delivery.send_queue import Entry
from hub.delivery.topic import Topic
from hub.protocol import sse
from hub.protocol.websocket_frames import text_payload

# Writes of one turn for topics that have waited for it, and as many for topics that were published
# to in this turn: 3 to 10 ms each. The subscribers of one topic are never divided.
WRITES: Final = 512


class Fanout:
    """Joins the frames of a tick, so that a client costs one write however many there are."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        overrun: Callable[[Client], None],
        lost: Callable[[Client], None],
    ) -> None:
        """`call_soon` runs the flush at the tick's end.

        `overrun` ends a client that is over its bounds, `lost` forgets one whose transport is gone.
        """
        self._call_soon = call_soon
        self._overrun = overrun
        self._lost = lost
        self._topics: deque[Topic] = deque()  # with a batch of this tick
        self._late: deque[Topic] = deque()  # with one of an earlier tick, which had no room for it
        self._clients: list[Client] = []  # with pending frames
        self._scheduled = False

    def broadcast(self, topic: Topic, frame: bytes) -> None:
        """Say a frame to every subscriber that the topic has now."""
        if not topic.batch:
            self._topics.append(topic)
            self._schedule()
        topic.batch.append(frame)

    def send(self, client: Client, frame: bytes) -> None:
        """Say a frame to one client, after all that was said to it before."""
        if client.state is FLOWING:
            if client.pending is not None:
                client.pending.append(frame)
            else:
                self._defer(client, frame)
                self._schedule()
        elif client.state is State.CONGESTED and not client.offer((frame, None, "")):
            self._overrun(client)

    def tell(self, client: Client, topic: Topic, said: bytes) -> None:
        """Say what of a topic is no event, whatever the bounds; a stream's id may move by it."""
        if client.state is FLOWING:
            self.send(client, client.wire.place(topic.name, said))
        elif client.state is State.CONGESTED:
            client.tell(topic, said)

    def settle(self, topic: Topic) -> None:
        """Hand a topic's batch to its subscribers' queues, before who they are changes."""
        if topic.batch:
            self._hand_out(topic, direct=False)

    def flush(self) -> None:
        """The end of the tick: one write for every client that something was said to."""
        self._scheduled = False
        topics = self._topics
        if len(topics) == 1 and not self._late:
            topic = topics.pop()
            if topic.batch:  # no client can get a second batch: write at once
                self._hand_out(topic, direct=True)
        elif topics or self._late:
            if sum(map(_writes, topics)) > WRITES:  # small topics first: they cost others little
                topics = deque(sorted(topics, key=_writes))
            for topic in [*_taken(self._late), *_taken(topics)]:
                self._hand_out(topic, direct=False)
            # Behind those that have waited longer, so that nobody can keep a topic waiting.
            self._late.extend(topics)
            self._topics.clear()
            if self._late:
                self._schedule()
        clients, self._clients = self._clients, []
        for client in clients:
            try:
                client.flush()
            except RuntimeError:  # uvloop's word for a transport that is closed
                self._lost(client)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def _hand_out(self, topic: Topic, direct: bool) -> None:
        """Give the batch, joined, to all subscribers; with `direct`, to their transports."""
        frames, topic.batch = topic.batch, []
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        congested: list[Client] = []
        lost: list[Client] = []
        for client in topic.subscribers:
            if client.state is FLOWING:
                if client.pending is not None:
                    client.pending.append(data)
                elif direct:
                    try:
                        client.transport.write(data)
                    except RuntimeError:  # uvloop's word for a transport that is closed
                        lost.append(client)
                else:
                    self._defer(client, data)
            elif client.state is State.CONGESTED:
                congested.append(client)
        if congested:
            self._queue(congested, [(frame, topic, topic.epoch) for frame in frames])
        if topic.streams:
            self._hand_to_streams(topic, frames)
        for client in lost:
            self._lost(client)

    def _hand_to_streams(self, topic: Topic, frames: list[bytes]) -> None:
        """Give the batch, written anew, to those who get it as Server-Sent Events."""
        events = [sse.event(text_payload(frame), topic.epoch) for frame in frames]
        data = b"".join(events)
        congested: list[Client] = []
        for client in topic.streams:
            if client.state is FLOWING:
                place = client.wire.place
                said = data
                if not client.wire.shares:
                    said = b"".join([place(topic.name, event) for event in events])
                if client.pending is not None:
                    client.pending.append(said)
                else:
                    self._defer(client, said)
            elif client.state is State.CONGESTED:
                congested.append(client)
        if congested:
            self._queue(congested, [(event, topic, topic.epoch) for event in events])

    def _defer(self, client: Client, data: bytes) -> None:
        """Keep a client's first frames of the tick for its end."""
        client.pending = [data]
        self._clients.append(client)

    def _queue(self, congested: list[Client], entries: list[Entry]) -> None:
        """Let the events wait one by one, so that they count and may be dropped one by one."""
        for client in congested:
            if not all(client.offer(entry) for entry in entries):
                self._overrun(client)


def _taken(topics: deque[Topic]) -> list[Topic]:
    """The first topics with a batch, taken out: as many as WRITES are enough for."""
    taken: list[Topic] = []
    writes = 0
    while topics and writes < WRITES:
        topic = topics.popleft()
        if topic.batch:
            taken.append(topic)
            writes += _writes(topic)
    return taken


def _writes(topic: Topic) -> int:
    return 1 + len(topic.subscribers) + len(topic.streams)
