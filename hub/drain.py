"""The shutdown: every client is told, gets what is queued for it, then Close 1001.

State: how far it is, and the clients that were told and have commands which the broker has yet to
complete.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import Final

from hub.delivery.client import FLOWING, Client
from hub.errors import GOING_AWAY
from hub.hub import Hub

# Clients that are dismissed in one turn of the loop, each with one topic: 4 ms. To take a client
# out of TOPICS topics costs as much as to close it.
SLICE: Final = 200
TOPICS: Final = 4
# Milliseconds for each client, and at most, within which they are all to come back.
SPREAD: Final = 2
MAX_SPREAD: Final = 30_000


class Drain:
    """Lets the clients of a hub go in peace."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.announced = False  # nobody new should be sent here
        self.begun = False
        self.waiters: dict[Callable[[], None], None] = {}  # called when it begins
        self._info = b""
        self._max_ms = 0
        self._completing: set[Client] = set()  # told, with commands under way

    def announce(self) -> None:
        """The shutdown is near: all goes on, but a balancer is told to send nobody here."""
        self.announced = True

    def begin(self) -> None:
        """No command is heard any more, and every client is told and closed."""
        self.announced = True
        self.begun = True
        for wake in list(self.waiters):
            wake()
        clients = list(self._hub.clients)
        self._max_ms = min(SPREAD * len(clients), MAX_SPREAD)
        self._info = self._hub.notices.shutdown(self._max_ms)
        self._hub.turns.start(self._tell_all(clients))

    def completed(self, client: Client) -> None:
        """The broker has completed all that a client had under way."""
        if client in self._completing:
            self._completing.discard(client)
            if client.open:
                self._close(client, b"")

    def _tell_all(self, clients: list[Client]) -> Iterator[None]:
        work = 0
        for client in clients:
            work += 1 + len(client.topics) // TOPICS
            if client.open:
                self._tell(client)
            if work >= SLICE:
                work = 0
                yield

    def _tell(self, client: Client) -> None:
        """Tell a client ahead of what is queued for it, and close it behind that."""
        client.drop_backlog()
        framing = client.framing
        info = framing.encoding.message(self._info)
        said = framing.reconnect(random.randint(0, self._max_ms)) + info
        if client.state is not FLOWING:
            client.tell_first(said)
        elif client.commands.awaiting:
            self._hub.fanout.send(client, said)
        else:  # nothing is queued
            self._close(client, said)
            return
        if client.commands.awaiting:
            self._completing.add(client)
        else:
            self._close(client, b"")

    def _close(self, client: Client, said: bytes) -> None:
        client.liveness.deadline = (
            math.inf
        )  # hub/delivery/keepalive.py: while it takes what is queued
        framing = client.framing
        last = said + framing.close(GOING_AWAY)
        self._hub.close(client, last, framing.ending, GOING_AWAY.reason)
