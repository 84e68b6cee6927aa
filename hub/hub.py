"""The hub: one node's clients and topics, and the routing between them and the broker.

Theory of operation. A publish goes to the broker, which gives each topic one order and hands every
event back through `deliver`, on this node and on the others. The hub gives the event to the
fan-out. The hub subscribes at the broker for a topic's first subscriber, and unsubscribes after the
last. Calls to the broker complete through a callback, before they return (one server) or later
(Redis).

One client's commands are put in order before they get here (hub/dispatcher.py), and callers pass
the gate (hub/service.py). The hub knows no HTTP and no socket: time, ids and the loop's
`call_soon` are arguments.
"""

from collections.abc import Callable, Iterable
from functools import partial

from hub.access import ANONYMOUS, Principal, Verb
from hub.addresses import UNKNOWN
from hub.brokers.base import (
    Broker,
    OutageReason,
    PublishDone,
    SubscribeDone,
    SubscribeResult,
    TopicDone,
)
from hub.brokers.idempotency import FirstPublish
from hub.delivery.client import Client, Send, State, Transport
from hub.delivery.deletions import Deletions
from hub.delivery.departures import Departures
from hub.delivery.fanout import Fanout
from hub.delivery.framing import WEBSOCKET, Ending, Framing
from hub.delivery.gaps import Gaps
from hub.delivery.pacing import Pacing
from hub.delivery.recovery import Recovery
from hub.delivery.send_queue import Bounds
from hub.delivery.topic import SubscribeRequest, Topic
from hub.delivery.turns import Turns
from hub.errors import LEFT, LOST, SLOW_CONSUMER, TOPIC_DELETED, Close, Refusal
from hub.ids import Ids
from hub.limits import ConnectionCounts, exceeded
from hub.observer import Observer
from hub.protocol.notices import Notices
from hub.protocol.replies import encode_event
from hub.reports import GapCause, Limit, SlowAction
from hub.settings import Settings
from hub.values import Json, Position, RecoverFrom


class Published:
    """State: the numbers of messages that the broker has accepted from this node, by source.

    They only grow. They are attributes and not a dict, because each message is counted.
    """

    __slots__ = ("rest", "websocket")

    def __init__(self) -> None:
        self.websocket = 0
        self.rest = 0


