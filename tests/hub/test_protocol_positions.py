"""A client that stores positions as docs/protocol.md says loses no event unreported."""

from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hub.brokers.memory import MemoryBroker
from hub.settings import Settings
from hub.values import Rule
from tests.support.markdown import table
from tests.support.node import Node
from tests.support.process import ROOT

Message = dict[str, Any]
Place = tuple[str, int] | None

NEWEST = 2  # of `last_n`
DOCUMENT = (ROOT / "docs/protocol.md").read_text()
# What a client does for each row of the table of positions: from its position and the message that
# arrived to its new position. None: it asks for `last_n`.
RULES: dict[str, Callable[[Place, Message], Place]] = {
    "the ack of a subscribe": lambda _, ack: (ack["epoch"], ack["offset"]),
    'an ack with `"recovered": true`': lambda here, _: here,
    "an ack of `last_n` whose `offset` is not 0": lambda *_: None,
    "the ack of a repeated subscribe": lambda here, _: here,
    "an event": lambda here, event: ((here or ("a", 0))[0], event["offset"]),
    "a `GAP` with a position": lambda _, gap: (
        gap["message"]["payload"]["epoch"],
        gap["message"]["payload"]["offset"],
    ),
}


def kind(message: Message, asked: Message, is_repeated: bool) -> str:
    """Return the row of the table that a message belongs to."""
    if message["type"] == "event":
        return "an event"
    if message["type"] == "info":
        return "a `GAP` with a position"
    if is_repeated:
        return "the ack of a repeated subscribe"
    if message.get("recovered"):
        return 'an ack with `"recovered": true`'
    if "last_n" in asked and message["offset"]:
        return "an ack of `last_n` whose `offset` is not 0"
    return "the ack of a subscribe"


def test_each_row_of_the_table_has_a_rule() -> None:
    assert [row[0] for row in table(DOCUMENT, "History")] == list(RULES)


class Follower:
    """A client that keeps its position as the table says, over many connections."""

    def __init__(self, node: Node, newest: int) -> None:
        self.node = node
        self.place: Place = None
        self.newest = newest  # `last_n` of the first subscribe; 0 for none
        self.offsets: list[int] = []  # of the events that arrived
        self.excused: set[int] = set()  # offsets that were reported as lost, or not asked for

    def connect(self, room: int | None, cut: int | None, *, repeat: bool) -> None:
        """Subscribe, and lose the connection after `cut` messages; None: after all."""
        asked: Message = {"type": "subscribe", "topic": "t"}
        if self.place is not None:
            epoch, offset = self.place
            asked["recover"] = {"epoch": epoch, "offset": offset}
        elif self.newest:
            asked["last_n"] = self.newest
        peer = self.node.connect("me", room)
        peer.say(asked)
        if repeat:
            peer.say({"type": "subscribe", "topic": "t"})
        self.node.publish("t", "while subscribed")
        self.node.tick()
        if cut is None:
            peer.transport.drain()
            self.node.hub.recovery.resume(peer.client)
        acks = 0
        for message in peer.hear()[:cut]:
            acks += message["type"] == "ack"
            row = kind(message, asked, is_repeated=acks == 2 and message["type"] == "ack")
            self.place = RULES[row](self.place, message)
            if message["type"] == "event":
                self.offsets.append(message["offset"])
            elif row == "the ack of a subscribe":
                self.excused |= set(range(1, message["offset"] + 1))
            elif row == "an ack of `last_n` whose `offset` is not 0":
                self.excused |= set(range(1, message["offset"] + 1 - self.newest))
            elif message["type"] == "info":
                self.excused |= set(range(1, message["message"]["payload"]["offset"] + 1))
        self.node.hub.leave(peer.client)


CONNECTIONS = st.lists(
    st.tuples(
        st.sampled_from([None, 150, 400]), st.integers(1, 4), st.booleans(), st.integers(0, 3)
    )
)


@given(newest=st.sampled_from([0, NEWEST]), early=st.integers(0, 3), connections=CONNECTIONS)
@example(newest=0, early=0, connections=[(None, 4, False, 2), (None, 1, False, 0)])
@example(newest=NEWEST, early=3, connections=[(None, 1, False, 0)])
@example(newest=0, early=0, connections=[(None, 4, False, 2), (None, 2, True, 0)])
def test_a_client_that_stores_positions_as_documented_loses_nothing_unreported(
    newest: int, early: int, connections: list[tuple[int | None, int, bool, int]]
) -> None:
    broker = MemoryBroker(lambda: 0.0, {"": Rule(6, 60.0, 10_000)}, lambda: "a")
    limits = Settings(recovery_limit=5, max_queue_size=2, backpressure="drop_oldest")
    node = Node(limits, broker)
    broker.create("t", lambda _: None)
    total = early
    for _ in range(early):
        node.publish("t", "early")
    follower = Follower(node, newest)
    for room, cut, repeat, missed in connections:
        follower.connect(room, cut, repeat=repeat)
        for _ in range(missed):
            node.publish("t", "missed")
        total += 1 + missed
    follower.connect(None, None, repeat=False)
    total += 1
    assert follower.offsets == sorted(set(follower.offsets))
    assert set(follower.offsets) | follower.excused == set(range(1, total + 1))
