"""The readiness of this node for new clients and requests, which load balancers poll.

State: the time at which Redis was lost. The caller passes the time, in seconds.
"""

import math

from hub.drain import Drain
from hub.hub import Hub
from hub.settings import Settings
from hub.status import CONNECTIONS, OK, REDIS, SHUTDOWN, Status


class Readiness:
    """Checks the shutdown, the connection to Redis and the number of clients."""

    def __init__(self, hub: Hub, drain: Drain, settings: Settings, started: float) -> None:
        """`started`: the time of this node's start, in seconds of the hub's clock."""
        self._hub = hub
        self._drain = drain
        self._max_connections = settings.max_connections
        # Without Redis, workers do not get each other's events.
        self._needs_redis = settings.redis_fail_mode == "strict" or settings.has_workers
        self._grace = settings.ready_redis_grace
        self._lost_at = -math.inf  # no grace for a Redis that has never been reached
        self._now = 0.0
        self._started = started

    def sweep(self, now: float) -> None:
        """Record whether Redis can be reached at `now`."""
        if self._hub.broker.reachable is False:
            if self._lost_at == math.inf:
                self._lost_at = now
        else:
            self._lost_at = math.inf
        self._now = now

    @property
    def full(self) -> bool:
        """Whether there are MAX_CONNECTIONS clients."""
        return 0 < self._max_connections <= len(self._hub.clients)

    def checks(self) -> dict[str, str]:
        """Return the state of each check by its name."""
        checks = {SHUTDOWN: "draining" if self._drain.announced else OK}
        if self._hub.broker.reachable is not None:
            checks[REDIS] = OK if self._hub.broker.reachable else "lost"
        checks[CONNECTIONS] = "full" if self.full else OK
        return checks

    def refusal(self) -> str:
        """Return the reason why this node is not ready, or an empty string."""
        if self._drain.announced:
            return "Server is shutting down"
        lost = self._hub.broker.reachable is False and self._now - self._lost_at > self._grace
        if lost and self._needs_redis:
            return "Redis is out of reach"
        return ""

    def status(self) -> Status:
        """Return the state of this process, for probes."""
        hub = self._hub
        return Status(
            uptime=hub.clock() - self._started,
            topics=hub.topic_count,
            subscribers=hub.subscriptions,
            checks=self.checks(),
            refusal=self.refusal(),
        )
