"""Keeps the answers to publishes with an idempotency key, so that none is carried out twice."""

from collections import OrderedDict
from collections.abc import Callable
from sys import getsizeof
from typing import Final, NamedTuple

import orjson

from hub.values import Json, Position

REMEMBERED: Final = 300.0  # seconds that a key is kept
LIMIT: Final = 100_000  # keys; beyond it the oldest are dropped
MAX_BYTES: Final = 67_108_864  # of all entries: topics, keys, answers and OVERHEAD
OVERHEAD: Final = 320  # bytes of an entry without its three strings, measured on CPython 3.11
SWEPT: Final = 1_000  # maximum number of keys that one sweep drops


class FirstPublish(NamedTuple):
    """The answer to the first publish with an idempotency key."""

    message_id: Json
    receivers: int  # subscribers on the node that carried it out
    position: Position | None = None  # of the event; None in a topic without history


class IdempotencyKeys:
    """Maps topics and idempotency keys to the answers of their first publishes.

    State: the answers of the last REMEMBERED seconds, oldest first, at most LIMIT and MAX_BYTES of
    them. An answer is kept as JSON, so that its size is known although a message's id may be any
    value.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds and never goes back."""
        self._clock = clock
        # By topic and key: the time when the entry expires, and the answer.
        self._entries: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self.used = 0  # bytes, as MAX_BYTES counts them

    def __len__(self) -> int:
        """Return the number of keys, including expired ones that are not swept yet."""
        return len(self._entries)

    def get(self, topic: str, key: str) -> FirstPublish | None:
        """Return the first publish with this key, or None."""
        entry = self._entries.get((topic, key))
        if entry is None or entry[0] <= self._clock():
            return None
        message_id, receivers, *position = orjson.loads(entry[1])
        return FirstPublish(message_id, receivers, Position(*position) if position else None)

    def remember(self, topic: str, key: str, first: FirstPublish) -> None:
        """Keep the answer to a publish that was carried out."""
        name = (topic, key)
        if name in self._entries:  # it has expired; the new entry goes to the end
            self._drop(name)
        # Keep a string: the bytes object that orjson returns holds a buffer of 4 KB.
        answer = orjson.dumps([first.message_id, first.receivers, *(first.position or ())]).decode()
        self._entries[name] = (self._clock() + REMEMBERED, answer)
        self.used += _size(name, answer)
        while len(self._entries) > LIMIT or self.used > MAX_BYTES:
            self._drop(next(iter(self._entries)))

    def sweep(self) -> None:
        """Drop expired keys, at most SWEPT of them."""
        now = self._clock()
        for _ in range(SWEPT):
            oldest = next(iter(self._entries), None)
            if oldest is None or self._entries[oldest][0] > now:
                return
            self._drop(oldest)

    def _drop(self, name: tuple[str, str]) -> None:
        _, answer = self._entries.pop(name)
        self.used -= _size(name, answer)


def _size(name: tuple[str, str], answer: str) -> int:
    """Return the bytes of memory that an entry takes."""
    return OVERHEAD + getsizeof(name[0]) + getsizeof(name[1]) + getsizeof(answer)
