"""Edge cases of the hub that neither the vectors nor the model have."""

from tests.support.node import Node


def test_an_event_of_a_topic_without_subscribers_here_is_dropped() -> None:
    node = Node()
    node.hub.deliver("elsewhere", b"{}")
    node.tick()
    assert node.topics() == {}


def test_a_deletion_of_a_topic_without_subscribers_here_is_harmless() -> None:
    node = Node()
    node.hub.deleted("elsewhere")
    assert node.topics() == {}
