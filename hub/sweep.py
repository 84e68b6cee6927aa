"""The periodic work of the server: timeouts, and notices that no other event triggers.

State: none of its own; each part that is swept has its state.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count

from hub.delivery.client import Discard, Progress, Transport
from hub.delivery.keepalive import SLICES, Keepalive
from hub.hub import Hub
from hub.limits import RequestLimits
from hub.readiness import Readiness
from hub.settings import Settings
from hub.unread import Unread


class Sweeper:
    """Runs the keepalive, gap notices, expiries of the broker and limits, and timeouts of HTTP."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        readiness: Readiness,
        limits: RequestLimits,
        http_transports: Callable[[], Iterable[Transport]],
        progress: Progress,
        discard: Discard,
    ) -> None:
        """`http_transports` returns the open connections that are not clients of the hub.

        `progress` and `discard` ask the kernel about a transport, and reset it.
        """
        self.keepalive = Keepalive(
            settings, hub.clients, hub.fanout.send, hub.fail, progress, discard
        )
        self.unread = Unread(progress, discard, settings.write_timeout)
        self._hub = hub
        self._readiness = readiness
        self._limits = limits
        self._http_transports = http_transports

    async def run(self) -> None:
        """Sweep SLICES times a second until cancelled."""
        clock = asyncio.get_running_loop().time
        for turn in count():
            await asyncio.sleep(1 / SLICES)
            now = clock()
            self.keepalive.sweep(now)
            self._hub.gaps.sweep()
            self._hub.broker.sweep()
            self._readiness.sweep(now)
            if turn % SLICES == 0:
                self._limits.sweep(now)
                self.sweep_http(now)

    def sweep_http(self, now: float) -> None:
        """Cut the HTTP connections that have taken no byte for the write timeout."""
        self.unread.sweep(self._http_transports(), now)
