"""One subscriber's items, in a bounded buffer.

State: the items that the subscriber has not taken yet, and its position. Several subscriptions may
share a topic, which says what is new and what is lost.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from broadcast_client.items import Event, Item, Lost, Position, RefusedError

log = logging.getLogger(__name__)

BUFFER: Final = 1_000  # items that wait for a subscriber; then the oldest go


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
        self.last_n = last_n
        self.recover = recover
        # Behind the item that you got last: keep it, to recover in another process. None where the
        # topic has no history, is not subscribed yet, or nothing of last_n has come.
        self.position = recover
        self.over = False
        self.begun = False  # whether what comes is for it
        self._after: Position | None = None  # events up to here are not for it
        self._was_acked = False
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
        if not self._was_acked:
            raise RefusedError("CLOSED", "it was closed before the server acked it")

    def close(self) -> None:
        """Nothing more comes; unsubscribe, where it was the topic's last."""
        self._items.clear()
        self._overrun = 0
        self._leave(self)

    # The topic's side.

    def wants_the_same(self, other: "Subscription") -> bool:
        """Whether both begin in the same place."""
        return (self.last_n, self.recover) == (other.last_n, other.recover)

    def acked(self, position: Position | None = None) -> None:
        """The server has subscribed the topic; `position`: where it begins, if not as it wanted."""
        self._was_acked = True
        self.position = position or self.position
        self._settled.set()

    def begin(self, position: Position | None) -> None:
        """Begin where the topic is by now, whatever was wanted of before: that is told as lost."""
        wanted = self.recover
        if wanted and position and wanted.epoch == position.epoch:
            position = max(wanted, position)  # others may be behind it
        newest = self.last_n and position is not None and position.offset
        self.begun = True
        self._after = position
        if newest or wanted not in (None, position):
            why = "what was published before, since the topic was subscribed already"
            log.warning("%s: lost: %s", self.topic, why)
            self.put(Lost(self.topic, why), position)
            position = None
        self.acked(position)

    def put(self, item: Item, position: Position | None) -> None:
        """The next item; `position`: where the subscriber is behind it."""
        if not self.begun or (isinstance(item, Event) and self._has(position)):
            return
        if len(self._items) >= BUFFER:
            if not self._overrun:
                log.warning("%s: lost: items, since more than %d wait", self.topic, BUFFER)
            self._items.popleft()
            self._overrun += 1
        self._items.append((item, position))
        self._news.set()

    def end(self, error: RefusedError | None = None) -> None:
        """Nothing more comes; with `error`, its subscriber is told."""
        self.over = True
        self._error = error
        self._news.set()
        self._settled.set()

    def _has(self, position: Position | None) -> bool:
        """Whether an event is one of those before its beginning."""
        if self._after is None or position is None or self._after.epoch != position.epoch:
            return False
        return position.offset <= self._after.offset
