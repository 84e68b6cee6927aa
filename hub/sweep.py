"""The periodic work of the server: timeouts, and notices that no other event triggers.

State: none of its own.
"""

import asyncio
from itertools import count

from hub.delivery.client import Discard, Progress
from hub.delivery.keepalive import SLICES, Keepalive
from hub.http_sweep import HttpSweep
from hub.hub import Hub
from hub.limits import RequestLimits
from hub.loop_lag import LoopLag
from hub.readiness import Readiness
from hub.sessions import Sessions
from hub.settings import Settings


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
        http: HttpSweep,
        progress: Progress,
        discard: Discard,
    ) -> None:
        """Connect it to the parts that it sweeps.

        Args:
            settings: with the timeouts.
            hub: its clients, gaps and broker are swept.
            sessions: forgets bans that have ended.
            readiness: records whether Redis can be reached.
            limits: forgets full buckets.
            lag: remembers how late the event loop is.
            http: ends HTTP connections that are over a timeout.
            progress: returns the bytes that TCP has acknowledged on a transport.
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
        self._hub = hub
        self._readiness = readiness
        self._limits = limits
        self._lag = lag
        self._sessions = sessions
        self.http = http

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
                self.http.sweep(now)
