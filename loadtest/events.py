"""The events of the load test: who published each, its number, and the time at which it was due.

A publisher numbers its events in each topic, 1, 2, 3, and only counts those that the server has
accepted. So a subscriber that gets another number than the next one has missed events.
"""

import os
import random
import time
from collections import defaultdict
from typing import Any, Final

import orjson

MIN_SIZE: Final = 120  # bytes of a payload's JSON: what it has at most without the padding
_PADDING: Final = len(b',"pad":""')


class Author:
    """The publisher of numbered events."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of each payload's JSON, at least MIN_SIZE."""
        self._size = size
        self.begin()

    def begin(self) -> None:
        """Begin as a new publisher, because the last event may have been delivered, or not."""
        self._name = os.urandom(6).hex()
        self._accepted: defaultdict[str, int] = defaultdict(int)

    def write(self, topic: str, due: float) -> orjson.Fragment:
        """Return the payload of the next event in a topic, with its time in seconds."""
        payload = {"by": self._name, "number": self._accepted[topic] + 1, "due": due}
        text = orjson.dumps(payload)
        padding = max(0, self._size - len(text) - _PADDING)
        return orjson.Fragment(b'%b,"pad":"%b"}' % (text[:-1], b"x" * padding))

    def accepted(self, topic: str) -> None:
        """Count the last event that was written for a topic."""
        self._accepted[topic] += 1


class Checker:
    """Checks the events that one subscriber gets in one topic."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # number by publisher

    def missing(self, payload: dict[str, Any]) -> int:
        """Return how many events are missing before this one, or -1 if it has come before."""
        name, number = payload["by"], payload["number"]
        last = self._last.get(name, number - 1)  # the first one may have any number
        self._last[name] = number
        return number - last - 1 if number > last else -1


class Pace:
    """The times at which the events of one publisher are due, a fixed time apart."""

    def __init__(self, rate: float) -> None:
        """`rate`: events a second. The first one is due after a random part of the time between."""
        self._between = 1 / rate
        self._next = time.time() + random.random() * self._between
        self.due = 0.0  # time of the current event

    def step(self) -> float:
        """Go to the next event, and return the seconds until it is due: 0 if it is late."""
        self.due = self._next
        self._next += self._between
        return max(0.0, self.due - time.time())
