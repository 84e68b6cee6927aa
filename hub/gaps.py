"""What may have been lost, and who is still to be told.

State: the topics whose events may have been lost on the way to this node. Their subscribers are
told before the topic's next event, and topics that stay silent are told by the sweeper, some at a
time. None of it counts against a client's bounds.
"""

from typing import Final

from hub.client import State
from hub.fanout import Fanout
from hub.notices import Notices
from hub.topic import Topic

PACE: Final = 1_000  # clients told at one visit of the sweeper


class Gaps:
    """Tells a topic's subscribers of a gap: once, in its place of the order."""

    def __init__(self, fanout: Fanout, notices: Notices) -> None:
        self._fanout = fanout
        self._notices = notices
        self._marked: dict[Topic, None] = {}

    def mark(self, topic: Topic) -> None:
        """Events of the topic may have been lost just now."""
        topic.missed = topic.top
        self._marked[topic] = None

    def tell(self, topic: Topic) -> None:
        """Tell the subscribers of a marked topic, before anything else is said to them."""
        offset, topic.missed = topic.missed or 0, None
        self._marked.pop(topic, None)
        self._fanout.settle(topic)
        frame = self._notices.gap(topic, 0, offset)
        for client in topic.subscribers:
            if client.state is State.CONGESTED:
                client.missed(topic, offset)
            else:
                self._fanout.send(client, frame)

    def sweep(self) -> None:
        """Tell some of those that have waited longest."""
        told = 0
        while self._marked and told < PACE:
            topic = next(iter(self._marked))
            told += 1 + len(topic.subscribers)
            self.tell(topic)
