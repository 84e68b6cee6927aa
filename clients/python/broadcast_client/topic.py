"""One topic on the wire: what is new, what has come before, and what is lost.

State: how far the topic was heard, and the subscriptions that share it. Nothing here knows a
connection; the client says what came, and asks what to say.
"""

import logging
from typing import Any, Final

from broadcast_client.items import Deleted, Event, Item, Lost, Position, RefusedError
from broadcast_client.subscription import Subscription

log = logging.getLogger(__name__)

DELETED: Final = "Topic has been deleted"  # from servers that give no reason


class Topic:
    """A topic that the client wants, for at least one subscription."""

    def __init__(self, name: str, first: Subscription) -> None:
        """`first`: the subscription whose `last_n` or `recover` is asked of the server."""
        self.name = name
        self.subscriptions: list[Subscription] = []
        self.live = False  # whether the current connection has acked it
        self.was_acked = False  # whether any connection has
        self._first = first
        self._heard = first.recover  # what comes behind it has come, or is to come
        self._newest = first.last_n  # events before that which are wanted too; 0 once one has come
        self._begun = first.recover is not None  # whether anything is to come

    def join(self, subscription: Subscription) -> None:
        """Add a subscription. Where it is not the first, it gets what comes from here on."""
        self.subscriptions.append(subscription)
        if self.was_acked:
            subscription.begin(self._heard)
        else:
            subscription.begun = subscription.wants_the_same(self._first)

    def wish(self) -> dict[str, Any]:
        """The subscribe command, without a request_id."""
        wish: dict[str, Any] = {"type": "subscribe", "topic": self.name}
        if self._newest:
            wish["last_n"] = self._newest
        elif self._heard is not None:
            wish["recover"] = self._heard._asdict()
        return wish

    def acked(self, ack: dict[str, Any]) -> None:
        """The server has subscribed it, for the first time or on a new connection."""
        top = Position(ack["epoch"], ack["offset"]) if "epoch" in ack else None
        start = None
        if not (ack.get("recovered") or self._asked_again(top)):
            self._heard = top
            if top is None or not top.offset:
                self._newest = 0  # none of them is to come
            if self._begun:
                why = "for want of a history" if top is None else "which the server has forgotten"
                self._lose(f"what was published meanwhile, {why}")
            elif not self._newest:
                start = top
        self.live = self._begun = True
        if not self.was_acked:
            self.was_acked = True
            for subscription in self.subscriptions:
                if subscription.begun:
                    subscription.acked(start)
                else:
                    subscription.begin(top)

    def take(self, message: dict[str, Any]) -> None:
        """An event or an info of the topic, on the connection that has acked it."""
        if message["type"] == "event":
            content, offset = message["message"], message.get("offset")
            if offset is None or self._is_new(offset):
                event = Event(self.name, content["id"], content["payload"], message["ts"], offset)
                self._put(event)
        elif reason_of(message) == "GAP":
            self._told(message["message"]["payload"])

    def delete(self) -> None:
        """The server has deleted it: the last item of each subscription."""
        self._put(Deleted(self.name))
        self.end()

    def end(self, error: RefusedError | None = None) -> None:
        """Nothing more comes; with `error`, the subscribers are told."""
        self.live = False
        for subscription in self.subscriptions:
            subscription.end(error)

    def _asked_again(self, top: Position | None) -> bool:
        """Whether the newest were asked for twice, since nothing of them had come yet.

        What is to come is what was to come then: the first event tells whether there is a hole.
        """
        if not self._newest or self._heard is None or top is None:
            return False
        return self._heard.epoch == top.epoch

    def _is_new(self, offset: int) -> bool:
        """Whether an event has not come before; a hole before it is told."""
        if self._heard is None:
            return True
        missing = offset - self._heard.offset - 1
        if missing < 0 and not self._newest:
            return False
        if missing > 0:
            self._lose(f"{missing} events, which the server did not send", missing)
        self._newest = 0
        self._heard = self._heard._replace(offset=offset)
        return True

    def _told(self, gap: dict[str, Any]) -> None:
        """The server has lost events, and says where the count goes on."""
        if "epoch" in gap:
            before, self._heard = self._heard, Position(gap["epoch"], gap["offset"])
            # Within an epoch the count never goes back; but what comes of the newest begins there.
            if before is not None and before.epoch == self._heard.epoch and not self._newest:
                self._heard = max(before, self._heard)
            self._newest = 0
        count = gap.get("dropped")
        self._lose(f"{count or 'some'} events, on their way here", count)

    def _lose(self, why: str, count: int | None = None) -> None:
        log.warning("%s: lost: %s", self.name, why)
        self._put(Lost(self.name, why, count))

    def _put(self, item: Item) -> None:
        for subscription in self.subscriptions:
            subscription.put(item, self._heard)


def reason_of(info: dict[str, Any]) -> str | None:
    """Why the server says an info, also where it is one that gives no top-level reason."""
    if "reason" in info:
        return str(info["reason"])
    payload = info["message"]["payload"]
    if isinstance(payload, dict):
        return payload.get("reason")
    return "TOPIC_DELETED" if payload == DELETED else None
