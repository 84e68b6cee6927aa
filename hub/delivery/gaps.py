"""Gaps: topics that may have lost events on their way to this node.

The subscribers of such a topic are told before its next event. Topics without a next event are told
of by the sweep, some at a time. These messages do not count against a client's bounds.
"""

from typing import Final

from hub.delivery.client import Client
from hub.delivery.fanout import Fanout
from hub.delivery.topic import Topic
from hub.protocol.notices import Notices
from hub.values import NOWHERE

PACE: Final = 1_000  # clients that one sweep tells, at most about


class Gaps:
    """State: the topics with a gap that their subscribers were not told of."""

    def __init__(self, fanout: Fanout, notices: Notices) -> None:
        self._fanout = fanout
        self._notices = notices
        self._marked: dict[Topic[Client], None] = {}

    def mark(self, topic: Topic[Client]) -> None:
        """Note that events after the topic's position may be lost."""
        topic.missed = topic.position
        self._marked[topic] = None

    def tell(self, topic: Topic[Client]) -> None:
        """Tell the subscribers of a marked topic, before anything else is sent to them."""
        position, topic.missed = topic.missed or NOWHERE, None
        self._marked.pop(topic, None)
        self._fanout.settle(topic)
        message = self._notices.gap(topic.name, 0, position)
        for encoding, clients in topic.groups.items():
            encoded = encoding.message_at(message, position)
            for client in clients:
                self._fanout.tell(client, topic, encoded)

    def sweep(self) -> None:
        """Tell the subscribers of the topics that have waited longest."""
        told = 0
        while self._marked and told < PACE:
            topic = next(iter(self._marked))
            told += 1 + topic.receivers
            self.tell(topic)
