"""Departures: clients that have ended, and are removed from their topics.

A client may have thousands of topics, and thousands of clients may end at once. So the removals are
done in slices, in the order in which the clients have ended.

State: the ended clients, with the topics from which they are still to be removed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from hub.delivery.client import Client
from hub.delivery.topic import Topic
from hub.delivery.turns import Turns

REMOVALS: Final = 1_000  # removals of clients from topics in one tick: 5 ms


class Departures:
    """Removes ended clients from their topics."""

    def __init__(self, turns: Turns, remove: Callable[[Topic[Client], Client], None]) -> None:
        """`remove` removes a client from a topic."""
        self._turns = turns
        self._remove = remove
        self._leaving: deque[tuple[Client, list[Topic[Client]]]] = deque()
        self._removed = 0  # removals in this tick

    def add(self, client: Client, topics: list[Topic[Client]]) -> None:
        """Remove a client from these topics: now, as far as this tick has room, or later."""
        if not self._leaving and not self._removed:
            self._turns.queue(self._continue())
        self._leaving.append((client, topics))
        self._remove_some()

    def _continue(self) -> Iterator[None]:
        """Continue the removals in the following ticks."""
        while True:
            self._removed = 0
            self._remove_some()
            if not self._removed:
                return
            yield

    def _remove_some(self) -> None:
        """Remove clients from topics, up to REMOVALS removals in this tick."""
        while self._leaving and self._removed < REMOVALS:
            client, topics = self._leaving[0]
            while topics and self._removed < REMOVALS:
                self._remove(topics.pop(), client)
                self._removed += 1
            if not topics:
                self._leaving.popleft()
