"""Membership and routing: which client is in which topic, and where a message goes.

State: the connected clients and this node's topics. It knows no HTTP and no socket; time, ids and
the loop's `call_soon` are handed in. One client's commands are put in order before they get here
(hub/command_queue.py), and what is said leaves through the fan-out (hub/delivery/fanout.py).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from hub.brokers.base import Accepted, Broker, Done
from hub.brokers.idempotency import First
from hub.delivery.client import Client, Transport
from hub.delivery.fanout import Fanout
from hub.delivery.framing import WEBSOCKET, Ending, Wire
from hub.delivery.gaps import Gaps
from hub.delivery.pacing import Pacing
from hub.delivery.recovery import Recovery
from hub.delivery.send_queue import Bounds
from hub.delivery.topic import Topic, Wish
from hub.delivery.turns import Turns
from hub.errors import LEFT, LOST, SLOW_CONSUMER, TOPIC_DELETED, Close, Refusal
from hub.ids import Stamps
from hub.observer import Observer
from hub.protocol import websocket_frames as frames
from hub.protocol.notices import Notices
from hub.protocol.replies import encode_event
from hub.settings import Settings
from hub.values import Json, RecoverFrom

PARTED: Final = 1_000  # topics that a client leaves in one turn of the loop: 5 ms
TOLD: Final = 1_000  # clients that are told of a deletion in one turn: 20 ms


class Hub:
    """One node's clients and topics. It is the `Node` that its broker serves."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        stamps: Stamps,
        call_soon: Callable[[Callable[[], None]], object],
        observer: Observer,
    ) -> None:
        self.observer = observer
        self.stamps = stamps  # the times and ids of all that this node says
        self.fanout = Fanout(call_soon, self._overrun, self.leave)  # the way out, for answers too
        self.turns = Turns(call_soon)  # long work, one slice a turn
        self.pacing = Pacing()  # bursts wait there for the subscribers that read
        self.broker = broker  # the other nodes, and the register of topics
        self.clients: dict[Client, None] = {}  # a dict for its order, and to visit them in turn
        self._joined = 0  # how many ever were
        self.subscriptions = 0  # of all clients
        self._topics: dict[str, Topic] = {}  # with subscribers, or with some on the way
        self._unconfirmed = 0  # those of them that the broker has yet to confirm
        self._deleted: dict[Topic, None] = {}  # some of whose subscribers are still to be told
        self.notices = Notices(stamps)
        self.gaps = Gaps(self.fanout, self.notices)  # who is to be told of lost events
        self.recovery = Recovery(self.fanout, self.notices, call_soon, settings.recovery_limit)
        self._bounds = Bounds(
            settings.max_queue_size,
            settings.max_queue_bytes,
            settings.backpressure == "drop_oldest",
            self.notices.gap,
        )
        broker.serve(self)

    # Clients come and go.

    def join(self, transport: Transport, name: str = "", wire: Wire = WEBSOCKET) -> Client:
        """Take in a new connection; `name` is the client id given for it, or empty."""
        self._joined += 1
        client = Client(self._joined, transport, name, self._bounds, wire)
        self.clients[client] = None
        self.observer.joined(client)
        return client

    def leave(self, client: Client) -> None:
        """Forget a connection that is lost; harmless where that is done."""
        if client in self.clients:
            self.observer.left(client, client.end or LOST)
        client.lost()
        self.pacing.drained(client)
        self._part(client)
        self.clients.pop(client, None)

    def fail(self, client: Client, close: Close) -> None:
        """End a connection that has broken the protocol; what was said to it still arrives."""
        last = frames.close_frame(close.code, close.reason)
        self.close(client, last, Ending.HALF_CLOSE, close.reason)

    def closed(self, client: Client, reply: bytes) -> None:
        """A client ended its side: say `reply` to it, unless it is answering our own Close."""
        if client.open:
            self.close(client, reply, Ending.HANG_UP, LEFT)
        else:
            client.hang_up()

    # Membership.

    def subscribe(
        self, client: Client, name: str, done: Done, since: RecoverFrom | None = None
    ) -> None:
        """Make a client a subscriber of a topic; the first one makes the topic.

        `since`: what it has already, or wants of what was; it follows the answer.
        """
        self._tell_deletion(client, name)
        wish = Wish(client, since, done)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name)
            topic.waiting = [wish]
            self._unconfirmed += 1
            self.broker.subscribe(name, partial(self._confirmed, topic))
        elif topic.waiting is not None:
            topic.waiting.append(wish)
        else:
            self.broker.join(name, partial(self._rejoined, topic, wish))

    def unsubscribe(self, client: Client, name: str) -> None:
        """Make it one no more; harmless where it was none."""
        self._tell_deletion(client, name)
        topic = self._topics.get(name)
        if topic is not None and topic in client.topics:
            self._settle(topic)
            client.unsubscribed(topic)
            self._remove(topic, client)
            self.observer.unsubscribed(client, name)

    def _confirmed(self, topic: Topic, outcome: Accepted | Refusal) -> None:
        """The broker has answered a topic's first subscribe."""
        # It grows where an answer sets off a command.
        for wish in topic.waiting or ():
            self._admit(topic, wish, outcome)
        topic.waiting = None
        self._unconfirmed -= 1
        if isinstance(outcome, Refusal):
            del self._topics[topic.name]
        elif not topic.members:
            self._retire(topic)

    def _rejoined(self, topic: Topic, wish: Wish, outcome: Accepted | Refusal) -> None:
        """The broker has answered a subscribe to a topic that was there, and may be gone."""
        if self._topics.get(topic.name) is topic:
            self._admit(topic, wish, outcome)
        else:
            self.subscribe(wish.client, topic.name, wish.done, wish.since)

    def _admit(self, topic: Topic, wish: Wish, outcome: Accepted | Refusal) -> None:
        """What was said before is not for the newcomer; all that comes after its ack is."""
        client = wish.client
        if isinstance(outcome, Refusal):
            wish.done(outcome)
        elif client.open:
            self._settle(topic)
            topic.remember(self.broker.history(topic.name))
            outcome = self.recovery.answer(topic, client, wish.since, outcome)
            if client not in topic.behind:
                topic.add(client)
            if topic not in client.topics:
                client.topics.add(topic)
                self.subscriptions += 1
            self.broker.counted(topic.name, topic.members)
            wish.done(outcome)
            self.observer.subscribed(client, topic.name)

    def _settle(self, topic: Topic) -> None:
        """Say what is to be said to the subscribers, before who they are changes."""
        if topic.missed is not None:
            self.gaps.tell(topic)
        self.fanout.settle(topic)

    def _remove(self, topic: Topic, client: Client) -> None:
        """Take a client out of a topic; the last one takes the topic with it."""
        topic.discard(client)
        self.recovery.drop(topic, client)
        if self._topics.get(topic.name) is not topic:
            return  # it was deleted
        self.subscriptions -= 1
        if topic.members:
            self.broker.counted(topic.name, topic.members)
        elif topic.waiting is None:
            self._retire(topic)

    def _retire(self, topic: Topic) -> None:
        """The last subscriber is gone: the topic goes too, unless someone made it on purpose."""
        del self._topics[topic.name]
        self.broker.unsubscribe(topic.name)

    def _part(self, client: Client) -> None:
        """Take a client that is not open any more out of its topics, where it gets nothing now."""
        topics = client.unsubscribed_from_all()
        if topics:
            self.turns.start(self._part_from(client, topics))

    def _part_from(self, client: Client, topics: Iterable[Topic]) -> Iterator[None]:
        for number, topic in enumerate(topics, 1):
            self._remove(topic, client)
            if number % PARTED == 0:
                yield

    # Messages.

    def publish(
        self, topic: str, message_id: Json, payload: Json, done: Done, key: str = ""
    ) -> int:
        """Publish under a fresh id where there is none; with a `key`, once whoever repeats it.

        Returns:
            The size of the encoded event in bytes.
        """
        if message_id is None or message_id == "":
            message_id = self.stamps.new_id()
        event = encode_event(topic, message_id, payload, self.stamps.ts())
        if key:
            first = First(message_id, self.subscribers(topic))
            self.broker.publish_once(topic, event, done, key, first)
        else:
            self.broker.publish(topic, event, done)
        return len(event)

    async def pace(self, names: Iterable[str], deadline: float) -> None:
        """Wait until the subscribers of these topics can take the next part of a burst.

        `deadline`: when to go on in any case, by the loop's clock.
        """
        here = [topic for name in names if (topic := self._topics.get(name)) is not None]
        await self.pacing.drain(here, deadline)

    def deliver(self, topic: str, event: bytes) -> None:
        """An event arrives from the broker: frame it once, for all subscribers."""
        here = self._topics.get(topic)
        if here is not None:
            if here.missed is not None:
                self.gaps.tell(here)
            self.fanout.broadcast(here, frames.text_frame(event))

    def deleted(self, topic: str) -> None:
        """The broker says that a topic was deleted: its subscribers are told, and are none now."""
        gone = self._topics.get(topic)
        if gone is None or gone.waiting is not None:
            return
        del self._topics[topic]
        self.subscriptions -= gone.members
        self._settle(gone)
        self._deleted[gone] = None
        self.turns.start(self._tell_deletions(gone))

    def _tell_deletions(self, gone: Topic) -> Iterator[None]:
        message = self.notices.deleted(gone.name)
        for number, client in enumerate((*gone.subscribers, *gone.streams, *gone.behind), 1):
            if gone in client.topics:  # it may have left, or been told, in an earlier turn
                self._end_subscription(client, gone, message)
            if number % TOLD == 0:
                yield
        del self._deleted[gone]

    def _tell_deletion(self, client: Client, name: str) -> None:
        """Tell a client of a deletion before it does something else with the topic's name."""
        for gone in self._deleted:
            if gone.name == name and gone in client.topics:
                self._end_subscription(client, gone, self.notices.deleted(name))

    def _end_subscription(self, client: Client, gone: Topic, message: bytes) -> None:
        client.unsubscribed(gone)
        self._remove(gone, client)
        self.observer.unsubscribed(client, gone.name)
        self.fanout.send(client, client.wire.say(message))
        if client.wire.streams and not client.topics and not client.awaiting:
            # It can subscribe to nothing else.
            self.close(client, b"", client.wire.ending, TOPIC_DELETED)

    def missed(self, topic: str) -> None:
        """The broker says that events of a topic may have been lost."""
        here = self._topics.get(topic)
        if here is not None:
            self.fanout.settle(here)  # what is in its batch may be of another epoch
            here.remember(here.history)
            if here.subscribers or here.streams:
                self.gaps.mark(here)

    # Figures.

    def subscribers(self, topic: str) -> int:
        """How many clients of this node are subscribed to a topic."""
        here = self._topics.get(topic)
        return 0 if here is None else here.members

    def has_topic(self, topic: str) -> bool:
        """Whether this node knows a topic."""
        here = self._topics.get(topic)
        return topic in self.broker.topics() if here is None else here.waiting is None

    @property
    def topic_count(self) -> int:
        """How many topics this node knows."""
        return len(self._topics) - self._unconfirmed + len(self.broker.topics())

    def topic_names(self) -> list[str]:
        """Every topic that this node knows; for a while after, some of it may be out of date."""
        here: Iterable[str] = self._topics
        if self._unconfirmed:
            here = (name for name, topic in self._topics.items() if topic.waiting is None)
        names = list(here)
        names += self.broker.topics()
        return names

    # What the fan-out and the outboxes ask for.

    def close(self, client: Client, last: bytes, ending: Ending, why: str) -> None:
        """End an open client after all that it has been sent; `why` is one of `REASONS`."""
        for topic in [it for it in client.topics if it.batch or it.missed is not None]:
            self._settle(topic)
        self._part(client)
        if client.open:  # the settling may have overrun its bounds
            client.finish(last, ending, why)

    def _overrun(self, client: Client) -> None:
        """More waits for a client than its bounds allow, and BACKPRESSURE says: disconnect."""
        wire = client.wire
        last = wire.say(self.notices.too_slow()) + wire.close(SLOW_CONSUMER)
        client.cut_short(last, SLOW_CONSUMER.reason)
        self._part(client)
