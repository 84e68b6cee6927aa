"""The timeouts of HTTP connections: of a request's head, and of an answer that is not taken.

State: none of its own.
"""

import asyncio
from collections.abc import Callable, Iterable

from hub.delivery.client import Discard, Progress, Transport, peer_address
from hub.logs import events
from hub.observer import Observer
from hub.reports import Limit
from hub.settings import Settings
from hub.write_timeout import WriteTimeout


class HttpSweep:
    """Ends the HTTP connections that are over a timeout."""

    def __init__(
        self,
        settings: Settings,
        observer: Observer,
        *,
        http_transports: Callable[[], Iterable[Transport]],
        late_heads: Callable[[float], Iterable[Transport]],
        progress: Progress,
        discard: Discard,
    ) -> None:
        """Connect it to the connections.

        Args:
            settings: with the timeouts.
            observer: gets a report about each connection that is ended.
            http_transports: returns the open connections that are not clients of the hub.
            late_heads: returns those on which a request's head began to arrive before a time, and
                is not complete.
            progress: returns the bytes that TCP has acknowledged on a transport.
            discard: makes the kernel reset a transport.
        """
        self.write_timeout = WriteTimeout(progress, discard, settings.write_timeout)
        self._observer = observer
        self._http_transports = http_transports
        self._late_heads = late_heads
        self._header_timeout = settings.header_timeout

    async def run(self) -> None:
        """Sweep once a second until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self.sweep(loop.time())

    def sweep(self, now: float) -> None:
        """End the connections that are over a timeout at `now`; called once a second."""
        self.write_timeout.sweep(self._http_transports(), now)
        for transport in self._late_heads(now - self._header_timeout):
            peer = peer_address(transport)
            events.HTTP_FAILED.log(peer=peer, reason="header_timeout")
            self._observer.limited(Limit.HEADER_TIMEOUT)
            transport.close()
