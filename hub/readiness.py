"""Whether this node should be sent new clients and requests, check by check.

State: since when the other nodes are out of reach. Time is an argument.
"""

import math
from typing import Final

from hub.drain import Drain
from hub.hub import Hub
from hub.settings import Settings

OK: Final = "ok"


class Readiness:
    """Answers a balancer's question."""

    def __init__(self, hub: Hub, drain: Drain, settings: Settings) -> None:
        self._hub = hub
        self._drain = drain
        self._max_connections = settings.max_connections
        self._strict = settings.redis_fail_mode == "strict"
        self._grace = settings.ready_redis_grace
        self._lost_at = -math.inf  # it was never there
        self._now = 0.0

    def sweep(self, now: float) -> None:
        """Look whether the other nodes are in reach."""
        if self._hub.broker.reachable is False:
            if self._lost_at == math.inf:
                self._lost_at = now
        else:
            self._lost_at = math.inf
        self._now = now

    @property
    def full(self) -> bool:
        """Whether there are as many clients as may be."""
        return 0 < self._max_connections <= len(self._hub.clients)

    def checks(self) -> dict[str, str]:
        """What is looked at, by name, and how it is."""
        checks = {"shutdown": "draining" if self._drain.announced else OK}
        if self._hub.broker.reachable is not None:
            checks["redis"] = OK if self._hub.broker.reachable else "lost"
        checks["connections"] = "full" if self.full else OK
        return checks

    def refusal(self) -> str:
        """Why nobody should be sent here; empty where the node is ready."""
        if self._drain.announced:
            return "Server is shutting down"
        lost = self._hub.broker.reachable is False and self._now - self._lost_at > self._grace
        if lost and self._strict:
            return "Redis is out of reach"
        return ""
