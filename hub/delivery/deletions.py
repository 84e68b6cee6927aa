"""Deletions: the subscribers of deleted topics are notified, and their subscriptions end.

A topic may have tens of thousands of subscribers, so this is done in slices. A client that sends a
command for the same name meanwhile is notified first: it may subscribe to a new topic of that name.

State: the deleted topics with subscribers that are not notified yet.
"""

from collections.abc import Callable, Iterator
from typing import Final

from hub.delivery.client import Client
from hub.delivery.topic import Topic
from hub.delivery.turns import Turns
from hub.protocol.notices import Notices

NOTIFIED: Final = 250  # clients that are notified of a deletion in one tick: 5 ms


class Deletions:
    """Ends the subscriptions to deleted topics."""

    def __init__(
        self,
        turns: Turns,
        notices: Notices,
        end: Callable[[Client, Topic[Client], bytes], None],
    ) -> None:
        """`end` ends a client's subscription to a deleted topic, and sends it the notice."""
        self._turns = turns
        self._notices = notices
        self._end = end
        self._deleted: dict[Topic[Client], None] = {}

    def start(self, topic: Topic[Client]) -> None:
        """End the subscriptions to a topic that was deleted."""
        self._deleted[topic] = None
        self._turns.start(self._notify_all(topic))

    def notify(self, client: Client, name: str) -> None:
        """Notify a client of a deletion before its next command for the same name."""
        for topic in self._deleted:
            if topic.name == name and client in topic:
                self._end(client, topic, self._notices.deleted(name))

    def _notify_all(self, topic: Topic[Client]) -> Iterator[None]:
        notice = self._notices.deleted(topic.name)
        for number, client in enumerate(list(topic.subscribers()), 1):
            if client.open and client in topic:  # else it was notified meanwhile, or has left
                self._end(client, topic, notice)
            if number % NOTIFIED == 0:
                yield
        del self._deleted[topic]
