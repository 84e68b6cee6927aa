"""Publishes that must not be carried out twice: what has been, by topic and idempotency key.

State: the keys of the last REMEMBERED seconds, the oldest first, at most LIMIT of them.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from hub.history import Position
from hub.inbound import Json

REMEMBERED: Final = 300.0  # seconds
LIMIT: Final = 100_000  # keys; then the oldest go


class First(NamedTuple):
    """What the answer to a publish said, beside its topic, when it was first carried out."""

    message_id: Json
    receivers: int  # subscribers on the node that took it
    position: Position | None = None  # of its event, in a topic with history


class Once:
    """Remembers the publishes that had a key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds of any clock that only goes forward."""
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, First]] = OrderedDict()

    def first(self, topic: str, key: str) -> First | None:
        """What a publish with this key was answered; None where it is the first."""
        self._forget()
        known = self._known.get((topic, key))
        return None if known is None else known[1]

    def remember(self, topic: str, key: str, first: First) -> None:
        """A publish was carried out."""
        self._known[topic, key] = (self._clock() + REMEMBERED, first)
        if len(self._known) > LIMIT:
            self._known.popitem(last=False)

    def _forget(self) -> None:
        now = self._clock()
        while self._known:
            oldest = next(iter(self._known))
            if self._known[oldest][0] > now:
                return
            del self._known[oldest]
