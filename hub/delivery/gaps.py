"""Gaps: topics that may have lost events on their way to this node.

The subscribers of such a topic get a notice before its next event, and before its subscribers
change. A regular sweep sends the notices of other topics. Notices do not count against the bounds
of a client's send queue.
"""

from typing import Final

from hub.delivery.client import Client
from hub.delivery.fanout import Fanout
from hub.delivery.topic import Topic
from hub.protocol.notices import Notices
from hub.values import NOWHERE

PACE: Final = 1_000  # clients that get a notice in one sweep, about


class Gaps:
    """State: the topics with a gap that is not reported to their subscribers yet."""

    def __init__(self, fanout: Fanout, notices: Notices) -> None:
        self._fanout = fanout
        self._notices = notices
        self._marked: dict[Topic[Client], None] = {}

    def mark(self, topic: Topic[Client]) -> None:
        """Note that events up to the topic's position may be lost, and none after it."""
        topic.gap = topic.position
        self._marked[topic] = None

    def tell(self, topic: Topic[Client]) -> None:
        """Send the notice to the subscribers of a marked topic."""
        position, topic.gap = topic.gap or NOWHERE, None
        self._marked.pop(topic, None)
        self._fanout.settle(topic)
        message = self._notices.gap(topic.name, None, position)
        for encoding, clients in topic.groups.items():
            encoded = encoding.message_at(message, position)
            for client in clients:
                self._fanout.tell(client, topic, encoded)

    def sweep(self) -> None:
        """Send the notices of the topics that were marked first, for about PACE clients."""
        notified = 0
        while self._marked and notified < PACE:
            topic = next(iter(self._marked))
            notified += 1 + topic.receivers
            self.tell(topic)
