"""The periodic work of the server: timeouts, and notices that no other event triggers.

State: none of its own; each part that is swept has its state.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count

from hub.delivery.client import Discard, Progress, Transport, peer_address
from hub.delivery.keepalive import SLICES, Keepalive
from hub.hub import Hub
from hub.limits import RequestLimits
from hub.logs import events
from hub.loop_lag import LoopLag
from hub.readiness import Readiness
from hub.reports import Limit
from hub.sessions import Sessions
from hub.settings import Settings
from hub.write_timeout import WriteTimeout


class Sweeper:
    """Runs the keepalive, gap notices, expiries of the broker and limits, and timeouts of HTTP.

    It also records how late it runs, which is the lag of the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        *,
        sessions: Sessions,
        readiness: Readiness,
        limits: RequestLimits,
        lag: LoopLag,
        http_transports: Callable[[], Iterable[Transport]],
        late_heads: Callable[[float], Iterable[Transport]],
        progress: Progress,
        discard: Discard,
    ) -> None:
        """Connect it to the parts that it sweeps.

        Args:
            http_transports: returns the open connections that are not clients of the hub.
            late_heads: returns those on which a request's head has been arriving since a time.
            progress: asks the kernel about a transport.
            discard: makes the kernel reset a transport.
        """
        self.keepalive = Keepalive(
            settings,
            hub.clients,
            send=hub.fanout.send,
            fail=hub.fail,
            rights_due=sessions.due,
            progress=progress,
            discard=discard,
        )
        self.write_timeout = WriteTimeout(progress, discard, settings.write_timeout)
        self._hub = hub
        self._readiness = readiness
        self._limits = limits
        self._lag = lag
        self._sessions = sessions
        self._http_transports = http_transports
        self._late_heads = late_heads
        self._header_timeout = settings.header_timeout

    async def run(self) -> None:
        """Sweep SLICES times a second until cancelled."""
        clock = asyncio.get_running_loop().time
        now = clock()
        for turn in count():
            due = now + 1 / SLICES  # the work of the last sweep is a part of the lag
            await asyncio.sleep(1 / SLICES)
            now = clock()
            self._lag.add(now - due, now)
            self._hub.observer.lagged(now - due)
            self._hub.fanout.sample()
            self.keepalive.sweep(now)
            self._hub.gaps.sweep()
            self._hub.broker.sweep()
            self._readiness.sweep(now)
            if turn % SLICES == 0:
                self._limits.sweep(now)
                self._sessions.sweep()
                self.sweep_http(now)

    def sweep_http(self, now: float) -> None:
        """End the HTTP connections over a timeout: of their answer, or of a request's head."""
        self.write_timeout.sweep(self._http_transports(), now)
        for transport in self._late_heads(now - self._header_timeout):
            peer = peer_address(transport)
            events.HTTP_FAILED.log(peer=peer, reason="header_timeout")
            self._hub.observer.limited(Limit.HEADER_TIMEOUT)
            transport.close()
