"""A topic as the server sends it: new events, repeated events, and losses.

A connection has one subscribe for a topic, which all subscriptions of the topic share. The topic
compares the offsets of its events: one that is known already is a repetition, and a hole is a loss,
which is reported even if the server did not report it. When the client reconnects, the topic asks
to recover from its position.

State: the position up to which events have arrived, and the subscriptions that share the topic. It
knows no connection: the client passes messages in, and sends the subscribe command.
"""

import logging
from typing import Any, Final

from broadcast_client._items import Deleted, Event, Item, Lost, Position, RefusedError
from broadcast_client._subscription import Subscription

log = logging.getLogger("broadcast_client")

DELETED: Final = "Topic has been deleted"  # from servers that give no reason


class Topic:
    """A subscribed topic, with at least one subscription."""

    def __init__(self, name: str, first: Subscription, label: str) -> None:
        """Make a topic.

        Args:
            name: its name.
            first: the subscription whose `last_n` or `recover` is sent to the server.
            label: begins each log line.
        """
        self.name = name
        self.label = label
        self.subscriptions: list[Subscription] = []
        self.live = False  # whether the current connection has acked it
        self.was_acked = False  # whether any connection has
        self._first = first
        self._position = first._recover  # the position up to which events have arrived
        self._newest = first._last_n  # number of newest events to ask for; 0 once one has arrived
        self._begun = first._recover is not None  # whether missed events are a loss

    def join(self, subscription: Subscription) -> None:
        """Add a subscription; after the topic's ack, it begins at the current position."""
        self.subscriptions.append(subscription)
        if self.was_acked:
            subscription._begin(self._position)
        else:
            subscription._begun = subscription._wants_the_same(self._first)

    def request(self) -> dict[str, Any]:
        """Return the subscribe command, without a request_id."""
        request: dict[str, Any] = {"type": "subscribe", "topic": self.name}
        if self._newest:
            request["last_n"] = self._newest
        elif self._position is not None:
            request["recover"] = self._position._asdict()
        return request

    def acked(self, ack: dict[str, Any]) -> None:
        """Handle the server's ack of a subscribe, the first or one on a new connection."""
        top = Position(ack["epoch"], ack["offset"]) if "epoch" in ack else None
        start = None
        if not (ack.get("recovered") or self._asked_again(top)):
            self._position = top
            if top is None or not top.offset:
                self._newest = 0  # the topic has no events yet
            if self._begun:
                why = "for want of a history" if top is None else "which the server has forgotten"
                self._lose(f"what was published meanwhile, {why}")
            elif not self._newest:
                start = top
        self.live = self._begun = True
        if not self.was_acked:
            self.was_acked = True
            for subscription in self.subscriptions:
                if subscription._begun:
                    subscription._acked(start)
                else:
                    subscription._begin(top)

    def take(self, message: dict[str, Any]) -> None:
        """Handle an event or an info of the topic that arrived after the ack."""
        if message["type"] == "event":
            offset = message.get("offset")
            if offset is None or self._is_new(offset):
                self._put(event_of(self.name, message))
        elif reason_of(message) == "GAP":
            self._report_gap(message["message"]["payload"])

    def delete(self) -> None:
        """Handle the topic's deletion: end each subscription with a `Deleted` item."""
        self._put(Deleted(self.name))
        self.end()

    def end(self, error: RefusedError | None = None) -> None:
        """End all subscriptions; each subscriber gets `error`, if given."""
        self.live = False
        for subscription in self.subscriptions:
            subscription._end(error)

    def _asked_again(self, top: Position | None) -> bool:
        """Return whether this was a repeated request for `last_n`, with the same epoch as before.

        The request is repeated after a reconnect if none of its events had arrived. No loss is
        reported then: the offset of the first event shows whether there is a hole.
        """
        if not self._newest or self._position is None or top is None:
            return False
        return self._position.epoch == top.epoch

    def _is_new(self, offset: int) -> bool:
        """Return True if the event is no repetition; report a hole before it as lost."""
        if self._position is None:
            return True
        missing = offset - self._position.offset - 1
        if missing < 0 and not self._newest:
            return False
        if missing > 0:
            self._lose(f"{missing} events, which the server did not send", missing)
        self._newest = 0
        self._position = self._position._replace(offset=offset)
        return True

    def _report_gap(self, gap: dict[str, Any]) -> None:
        """Handle a gap: the server has lost events, and gives the position to continue from."""
        if "epoch" in gap:
            before, self._position = self._position, Position(gap["epoch"], gap["offset"])
            # Within an epoch the position never goes back, unless the newest events follow.
            if before is not None and before.epoch == self._position.epoch and not self._newest:
                self._position = max(before, self._position)
            self._newest = 0
        count = gap.get("dropped")
        self._lose(f"{count or 'some'} events, on their way here", count)

    def _lose(self, why: str, count: int | None = None) -> None:
        log.warning("%s: lost: %s", self.label, why)
        self._put(Lost(self.name, why, count))

    def _put(self, item: Item) -> None:
        for subscription in self.subscriptions:
            subscription._put(item, self._position)


def event_of(topic: str, message: dict[str, Any]) -> Event:
    """Return the event that a message of the server, or a history, has."""
    content = message["message"]
    return Event(topic, content["id"], content["payload"], message["ts"], message.get("offset"))


def refusal_of(message: dict[str, Any]) -> RefusedError:
    """Return the error that a message of the server has."""
    error = message["error"]
    return RefusedError(error["code"], error["message"], error.get("retry_after_ms"))


def reason_of(info: dict[str, Any]) -> str | None:
    """Return the reason of an info, also of a server that sends no `reason` at the top level."""
    if "reason" in info:
        return str(info["reason"])
    payload = info["message"]["payload"]
    if isinstance(payload, dict):
        return payload.get("reason")
    return "TOPIC_DELETED" if payload == DELETED else None
