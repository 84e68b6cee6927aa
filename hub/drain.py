"""The drain: closes all clients when the server shuts down.

Theory of operation. `announce` makes /ready fail, and everything else goes on. `begin` drops the
commands that have not started, and sends each client the shutdown notice ahead of its queued
messages, then the queued messages, then Close 1001. A client whose commands await the broker is
closed after their answers (`completed`). Clients are closed in slices, one a tick.

State: the progress of the shutdown, and the notified clients whose commands await the broker.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import Final

from hub.delivery.client import FLOWING, Client
from hub.errors import GOING_AWAY
from hub.hub import Hub

# Clients with one topic that are closed in one tick: 4 ms. Removing a client from TOPICS topics
# takes as long as closing it.
SLICE: Final = 200
TOPICS: Final = 4
# Clients are asked to reconnect at a random time within SPREAD milliseconds for each client, and
# within MAX_SPREAD at most.
SPREAD: Final = 2
MAX_SPREAD: Final = 30_000


class Drain:
    """Notifies and closes the clients of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.announced = False  # whether load balancers should send no new clients
        self.begun = False  # whether clients are being closed
        self.waiters: dict[Callable[[], None], None] = {}  # callbacks for `begin`
        self._info = b""
        self._max_ms = 0
        self._completing: set[Client] = set()  # notified, with commands under way

    def announce(self) -> None:
        """Report this node as not ready to load balancers; clients are still served."""
        self.announced = True

    def begin(self, clients: int = 0) -> None:
        """Stop handling commands, and notify and close all clients.

        `clients`: the number of clients that are closed at the same time, with those of other
        workers; 0 for those of this process alone.
        """
        self.announced = True
        self.begun = True
        for wake in list(self.waiters):
            wake()
        own = list(self._hub.clients)
        self._max_ms = min(SPREAD * max(len(own), clients), MAX_SPREAD)
        self._info = self._hub.notices.shutdown(self._max_ms)
        self._hub.turns.start(self._tell_all(own))

    def completed(self, client: Client) -> None:
        """Close a notified client whose last command has completed."""
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
        """Send a client the notice ahead of its queued messages, and close it after them."""
        client.drop_backlog()
        framing = client.framing
        info = framing.encoding.message(self._info)
        notice = framing.reconnect(random.randint(0, self._max_ms)) + info
        if client.state is not FLOWING:
            client.tell_first(notice)
        elif client.commands.awaiting:
            self._hub.fanout.send(client, notice)
        else:  # nothing is queued
            self._close(client, notice)
            return
        if client.commands.awaiting:
            self._completing.add(client)
        else:
            self._close(client, b"")

    def _close(self, client: Client, notice: bytes) -> None:
        # The keepalive sets the deadline when the client has got its queued messages.
        client.liveness.deadline = math.inf
        framing = client.framing
        last = notice + framing.close(GOING_AWAY)
        self._hub.close(client, last, framing.ending, GOING_AWAY.reason)
