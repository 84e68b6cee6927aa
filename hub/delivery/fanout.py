"""The fan-out: the messages of one tick of the loop, written to each client at once.

Theory of operation. A publish only appends its event to the topic's batch. At the end of the tick
the batch is encoded once for each encoding, joined, and given to every subscriber as one write;
acks and other messages to a client join that write. Nothing here awaits, and a client that fails
does not affect the others. The cost is an append for each message and a write for each subscriber
and tick: this is the hot path.

A change of a topic's subscribers must be preceded by `settle`, so that a new subscriber gets no
event that was published before its ack.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from hub.delivery.client import FLOWING, Client, Send, State
from hub.delivery.send_queue import Entry
from hub.delivery.topic import Topic
from hub.values import position_of

# Writes in one tick for batches of earlier ticks, and as many again for batches of this tick. Each
# half takes 3 to 10 ms. A batch is written to all subscribers of its topic in one tick.
WRITES: Final = 512


class Fanout:
    """State: the topics with a batch and the clients with pending messages, until the flush.

    The counts of deliveries only grow; the metrics read them. Subscribers that are closing are
    counted, and the events of recoveries are not.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        overrun: Callable[[Client], None],
        lost: Callable[[Client], None],
        send: Send,
        timer: Callable[[], float],
        delivered: Callable[[float], None],
    ) -> None:
        """Connect the fan-out to the loop and the hub.

        Args:
            call_soon: calls the flush at the end of the tick.
            overrun: ends a client that exceeds the bounds of its send queue.
            lost: removes a client whose transport is closed.
            send: writes to a socket.
            timer: returns seconds of a monotonic clock, with a resolution of microseconds.
            delivered: called with the seconds that a batch has taken, after each `sample`.
        """
        self._call_soon = call_soon
        self._overrun = overrun
        self._lost = lost
        self._send = send
        self._timer = timer
        self._report = delivered
        self.deliveries = 0  # events given to subscribers, each counted per subscriber
        self.delivered_bytes = 0  # of their encodings; a stream of several topics adds its ids
        self._sampling = False  # whether the next batch is to be timed
        self._sampled: Topic[Client] | None = None  # the topic whose batch is timed
        self._sampled_at = 0.0  # the time of its first event
        self._topics: deque[Topic[Client]] = deque()  # with a batch of this tick
        # Topics whose batch of an earlier tick had to wait, because of WRITES.
        self._late: deque[Topic[Client]] = deque()
        self._clients: list[Client] = []  # with pending messages
        self._scheduled = False

    def broadcast(self, topic: Topic[Client], event: bytes) -> None:
        """Send an event to the subscribers that the topic has now."""
        if not topic.batch:
            self._topics.append(topic)
            self._schedule()
            if self._sampling:
                self._sampling, self._sampled = False, topic
                self._sampled_at = self._timer()
        topic.batch.append(event)

    def sample(self) -> None:
        """Time the next batch, from its first event to its last write."""
        self._sampling = self._sampled is None

    def send(self, client: Client, message: bytes) -> None:
        """Send an encoded message to one client, after everything sent to it before."""
        if client.state is FLOWING:
            if client.pending is not None:
                client.pending.append(message)
            else:
                self._defer(client, message)
                self._schedule()
        elif client.state is State.CONGESTED and not client.offer(Entry(message)):
            self._overrun(client)

    def tell(self, client: Client, topic: Topic[Client], message: bytes) -> None:
        """Send an encoded message about a topic, other than an event, regardless of the bounds."""
        if client.state is FLOWING:
            self.send(client, client.framing.place(topic.name, message))
        elif client.state is State.CONGESTED:
            client.tell(topic, message)

    def settle(self, topic: Topic[Client]) -> None:
        """Give a topic's batch to its present subscribers."""
        if topic.batch:
            self._hand_out(topic, direct=False)

    def flush(self) -> None:
        """End the tick: write to every client that has a message."""
        self._scheduled = False
        topics = self._topics
        if len(topics) == 1 and not self._late:
            topic = topics.pop()
            if topic.batch:  # no client can get a second batch: write directly
                self._hand_out(topic, direct=True)
        elif topics or self._late:
            self._topics = deque()
            if self._late or sum([topic.receivers for topic in topics]) > WRITES:
                topics = self._share(topics)
            for topic in topics:
                if topic.batch:  # a topic that was settled meanwhile may be listed twice
                    self._hand_out(topic, direct=False)
        clients, self._clients = self._clients, []
        for client in clients:
            if not client.flush(self._send):
                self._lost(client)
        if self._sampled is not None and not self._sampled.batch:  # else it is late
            self._sampled = None
            self._report(self._timer() - self._sampled_at)

    def _share(self, topics: deque[Topic[Client]]) -> deque[Topic[Client]]:
        """Return the topics that have their turn in this tick; the others are late."""
        # Small topics first: they cost others little.
        topics = deque(sorted(topics, key=_writes))
        chosen = deque([*_taken(self._late), *_taken(topics)])
        # Behind the topics that have waited longer, so that each has its turn.
        self._late.extend(topics)
        if self._late:
            self._schedule()
        return chosen

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def _hand_out(self, topic: Topic[Client], direct: bool) -> None:
        """Give the batch to all subscribers; with `direct`, write it to their transports."""
        events, topic.batch = topic.batch, []
        queued: list[tuple[list[Client], list[Entry]]] = []
        lost: list[Client] = []
        send = self._send
        for encoding, clients in topic.groups.items():
            encoded = encoding.events(events, topic.epoch)
            joined = encoded[0] if len(encoded) == 1 else b"".join(encoded)
            self.deliveries += len(events) * len(clients)
            self.delivered_bytes += len(joined) * len(clients)
            personal = encoding.personal
            congested: list[Client] = []
            for client in clients:
                if client.state is FLOWING:
                    data = _placed(client, topic, encoded) if personal else joined
                    if client.pending is not None:
                        client.pending.append(data)
                    elif direct:
                        try:  # as in `Client.flush`, without a call for each delivery
                            sent = send(client.descriptor, data)
                        except OSError:
                            sent = 0
                        if sent != len(data) and not client.write_rest(data[sent:]):
                            lost.append(client)
                    else:
                        self._defer(client, data)
                elif client.state is State.CONGESTED:
                    congested.append(client)
            if congested:
                queued.append((congested, _entries(topic, events, encoded)))
        # Only now, because the end of a client changes the groups.
        for congested, entries in queued:
            self._queue(congested, entries)
        for client in lost:
            self._lost(client)

    def _defer(self, client: Client, data: bytes) -> None:
        """Keep a client's first message of the tick until the flush."""
        client.pending = [data]
        self._clients.append(client)

    def _queue(self, congested: list[Client], entries: list[Entry]) -> None:
        """Queue events one by one: the bounds count each, and each can be dropped."""
        for client in congested:
            if not all(client.offer(entry) for entry in entries):
                self._overrun(client)


def _entries(topic: Topic[Client], events: list[bytes], encoded: list[bytes]) -> list[Entry]:
    """Return the entries of a batch for send queues."""
    epoch = topic.epoch
    pairs = zip(events, encoded, strict=True)
    return [Entry(data, topic, position_of(event, epoch)) for event, data in pairs]


def _placed(client: Client, topic: Topic[Client], encoded: list[bytes]) -> bytes:
    """Return a batch with the ids of this client's stream."""
    return b"".join([client.framing.place(topic.name, event) for event in encoded])


def _taken(topics: deque[Topic[Client]]) -> list[Topic[Client]]:
    """Remove and return the first topics with a batch, for at most about WRITES writes."""
    taken: list[Topic[Client]] = []
    writes = 0
    while topics and writes < WRITES:
        topic = topics.popleft()
        if topic.batch:
            taken.append(topic)
            writes += _writes(topic)
    return taken


def _writes(topic: Topic[Client]) -> int:
    return 1 + topic.receivers
