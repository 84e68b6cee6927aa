"""Connections that take nothing of what is written to them, found by what TCP acknowledges.

State: of each transport that holds bytes, how much was acknowledged and since when no more. A
transport's own buffer says too little: the kernel takes more only when a third of its buffer is
free, which a slow reader needs a minute for. Time is an argument.
"""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from hub.delivery.client import Discard, Progress, Transport
from hub.event_log import address

log = logging.getLogger(__name__)


class _Mark(NamedTuple):
    acknowledged: int  # bytes
    since: float


class Unread:
    """Cuts the HTTP connections whose answers nobody takes."""

    def __init__(self, progress: Progress, discard: Discard, write_timeout: float) -> None:
        self._progress = progress
        self._discard = discard
        self._write_timeout = write_timeout
        self._marks: dict[Transport, _Mark] = {}

    def sweep(self, transports: Iterable[Transport], now: float) -> None:
        """Look at all that are open at `now`, and at those that began to close since."""
        marks: dict[Transport, _Mark] = {}
        for transport in {*transports, *self._marks}:
            if not transport.get_write_buffer_size():
                continue
            acknowledged, _ = self._progress(transport)
            mark = self._marks.get(transport)
            if mark is None or mark.acknowledged != acknowledged:
                marks[transport] = _Mark(acknowledged, now)
            elif now - mark.since >= self._write_timeout:
                log.info("request from %s ended: its answer was not taken", address(transport))
                self._discard(transport)
                transport.abort()
            else:
                marks[transport] = mark
        self._marks = marks
