"""The write timeout of HTTP connections, measured by the bytes that TCP acknowledges.

State: for each transport with queued bytes, the acknowledged bytes and the time of the last
progress. The size of a transport's buffer is not enough: the kernel takes more bytes only when a
third of its own buffer is free, which can take a slow reader a minute. Times are arguments, in
seconds.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hub.delivery.client import Discard, Progress, Transport, peer_address
from hub.errors import WRITE_TIMEOUT
from hub.logs import events


class _LastProgress(NamedTuple):
    acknowledged: int  # bytes
    since: float  # seconds


class WriteTimeout:
    """Resets HTTP connections whose peer has taken no byte for the write timeout."""

    def __init__(self, progress: Progress, discard: Discard, write_timeout: float) -> None:
        self._progress = progress
        self._discard = discard
        self._write_timeout = write_timeout
        self._last: dict[Transport, _LastProgress] = {}

    def sweep(self, transports: Iterable[Transport], now: float) -> None:
        """Check the open transports, and those that had queued bytes at the last check.

        The latter may be closing, and are then not among the open ones.

        Args:
            transports: the open ones.
            now: the time in seconds.
        """
        found: dict[Transport, _LastProgress] = {}
        for transport in {*transports, *self._last}:
            if not transport.get_write_buffer_size():
                continue
            acknowledged, _ = self._progress(transport)
            last = self._last.get(transport)
            if last is None or last.acknowledged != acknowledged:
                found[transport] = _LastProgress(acknowledged, now)
            elif now - last.since >= self._write_timeout:
                peer = peer_address(transport)
                events.HTTP_FAILED.log(peer=peer, reason=WRITE_TIMEOUT)
                self._discard(transport)
                transport.abort()
            else:
                found[transport] = last
        self._last = found
