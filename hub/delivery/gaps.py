"""What may have been lost, and who is still to be told.

State: the topics whose events may have been lost on the way to this node. Their subscribers are
told before the topic's next event, and topics that stay silent are told by the sweeper, some at a
time. None of it counts against a client's bounds.
"""

from typing import Final

from hub.delivery.fanout import Fanout
from hub.delivery.topic import Topic
from hub.protocol.notices import Notices
from hub.values import NOWHERE

PACE: Final = 1_000  # clients told at one visit of the sweeper


class Gaps:
    """Tells a topic's subscribers of a gap: once, in its place of the order."""

    def __init__(self, fanout: Fanout, notices: Notices) -> None:
        self._fanout = fanout
        self._notices = notices
        self._marked: dict[Topic, None] = {}

    def mark(self, topic: Topic) -> None:
        """Events of the topic may have been lost just now."""
        topic.missed = topic.position
        self._marked[topic] = None

    def tell(self, topic: Topic) -> None:
        """Tell the subscribers of a marked topic, before anything else is said to them."""
        position, topic.missed = topic.missed or NOWHERE, None
        self._marked.pop(topic, None)
        self._fanout.settle(topic)
        message = self._notices.gap(topic.name, 0, position)
        for clients in (topic.subscribers, topic.streams):
            said = b""  # the same for all of a wire
            for client in clients:
                said = said or client.wire.say(message, position)
                self._fanout.tell(client, topic, said)

    def sweep(self) -> None:
        """Tell some of those that have waited longest."""
        told = 0
        while self._marked and told < PACE:
            topic = next(iter(self._marked))
            told += 1 + len(topic.subscribers) + len(topic.streams)
            self.tell(topic)
