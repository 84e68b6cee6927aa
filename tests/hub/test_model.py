"""Random commands of several clients, compared with a model of plain dicts."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.base import PUBLISHED
from tests.support.node import Node, Peer

CLIENTS = 3
TOPICS = st.sampled_from(["a", "b"])
WHO = st.integers(0, CLIENTS - 1)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["subscribe", "publish", "publish"]), WHO, TOPICS),
        st.tuples(st.sampled_from(["subscribe", "unsubscribe", "publish"]), WHO, TOPICS),
        st.tuples(st.sampled_from(["create", "delete", "rest publish"]), st.none(), TOPICS),
        st.tuples(st.sampled_from(["tick", "reconnect"]), WHO, st.none()),
    ),
    min_size=25,
    max_size=60,
)


@dataclass
class Model:
    """The topics, the answers of each client, and the messages of its topics."""

    explicit: set[str] = field(default_factory=set)
    subscribers: dict[str, set[int]] = field(default_factory=dict)
    answers: list[list[Any]] = field(default_factory=lambda: [[] for _ in range(CLIENTS)])
    news: list[list[Any]] = field(default_factory=lambda: [[] for _ in range(CLIENTS)])

    def exists(self, topic: str) -> bool:
        return topic in self.explicit or topic in self.subscribers

    def counts(self) -> dict[str, int]:
        names = self.explicit | set(self.subscribers)
        return {name: len(self.subscribers.get(name, ())) for name in names}

    def subscribe(self, who: int, topic: str) -> None:
        self.subscribers.setdefault(topic, set()).add(who)
        self.answers[who].append(("ack", topic))
        self._mark(who, topic)

    def unsubscribe(self, who: int, topic: str) -> None:
        self._mark(who, topic)
        self.answers[who].append(("ack", topic))
        self.remove(who, topic)

    def _mark(self, who: int, topic: str) -> None:
        """Record the ack of a subscribe or unsubscribe among the topic's events."""
        self.news[who].append(("ack", topic))

    def remove(self, who: int, topic: str) -> None:
        members = self.subscribers.get(topic, set())
        members.discard(who)
        if not members:
            self.subscribers.pop(topic, None)

    def publish(self, topic: str, number: int) -> bool:
        for who in self.subscribers.get(topic, ()):
            self.news[who].append(("event", topic, number))
        return self.exists(topic)

    def delete(self, topic: str) -> bool:
        existed = self.exists(topic)
        for who in self.subscribers.pop(topic, ()):
            self.news[who].append(("info", topic))
        self.explicit.discard(topic)
        return existed


class Run:
    """Takes the same steps on a node and on the model."""

    def __init__(self) -> None:
        self.node = Node()
        self.model = Model()
        self.peers = [self.node.connect("me") for _ in range(CLIENTS)]
        self.answers: list[list[Any]] = [[] for _ in range(CLIENTS)]
        self.news: list[list[Any]] = [[] for _ in range(CLIENTS)]

    def step(self, number: int, verb: str, who: int, topic: str) -> None:
        model, node = self.model, self.node
        match verb:
            case "subscribe" | "unsubscribe":
                getattr(model, verb)(who, topic)
                self.peers[who].say({"type": verb, "topic": topic, "request_id": verb})
            case "publish":
                accepted = model.publish(topic, number)
                model.answers[who].append(("ack", topic) if accepted else "TOPIC_NOT_FOUND")
                self.peers[who].say({"type": "publish", "topic": topic, "payload": number})
            case "rest publish":
                refused = node.publish(topic, number)
                assert model.publish(topic, number) == (refused == PUBLISHED)
            case "create":
                outcomes: list[Any] = []
                node.broker.create(topic, outcomes.append)
                assert (outcomes == [None]) == (not model.exists(topic))
                model.explicit.add(topic) if not model.exists(topic) else None
            case "delete":
                outcomes = []
                node.broker.delete(topic, outcomes.append)
                assert (outcomes == [None]) == model.delete(topic)
            case "tick":
                self.listen()
            case "reconnect":
                self.listen()
                self.reconnect(who)
        assert node.topics() == model.counts()

    def reconnect(self, who: int) -> None:
        self.node.hub.leave(self.peers[who].client)
        for topic in list(self.model.subscribers):
            self.model.remove(who, topic)
        self.peers[who] = self.node.connect("me")

    def listen(self) -> None:
        for who, peer in enumerate(self.peers):
            for message in peer.hear():
                self._sort(who, message)

    def _sort(self, who: int, message: dict[str, Any]) -> None:
        match message:
            case {"type": "event", "topic": topic, "message": {"payload": payload}}:
                self.news[who].append(("event", topic, payload))
            case {"type": "info", "topic": topic}:
                self.news[who].append(("info", topic))
            case {"type": "ack", "topic": topic}:
                self.answers[who].append(("ack", topic))
                if "request_id" in message:
                    self.news[who].append(("ack", topic))
            case {"error": {"code": code}}:
                self.answers[who].append(code)


def of_topic(news: list[Any], topic: str) -> list[Any]:
    return [one for one in news if one[1] == topic]


@given(STEPS)
def test_the_hub_agrees_with_the_model(steps: list[tuple[str, int, str]]) -> None:
    run = Run()
    for number, (verb, who, topic) in enumerate(steps):
        run.step(number, verb, who, topic)
    run.listen()
    assert run.answers == run.model.answers
    for heard, expected in zip(run.news, run.model.news, strict=True):
        for topic in "ab":
            assert of_topic(heard, topic) == of_topic(expected, topic)


def test_all_subscribers_of_a_topic_see_one_order() -> None:
    node = Node()
    peers: list[Peer] = [node.subscribed("t") for _ in range(3)]
    for number, peer in enumerate(peers * 5):
        peer.say({"type": "publish", "topic": "t", "payload": number})
        if number % 4 == 0:
            node.tick()
    heard = [
        [message["message"]["payload"] for message in peer.hear() if message["type"] == "event"]
        for peer in peers
    ]
    assert heard == [list(range(15))] * 3
