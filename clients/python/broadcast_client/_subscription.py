"""A subscription: one subscriber's items, in a bounded buffer.

State: the items that the subscriber has not taken yet, and its position. Several subscriptions may
share a topic, which decides which events are new and which are lost.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from broadcast_client._items import Event, Item, Lost, Position, RefusedError

log = logging.getLogger("broadcast_client")

BUFFER: Final = 1_000  # items buffered for a subscriber; beyond that the oldest are dropped


class Subscription:
    """An async iterator over a topic's items; create it with `Client.subscribe`.

    Attributes:
        topic: the name of the topic.
        position: the position after the last item that you took. Save it to recover in another
            process. None if the topic has no history, is not subscribed yet, or none of `last_n`
            has arrived.
    """

    def __init__(
        self,
        topic: str,
        last_n: int,
        recover: Position | None,
        label: str,
        leave: Callable[["Subscription"], None],
    ) -> None:
        self.topic = topic
        self._last_n = last_n
        self._recover = recover
        self.position = recover
        self._over = False
        self._begun = False  # whether the topic's items are for this subscription
        self._after: Position | None = None  # events up to here are not for this subscription
        self._was_acked = False
        self._items: deque[tuple[Item, Position | None]] = deque()  # with the position after each
        self._overrun = 0  # items dropped because the buffer was full
        self._error: RefusedError | None = None  # the refusal that ended it
        self._news = asyncio.Event()  # set when there is an item, or the end
        self._settled = asyncio.Event()  # set when it is acked, or over
        self._label = label  # begins each log line
        self._leave = leave

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item.

        Raises:
            RefusedError: the server has refused this subscription, or this client.
        """
        while not (self._overrun or self._items):
            if self._error is not None:
                raise self._error.copy()
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._overrun:
            count, self._overrun = self._overrun, 0
            return Lost(self.topic, f"{count} items, since more than {BUFFER} waited here", count)
        item, self.position = self._items.popleft()
        return item

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until the server has acked the subscription: from then on no event is missed.

        Args:
            timeout: maximum time in seconds; None for no limit.

        Raises:
            RefusedError: the server has refused it, (CLOSED) it was closed before the ack, or
                (TIMEOUT) there is no answer yet. After TIMEOUT the subscription goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            text = f"the server has not acked {self.topic!r} within {timeout:g} s"
            raise RefusedError("TIMEOUT", text) from None
        if self._error is not None:
            raise self._error.copy()
        if not self._was_acked:
            raise RefusedError("CLOSED", "it was closed before the server acked it")

    def close(self) -> None:
        """Drop the buffered items and end the subscription; unsubscribe if it is the last one."""
        self._items.clear()
        self._overrun = 0
        self._leave(self)

    # Called by the topic.

    def _wants_the_same(self, other: "Subscription") -> bool:
        """Return True if both subscriptions begin in the same place."""
        return (self._last_n, self._recover) == (other._last_n, other._recover)

    def _acked(self, position: Position | None = None) -> None:
        """Record the server's ack; `position` is the begin, if it is not the requested one."""
        self._was_acked = True
        self.position = position or self.position
        self._settled.set()

    def _begin(self, position: Position | None) -> None:
        """Begin at the topic's current position.

        If the subscription asked for earlier events, report these as lost.
        """
        wanted = self._recover
        if wanted and position and wanted.epoch == position.epoch:
            position = max(wanted, position)  # the topic may not have reached it yet
        newest = self._last_n and position is not None and position.offset
        self._begun = True
        self._after = position
        if newest or wanted not in (None, position):
            why = "what was published before, since the topic was subscribed already"
            log.warning("%s: lost: %s", self._label, why)
            self._put(Lost(self.topic, why), position)
            position = None
        self._acked(position)

    def _put(self, item: Item, position: Position | None) -> None:
        """Buffer an item; `position` is the subscriber's position after it."""
        if not self._begun or (isinstance(item, Event) and self._has(position)):
            return
        if len(self._items) >= BUFFER:
            if not self._overrun:
                log.warning("%s: lost: items, since more than %d wait", self._label, BUFFER)
            self._items.popleft()
            self._overrun += 1
        self._items.append((item, position))
        self._news.set()

    def _end(self, error: RefusedError | None = None) -> None:
        """End the subscription after the buffered items; then `error` is raised, if given."""
        self._over = True
        self._error = error
        self._news.set()
        self._settled.set()

    def _has(self, position: Position | None) -> bool:
        """Return True if the event at `position` is before the subscription's begin."""
        if self._after is None or position is None or self._after.epoch != position.epoch:
            return False
        return position.offset <= self._after.offset
