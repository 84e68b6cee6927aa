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
