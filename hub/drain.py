"""The shutdown: every client is told, gets what is queued for it, then Close 1001.

State: whether it has begun.
"""

import math
from collections.abc import Callable

from hub.client import Client
from hub.errors import GOING_AWAY
from hub.hub import Hub


class Drain:
    """Lets the clients of a hub go in peace."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.begun = False
        self.waiting: dict[Callable[[], None], None] = {}  # called when it begins

    def begin(self, drained: Callable[[], None]) -> None:
        """No command is heard any more; `drained` is called once no client is left.

        A client whose publish the broker has yet to complete is told when it has.
        """
        self.begun = True
        for wake in list(self.waiting):
            wake()
        self._hub.emptied = drained
        for client in list(self._hub.clients):
            client.drop_backlog()
            if not client.awaiting:
                self.dismiss(client)
        if not self._hub.clients:
            drained()

    def dismiss(self, client: Client) -> None:
        """Tell one client, as the last it hears; who closes has an end already."""
        if client.open:
            client.deadline = math.inf  # the shutdown has its own bound
            wire = client.wire
            last = wire.last(self._hub.notices.shutdown(), GOING_AWAY)
            self._hub.close(client, last, wire.ending, GOING_AWAY.reason)
