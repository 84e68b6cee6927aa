"""Publishes that must not be carried out twice: their answers, by topic and idempotency key.

State: the answers of the last REMEMBERED seconds, the oldest first: at most LIMIT of them, in at
most MAX_BYTES. Each is kept as JSON, so that its size is known whatever the message's id is.
"""

from collections import OrderedDict
from collections.abc import Callable
from sys import getsizeof
from typing import Final, NamedTuple

import orjson

from hub.values import Json, Position

REMEMBERED: Final = 300.0  # seconds
LIMIT: Final = 100_000  # keys; then the oldest go
MAX_BYTES: Final = 67_108_864  # of the topics, the keys and the answers, with OVERHEAD for each
OVERHEAD: Final = 320  # bytes of an entry beside its three strings, as measured on CPython 3.11
SWEPT: Final = 1_000  # keys that one sweep may forget


class FirstPublish(NamedTuple):
    """What the answer to a publish said, beside its topic, when it was first carried out."""

    message_id: Json
    receivers: int  # subscribers on the node that took it
    position: Position | None = None  # of its event, in a topic with history


class IdempotencyKeys:
    """Remembers the publishes that had a key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds of any clock that only goes forward."""
        self._clock = clock
        # By topic and key: when it is forgotten, and the answer.
        self._known: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self.used = 0  # bytes of memory, as MAX_BYTES counts them

    def __len__(self) -> int:
        """How many keys are kept, those included that have run out and were not yet swept."""
        return len(self._known)

    def get(self, topic: str, key: str) -> FirstPublish | None:
        """What a publish with this key was answered; None where it is the first."""
        known = self._known.get((topic, key))
        if known is None or known[0] <= self._clock():
            return None
        message_id, receivers, *place = orjson.loads(known[1])
        return FirstPublish(message_id, receivers, Position(*place) if place else None)

    def remember(self, topic: str, key: str, first: FirstPublish) -> None:
        """A publish was carried out."""
        name = (topic, key)
        if name in self._known:  # it has run out; its place is at the end now
            self._forget(name)
        # As a string: the bytes that orjson returns keep its buffer of 4 KB.
        answer = orjson.dumps([first.message_id, first.receivers, *(first.position or ())]).decode()
        self._known[name] = (self._clock() + REMEMBERED, answer)
        self.used += _size(name, answer)
        while len(self._known) > LIMIT or self.used > MAX_BYTES:
            self._forget(next(iter(self._known)))

    def sweep(self) -> None:
        """Forget keys that have run out, at most SWEPT of them."""
        now = self._clock()
        for _ in range(SWEPT):
            oldest = next(iter(self._known), None)
            if oldest is None or self._known[oldest][0] > now:
                return
            self._forget(oldest)

    def _forget(self, name: tuple[str, str]) -> None:
        _, answer = self._known.pop(name)
        self.used -= _size(name, answer)


def _size(name: tuple[str, str], answer: str) -> int:
    """The bytes of memory that an entry takes."""
    return OVERHEAD + getsizeof(name[0]) + getsizeof(name[1]) + getsizeof(answer)