class Hub:
    """State: the clients and this node's topics. It receives the events of its broker."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        *,
        node: str,
        ids: Ids,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
        timer: Callable[[], float],
        send: Send,
        observer: Observer,
    ) -> None:
        """Create a hub without clients, and register it with its broker.

        Args:
            settings: with the limits.
            broker: orders events, and carries them between nodes.
            node: the id of this process, 16 hexadecimal digits.
            ids: makes the ids and timestamps of messages.
            call_soon: the method of the event loop.
            clock: returns seconds of a monotonic clock.
            timer: the same with a resolution of microseconds; its zero may differ.
            send: writes to a socket, as `os.write` does.
            observer: gets the reports.
        """
        self.node = node
        self.observer = observer
        self.published = Published()
        self.ids = ids
        self.broker = broker
        self.clients: dict[Client, None] = {}  # a dict, to visit them in order
        self.connections = ConnectionCounts(settings.max_connections_per_ip)
        self.subscriptions = 0  # of all clients
        self.fanout = Fanout(
            call_soon,
            overrun=self._overrun,
            lost=self.leave,
            send=send,
            timer=timer,
            delivered=observer.delivered,
        )
        self.turns = Turns(call_soon)
        self.pacing = Pacing()
        self.notices = Notices(ids)
        self.gaps = Gaps(self.fanout, self.notices)
        self.recovery = Recovery(
            self.fanout,
            self.notices,
            call_soon,
            limit=settings.recovery_limit,
            recovered=observer.recovered,
            gap=observer.gap,
        )
        self._max_subscriptions = settings.max_subscriptions
        self._max_topics = settings.max_topics
        self.clock = clock
        self._joined = 0  # connections since the start
        self._bounds = self._queue_bounds(settings)
        self._departures = Departures(self.turns, self._remove)
        self._deletions = Deletions(self.turns, self.notices, self._end_subscription)
        self._topics: dict[str, Topic[Client]] = {}  # with subscribers, or subscribes under way
        self._unconfirmed = 0  # topics that the broker has yet to confirm
        broker.serve(self)

    def _queue_bounds(self, settings: Settings) -> Bounds:
        """Return the bounds of all send queues."""
        observer = self.observer
        return Bounds(
            messages=settings.max_queue_size,
            size=settings.max_queue_bytes,
            drop_oldest=settings.backpressure == "drop_oldest",
            gap=self._gap_of_dropped,
            dropped=observer.dropped,
            dropping=lambda client: observer.slow(client, SlowAction.DROP_OLDEST),
        )

    # Connections.

    def join(
        self,
        transport: Transport,
        *,
        name: str = "",
        framing: Framing = WEBSOCKET,
        principal: Principal = ANONYMOUS,
        address: str = UNKNOWN,
    ) -> Client:
        """Add a connection, and return its client.

        Args:
            transport: writes to the connection; its write buffer limits are (0, 0).
            name: the client id given for the connection; empty if there is none.
            framing: writes its messages.
            principal: the caller of the commands that arrive on it.
            address: of the client, by which limits count it.
        """
        self._joined += 1
        client = Client(
            transport,
            number=self._joined,
            joined_at=self.clock(),
            name=name,
            principal=principal,
            address=address,
            bounds=self._bounds,
            framing=framing,
        )
        self.clients[client] = None
        self.connections.add(address)
        self.observer.joined(client)
        return client

    def leave(self, client: Client) -> None:
        """Remove a lost connection; do nothing if it was removed before."""
        client.state = State.GONE  # first: its descriptor may soon be another connection's
        if client in self.clients:
            self.connections.remove(client.address)
            self.observer.left(client, client.end_reason or LOST, self.clock() - client.joined_at)
        client.lost()
        self.pacing.drained(client)
        self._leave_topics(client)
        self.clients.pop(client, None)

    def fail(self, client: Client, close: Close) -> None:
        """End a connection because of a fault of the client or the server, with a Close.

        The client gets everything that was sent to it before.
        """
        last = client.framing.close(close)
        self.close(client, last, Ending.HALF_CLOSE, close.reason)

    def client_closed(self, client: Client, reply: bytes) -> None:
        """Answer a client's Close with `reply`; hang up if it answers the server's own Close."""
        if client.open:
            self.close(client, reply, Ending.HANG_UP, LEFT)
        else:
            client.hang_up()

    def close(self, client: Client, last: bytes, ending: Ending, reason: str) -> None:
        """End an open client; it still gets everything that was sent to it before.

        Args:
            client: the client.
            last: the encoded last message; empty for none.
            ending: how to end the connection after it.
            reason: one of `hub.errors.REASONS`.
        """
        for topic in [it for it in client.topics if it.batch or it.gap is not None]:
            self._settle(topic)
        self._leave_topics(client)
        if client.open:  # settling may have ended it
            try:
                client.finish(last, ending, reason)
            except RuntimeError:  # raised by uvloop when the transport is closed
                self.leave(client)

    def _overrun(self, client: Client) -> None:
        """End a client that exceeds its bounds and has no event that may be dropped."""
        self.observer.slow(client, SlowAction.DISCONNECT)
        framing = client.framing
        last = framing.encoding.message(self.notices.too_slow()) + framing.close(SLOW_CONSUMER)
        try:
            client.finish_now(last, SLOW_CONSUMER.reason)
        except RuntimeError:  # raised by uvloop when the transport is closed
            self.leave(client)
        self._leave_topics(client)

    def _gap_of_dropped(self, topic: str, count: int, position: Position) -> bytes:
        """Return the notice about events that were dropped from a client's send queue."""
        self.observer.gap(topic, GapCause.DROP_OLDEST)
        return self.notices.gap(topic, count, position)

    def _leave_topics(self, client: Client) -> None:
        """Remove a client that is ending from its topics."""
        topics = client.unsubscribed_from_all()
        if topics:
            self._departures.add(client, topics)

    # Subscriptions.

    def subscribe(
        self,
        client: Client,
        name: str,
        done: SubscribeDone,
        *,
        recover_from: RecoverFrom | None = None,
    ) -> None:
        """Make a client a subscriber of a topic. The first one creates the topic.

        Args:
            client: the client.
            name: the topic's name.
            done: called with the result, before the first event is sent.
            recover_from: where a recovery begins; None for none.
        """
        self._deletions.notify(client, name)
        topic = self._topics.get(name)
        refusal = self._limit_subscriptions(client, topic)
        if refusal is None and topic is None:
            refusal = self._limit_topics(name, client.principal.may(Verb.MANAGE, name))
        if refusal is not None:
            done(refusal)
            return
        request = SubscribeRequest(client, recover_from, done)
        if topic is None:
            topic = self._topics[name] = Topic(name)
            self._unconfirmed += 1
            topic.requests = [request]
            self.broker.subscribe(name, partial(self._confirmed, topic))
        elif topic.requests is not None:
            topic.requests.append(request)
        else:
            self.broker.join(name, partial(self._rejoined, topic, request))

    def create(self, topic: str, done: TopicDone) -> None:
        """Create a topic that stays until it is deleted."""
        refusal = self._limit_topics(topic, manages=True)
        if refusal is None:
            self.broker.create(topic, done)
        else:
            done(refusal)

    def _limit_subscriptions(self, client: Client, topic: Topic[Client] | None) -> Refusal | None:
        """Return the refusal of another subscription of a client; None if it may have one."""
        if len(client.topics) < self._max_subscriptions or (topic is not None and client in topic):
            return None
        self.observer.limited(Limit.MAX_SUBSCRIPTIONS)
        return exceeded("subscriptions", "MAX_SUBSCRIPTIONS", self._max_subscriptions)

    def _limit_topics(self, name: str, manages: bool) -> Refusal | None:
        """Return the refusal of a new topic; None if this node knows it, or has room for it.

        An eighth of MAX_TOPICS is reserved for callers that may manage the topic, such as API keys.
        """
        limit, text = self._max_topics, "MAX_TOPICS"
        if not manages:
            limit, text = limit - limit // 8, "7/8 of MAX_TOPICS"
        count = len(self._topics) + len(self.broker.topics())
        if count < limit or self.has_topic(name):
            return None
        self.observer.limited(Limit.MAX_TOPICS)
        return exceeded("topics", text, limit)

    def unsubscribe(self, client: Client, name: str) -> None:
        """End a client's subscription; do nothing if there is none."""
        self._deletions.notify(client, name)
        topic = self._topics.get(name)
        if topic is not None and client in topic:
            self._settle(topic)
            client.unsubscribed(topic)
            self._remove(topic, client)
            self.observer.unsubscribed(client, name)

    def _confirmed(self, topic: Topic[Client], result: SubscribeResult | Refusal) -> None:
        """Handle the broker's answer to a topic's first subscribe."""
        # The list may grow in the loop, since an answer may lead to another subscribe.
        for request in topic.requests or ():
            self._admit(topic, request, result)
        topic.requests = None
        self._unconfirmed -= 1
        if isinstance(result, Refusal):
            del self._topics[topic.name]
        elif not topic.members:
            self._retire(topic)

    def _rejoined(
        self,
        topic: Topic[Client],
        request: SubscribeRequest[Client],
        result: SubscribeResult | Refusal,
    ) -> None:
        """Handle the broker's answer to a later subscribe; the topic may be deleted by now."""
        if self._topics.get(topic.name) is topic:
            self._admit(topic, request, result)
        else:
            client, recover_from, done = request
            self.subscribe(client, topic.name, done, recover_from=recover_from)

    def _admit(
        self,
        topic: Topic[Client],
        request: SubscribeRequest[Client],
        result: SubscribeResult | Refusal,
    ) -> None:
        """Add a subscriber. It gets all events after its ack, and none before."""
        client = request.client
        if isinstance(result, Refusal):
            request.done(result)
        elif client.open:
            self._settle(topic)
            topic.remember(self.broker.history(topic.name))
            is_new = client not in topic
            result = self.recovery.answer(topic, client, request.recover_from, result)
            if is_new:
                if client not in topic.cursors:
                    topic.add(client)
                client.topics.append(topic)
                self.subscriptions += 1
            self.broker.set_subscriber_count(topic.name, topic.members)
            request.done(result)
            if is_new:
                self.observer.subscribed(client, topic.name)

    def _settle(self, topic: Topic[Client]) -> None:
        """Send the gap notice and the batch that are due, before the subscribers change."""
        if topic.gap is not None:
            self.gaps.tell(topic)
        self.fanout.settle(topic)

    def _remove(self, topic: Topic[Client], client: Client) -> None:
        """Remove a client from a topic; after the last client, remove the topic."""
        topic.discard(client)
        self.recovery.drop(topic, client)
        if self._topics.get(topic.name) is not topic:
            return  # it was deleted
        self.subscriptions -= 1
        if topic.members:
            self.broker.set_subscriber_count(topic.name, topic.members)
        elif topic.requests is None:
            self._retire(topic)

    def _retire(self, topic: Topic[Client]) -> None:
        """Remove a topic without subscribers here; it may continue to exist at the broker."""
        del self._topics[topic.name]
        self.broker.unsubscribe(topic.name)

    # Messages.

    def publish(
        self, topic: str, message_id: Json, payload: Json, done: PublishDone, *, key: str = ""
    ) -> int:
        """Publish a message to a topic.

        Args:
            topic: the topic's name.
            message_id: the publisher's id of the message; None or "" for a new one.
            payload: any JSON value.
            done: called with the result.
            key: an idempotency key; a second publish with the same key is not carried out. Empty
                for none.

        Returns:
            The size of the encoded event in bytes.
        """
        if message_id is None or message_id == "":
            message_id = self.ids.new_id()
        event = encode_event(topic, message_id, payload, self.ids.now())
        if key:
            first = FirstPublish(message_id, self.subscriber_count(topic))
            self.broker.publish_once(topic, event, done, key=key, first=first)
        else:
            self.broker.publish(topic, event, done)
        return len(event)

    async def pace(self, names: Iterable[str], deadline: float) -> None:
        """Wait until the subscribers of these topics can take the next part of a burst.

        Args:
            names: of the topics.
            deadline: the time at which the wait ends, in seconds of the loop's clock.
        """
        here = [topic for name in names if (topic := self._topics.get(name)) is not None]
        await self.pacing.drain(here, deadline)

    # Events of the broker.

    def deliver(self, topic: str, event: bytes) -> None:
        """Send an event to the topic's subscribers on this node."""
        here = self._topics.get(topic)
        if here is not None:
            if here.gap is not None:
                self.gaps.tell(here)
            self.fanout.broadcast(here, event)

    def deleted(self, topic: str) -> None:
        """End the subscriptions to a deleted topic, and notify the subscribers."""
        gone = self._topics.get(topic)
        if gone is None or gone.requests is not None:
            return
        del self._topics[topic]
        self.subscriptions -= gone.members
        self._settle(gone)
        self._deletions.start(gone)

    def _end_subscription(self, client: Client, gone: Topic[Client], message: bytes) -> None:
        client.unsubscribed(gone)
        self._remove(gone, client)
        self.observer.unsubscribed(client, gone.name)
        self.fanout.send(client, client.encoding.message(message))
        ends = client.framing.ends_with_topics
        if ends and not client.topics and not client.commands.awaiting:
            self.close(client, b"", client.framing.ending, TOPIC_DELETED)

    def missed(self, topic: str, cause: GapCause = GapCause.OUTAGE) -> None:
        """Mark a gap in a topic; its subscribers are notified before the next event."""
        here = self._topics.get(topic)
        if here is not None:
            self.fanout.settle(here)  # the batch belongs to the epoch before the gap
            here.remember(here.history)  # the history may have a new epoch
            if here.receivers:
                self.gaps.mark(here)
                self.observer.gap(topic, cause)

    def broker_lost(self, reason: OutageReason) -> None:
        """Report the beginning of an outage of the broker."""
        self.observer.broker_lost(reason)

    def broker_back(self) -> None:
        """Report the end of the outage."""
        self.observer.broker_back()

    def broker_answered(self, seconds: float) -> None:
        """Report that a command of the broker was answered."""
        self.observer.broker_answered(seconds)

    def broker_returned(self, seconds: float) -> None:
        """Report that a message of this node to itself came back."""
        self.observer.broker_returned(seconds)

    # Statistics.

    def subscriber_count(self, topic: str) -> int:
        """Return the number of a topic's subscribers on this node."""
        here = self._topics.get(topic)
        return 0 if here is None else here.members

    def has_topic(self, topic: str) -> bool:
        """Return whether this node knows a topic."""
        here = self._topics.get(topic)
        return topic in self.broker.topics() if here is None else here.requests is None

    @property
    def topic_count(self) -> int:
        """The number of topics that this node knows."""
        return len(self._topics) - self._unconfirmed + len(self.broker.topics())

    def subscribers(self, topic: str) -> list[Client]:
        """Return a topic's subscribers on this node."""
        here = self._topics.get(topic)
        return [] if here is None else list(here.subscribers())

    def topic_names(self) -> list[str]:
        """Return the names of the topics that this node knows."""
        here: Iterable[str] = self._topics
        if self._unconfirmed:
            here = (name for name, topic in self._topics.items() if topic.requests is None)
        names = list(here)
        names += self.broker.topics()
        return names
