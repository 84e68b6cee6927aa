"""One topic's items: what is new, what has come before, what is lost, and who waits for it.

State: how far the topic was heard, and the items that its subscriber has not taken yet. Nothing
here knows a connection; the client says what came, and asks what to say.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self

from broadcast_client.items import Deleted, Event, Item, Lost, Position, RefusedError

log = logging.getLogger(__name__)

BUFFER: Final = 1_000  # items that wait for a subscriber; then the oldest go

DELETED: Final = "Topic has been deleted"


class Subscription:
    """An async iterator of a topic's items, made by `Client.subscribe`."""

    def __init__(
        self,
        topic: str,
        last_n: int,
        recover: Position | None,
        leave: Callable[["Subscription"], None],
    ) -> None:
        self.topic = topic
        # Behind the item that you got last: keep it, to recover in another process. None where the
        # topic has no history, is not subscribed yet, or nothing of last_n has come.
        self.position = recover
        self.live = False  # whether the connection that there is has acked it
        self.over = False
        self._heard = recover  # what comes behind it has come, or is to come
        self._newest = last_n  # events before that which are wanted too; 0 once one has come
        self._begun = recover is not None  # whether anything is to come
        self.was_acked = False
        self._items: deque[tuple[Item, Position | None]] = deque()  # each with what is behind it
        self._overrun = 0  # items that went because too many waited
        self._error: RefusedError | None = None  # why it is over, where it was refused
        self._news = asyncio.Event()  # for who waits for an item
        self._settled = asyncio.Event()  # it has been acked, or is over
        self._leave = leave

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """The next item.

        Raises:
            RefusedError: the server does not want this subscription, or this client.
        """
        while not (self._overrun or self._items):
            if self._error is not None:
                raise self._error.anew()
            if self.over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._overrun:
            count, self._overrun = self._overrun, 0
            return Lost(self.topic, f"{count} items, since more than {BUFFER} waited here", count)
        item, self.position = self._items.popleft()
        return item

    async def ready(self) -> None:
        """Wait until the server has acked it.

        Raises:
            RefusedError: it will not; CLOSED where it, or the client, was closed before.
        """
        await self._settled.wait()
        if self._error is not None:
            raise self._error.anew()
        if not self.was_acked:
            raise RefusedError("CLOSED", "it was closed before the server acked it")

    def close(self) -> None:
        """Unsubscribe; nothing more comes."""
        self._items.clear()
        self._overrun = 0
        self._leave(self)

    # The client's side.

    def wish(self) -> dict[str, Any]:
        """What its subscribe says."""
        wish: dict[str, Any] = {"type": "subscribe", "topic": self.topic}
        if self._newest:
            wish["last_n"] = self._newest
        elif self._heard is not None:
            wish["recover"] = self._heard._asdict()
        return wish

    def acked(self, ack: dict[str, Any]) -> None:
        """The server has subscribed it, for the first time or on a new connection."""
        top = Position(ack["epoch"], ack["offset"]) if "epoch" in ack else None
        if not (ack.get("recovered") or self._asked_again(top)):
            self._heard = top
            if top is None or not top.offset:
                self._newest = 0  # none of them is to come
            if self._begun:
                why = "for want of a history" if top is None else "which the server has forgotten"
                self._lose(f"what was published meanwhile, {why}")
            if not self._items and not self._newest:
                self.position = top
        self.live = self._begun = self.was_acked = True
        self._settled.set()

    def take(self, message: dict[str, Any]) -> None:
        """An event or an info of the topic, on the connection that has acked it."""
        content = message["message"]
        payload = content["payload"]
        if message["type"] == "event":
            offset = message.get("offset")
            if offset is None or self._is_new(offset):
                self._put(Event(self.topic, content["id"], payload, message["ts"], offset))
        elif isinstance(payload, dict) and payload.get("reason") == "GAP":
            self._told(payload)
        elif payload == DELETED:
            self._put(Deleted(self.topic))
            self.end()

    def end(self, error: RefusedError | None = None) -> None:
        """Nothing more comes; with `error`, its subscriber is told."""
        self.live = False
        self.over = True
        self._error = error
        self._news.set()
        self._settled.set()

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
        log.warning("%s: lost: %s", self.topic, why)
        self._put(Lost(self.topic, why, count))

    def _put(self, item: Item) -> None:
        if len(self._items) >= BUFFER:
            if not self._overrun:
                log.warning("%s: lost: items, since more than %d wait", self.topic, BUFFER)
            self._items.popleft()
            self._overrun += 1
        self._items.append((item, self._heard))
        self._news.set()
