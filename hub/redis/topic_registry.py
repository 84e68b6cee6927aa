"""Topics created and deleted explicitly, in the registry that Redis keeps for all nodes."""

from functools import partial
from typing import Final

from hub.brokers.base import TopicDone
from hub.errors import ErrorCode, Refusal
from hub.redis.channels import Channels
from hub.redis.connection import Reply
from hub.redis.envelope import DELETED, Sender
from hub.redis.session import Session
from hub.redis.subscriptions import Subscriptions

_EXISTS: Final = Refusal(ErrorCode.TOPIC_EXISTS, "Topic already exists")
_NO_TOPIC: Final = Refusal(ErrorCode.TOPIC_NOT_FOUND, "Topic not found")
_UNKNOWN: Final = Refusal(
    ErrorCode.UNAVAILABLE, "Not every server has reported its topics yet: try again"
)
_UNSURE: Final = Refusal(ErrorCode.UNAVAILABLE, "Redis was lost: it may have been carried out")


class TopicRegistry:
    """Creates and deletes topics, by one script each: only one node can create a topic."""

    def __init__(
        self, node: str, sender: Sender, channels: Channels, subscriptions: Subscriptions
    ) -> None:
        self._node = node
        self._sender = sender
        self._channels = channels
        self._subscriptions = subscriptions

    def create(self, session: Session, topic: str, done: TopicDone, force: int) -> None:
        """Create a topic.

        Args:
            session: with Redis.
            topic: the topic's name.
            done: called with None, or with the refusal.
            force: 1 if other nodes may not have written their leases yet, else 0.
        """
        answered = partial(self._created, session, done)
        sha = session.shas.create
        session.commands.send(answered, "EVALSHA", sha, 0, topic, self._node, force)

    def _created(self, session: Session, done: TopicDone, reply: Reply) -> None:
        if not session.check(reply):
            done(_UNSURE)
        else:
            done(None if reply else _EXISTS)

    def delete(self, session: Session, topic: str, done: TopicDone, force: int) -> None:
        """Delete a topic on all nodes; the arguments are those of `create`."""
        seq, envelope = self._sender.seal(DELETED)
        answered = partial(self._deleted, session, topic, seq, done)
        sha = session.shas.delete
        session.commands.send(answered, "EVALSHA", sha, 0, topic, self._node, envelope, force)

    def _deleted(
        self, session: Session, topic: str, seq: int, done: TopicDone, reply: Reply
    ) -> None:
        if not session.check(reply):
            done(_UNSURE)
        elif reply <= 0:
            done(_UNKNOWN if reply else _NO_TOPIC)
        elif session.lost.is_set():
            if self._sender.mark_delivered(seq):
                self._subscriptions.delete(topic)
            done(None)
        elif topic in self._channels and self._sender.owe(seq, topic, None):
            # Answered when the deletion has arrived here, so that the next command sees it.
            self._subscriptions.await_deletion(topic, done)
        else:
            done(None)
