"""A model of clients that recover: each gets every event once, or a report of the loss."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub.brokers.memory import MemoryBroker
from hub.settings import Settings
from hub.values import TOTAL_BYTES, Rule
from tests.support.node import Node
from tests.support.reader import Reader, StreamReader, Truth

CLIENTS = st.integers(0, 2)
TOPICS = st.sampled_from(["a", "b"])
STREAMS = st.integers(0, 1)


class Lives(RuleBasedStateMachine):
    """Topics with 4 events of history for 10 s, and clients that reconnect and may be slow."""

    total_bytes = TOTAL_BYTES

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epochs = 0
        self.truth = Truth()
        self.numbers = 0
        rules = {"": Rule(4, 10.0, 10_000)}
        self.broker = MemoryBroker(lambda: self.now, rules, self._new_epoch, self.total_bytes)
        limits = Settings(recovery_limit=3, max_queue_size=2, backpressure="drop_oldest")
        self.node = Node(limits, self.broker)
        self.readers = [Reader(self.truth) for _ in range(3)]
        self.streams = [StreamReader(self.truth) for _ in range(2)]

    def _new_epoch(self) -> str:
        self.epochs += 1
        return f"e{self.epochs}"

    @rule(who=CLIENTS, room=st.sampled_from([None, 150, 600]))
    def recover(self, who: int, room: int | None) -> None:
        self.come_back(who, room, True)

    @rule(who=CLIENTS, room=st.sampled_from([None, None, 150, 600]), recover=st.booleans())
    def come_back(self, who: int, room: int | None, recover: bool) -> None:
        """Lose the connection with everything in flight, and subscribe again."""
        reader = self.readers[who]
        if reader.peer is not None:
            self.node.hub.leave(reader.peer.client)
        reader.connect(self.node.connect("me", room))
        for topic in ("a", "b"):
            self.subscribe(who, topic, recover)

    @rule(who=CLIENTS, topic=TOPICS, recover=st.booleans())
    def subscribe(self, who: int, topic: str, recover: bool) -> None:
        if self.readers[who].open:
            self.readers[who].subscribe(topic, recover)

    @rule(
        who=STREAMS,
        topics=st.sampled_from([("a", "b"), ("a", "b"), ("b",)]),
        room=st.sampled_from([None, None, 150, 600]),
        cut=st.integers(0, 6),
    )
    def follow(self, who: int, topics: tuple[str, ...], room: int | None, cut: int) -> None:
        """Lose the stream after some of the messages in flight, and reconnect."""
        reader = self.streams[who]
        if reader.peer is not None:
            reader.listen(cut)
            self.node.hub.leave(reader.peer.client)
        last_id = reader.last_id if topics == reader.topics else ""
        reader.begin(self.node.stream(*topics, last_id=last_id, room=room), topics)

    @rule(who=STREAMS, room=st.sampled_from([50, 200, 1_000]))
    def read_some_of_a_stream(self, who: int, room: int) -> None:
        peer = self.streams[who].peer
        if peer is not None and peer.transport.room is not None:
            peer.drain(room)

    @rule(who=STREAMS)
    def read_all_of_a_stream(self, who: int) -> None:
        reader = self.streams[who]
        if reader.peer is None:
            return
        self.node.tick()
        reader.peer.drain()
        reader.listen()
        if reader.peer.client.open:
            for topic in reader.peer.client.topics:
                assert reader.place(topic.name) == topic.position

    @rule(who=CLIENTS, topic=TOPICS)
    def unsubscribe(self, who: int, topic: str) -> None:
        reader = self.readers[who]
        if reader.peer is not None and reader.peer.client.open:
            self._drain(reader)
            reader.peer.say({"type": "unsubscribe", "request_id": "un", "topic": topic})
            self._drain(reader)
            reader.subscribed.discard(topic)

    @rule(topic=TOPICS)
    def publish_one(self, topic: str) -> None:
        self.publish(topic, 1, True)

    @rule(topic=TOPICS, count=st.integers(1, 3), ticks=st.booleans())
    def publish(self, topic: str, count: int, ticks: bool) -> None:
        """Publish some events, in one tick or each in its own tick."""
        for _ in range(count):
            self.numbers += 1
            outcome = self.node.publish(topic, self.numbers)
            if getattr(outcome, "position", None) is not None:
                self.truth.said(*outcome.position, self.numbers)
            if ticks:
                self.node.tick()

    @rule(topic=TOPICS, what=st.sampled_from(["create", "delete", "wait", "wait", "wait long"]))
    def upset(self, topic: str, what: str) -> None:
        if what == "create":
            self.broker.create(topic, lambda _: None)
        elif what == "delete":
            self.broker.delete(topic, lambda _: None)
        else:
            self.now += 11.0 if what == "wait long" else 4.0

    @rule()
    def sweep(self) -> None:
        self.broker.sweep()

    @rule(who=CLIENTS, room=st.sampled_from([50, 200, 1_000]))
    def read_some(self, who: int, room: int) -> None:
        peer = self.readers[who].peer
        if peer is not None and peer.transport.room is not None:
            peer.transport.drain(room)
            self.node.hub.recovery.resume(peer.client)
            self.node.tick()

    @rule(who=CLIENTS)
    def read_all(self, who: int) -> None:
        reader = self.readers[who]
        if reader.peer is not None:
            self._drain(reader)

    def _drain(self, reader: Reader) -> None:
        assert reader.peer is not None
        self.node.tick()
        reader.peer.transport.drain()
        self.node.hub.recovery.resume(reader.peer.client)
        reader.listen()
        if reader.peer.client.open:
            for topic in reader.subscribed:
                history = self.broker.history(topic)
                assert history is not None
                assert reader.positions[topic] == history.position

    @invariant()
    def counts_are_of_members(self) -> None:
        for count in self.node.topics().values():
            assert 0 <= count <= len(self.readers) + len(self.streams)


class LivesInLittleMemory(Lives):
    """The same with too little memory for 4 events in each of two topics."""

    total_bytes = 900  # an event takes about 220


Lives.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestLives = Lives.TestCase
LivesInLittleMemory.TestCase.settings = settings(Lives.TestCase.settings, max_examples=100)
TestLivesInLittleMemory = LivesInLittleMemory.TestCase
