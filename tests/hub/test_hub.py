"""What the hub does at its edges; the rest is in the vectors and in the model."""

from tests.support.node import Node


def test_an_event_for_a_topic_without_subscribers_here_is_nobodys() -> None:
    node = Node()
    node.hub.deliver("elsewhere", b"{}")
    node.tick()
    assert node.topics() == {}


def test_a_deletion_of_a_topic_without_subscribers_here_is_harmless() -> None:
    node = Node()
    node.hub.deleted("elsewhere")
    assert node.topics() == {}


def test_a_node_without_clients_is_drained_at_once() -> None:
    node = Node()
    calls: list[str] = []
    node.drain.begin(lambda: calls.append("drained"))
    assert calls == ["drained"]


def test_a_node_is_drained_when_the_last_client_has_left() -> None:
    node = Node()
    first, last = node.connect(), node.connect()
    calls: list[str] = []
    node.drain.begin(lambda: calls.append("drained"))
    node.hub.leave(first.client)
    assert calls == []
    node.hub.leave(last.client)
    assert calls == ["drained"]
