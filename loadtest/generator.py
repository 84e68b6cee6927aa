"""Watches the load generator itself: figures of one that is too busy are its own.

A window is the processor time and the lag of one process in two seconds. With several processes the
workers send theirs to the master.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import gevent

log = logging.getLogger(__name__)

WINDOW: Final = 2.0  # seconds
_NAP: Final = 0.05  # seconds of a sleep whose lateness is the lag


class Window(NamedTuple):
    """What one process of the generator did in one window."""

    cpu: float  # percent of a core
    lag: float  # milliseconds: the largest lateness of a sleep


def watch(take: Callable[[Window], None]) -> None:
    """Measure this process for ever, and hand over each window."""
    while True:
        started, worked, lag = time.monotonic(), time.process_time(), 0.0
        while (now := time.monotonic()) < started + WINDOW:
            gevent.sleep(_NAP)
            lag = max(lag, time.monotonic() - now - _NAP)
        cpu = (time.process_time() - worked) / (now - started)
        take(Window(cpu * 100, lag * 1000))


class Generator:
    """Collects the windows of all processes, and warns if the generator is the limit."""

    def __init__(self, max_cpu: float, max_lag: float) -> None:
        """`max_cpu` is in percent of a core, and `max_lag` in milliseconds."""
        self._max = Window(max_cpu, max_lag)
        self._windows = self._busy = 0
        self._peak = Window(0.0, 0.0)

    def take(self, window: Window) -> None:
        """Count a window. The first busy one is logged at once."""
        self._windows += 1
        self._peak = Window(*map(max, self._peak, window))
        if window.cpu > self._max.cpu or window.lag > self._max.lag:
            self._busy += 1
            if self._busy == 1:
                log.warning("the generator is busy: %s", self._shown(window))

    def summary(self) -> str:
        """Return the line about the generator for the end of a run."""
        if not self._busy:
            return f"generator: at most {self._shown(self._peak)}"
        return (
            f"WARNING: the generator was the limit in {self._busy} of {self._windows} windows of"
            f" {WINDOW:g} s: up to {self._shown(self._peak)}. The figures of these windows are"
            " partly its own: use fewer users, a lower rate, more processes or another machine."
        )

    def _shown(self, window: Window) -> str:
        return (
            f"{window.cpu:.0f} % of a core ({self._max.cpu:g} allowed),"
            f" {window.lag:.0f} ms late ({self._max.lag:g} allowed)"
        )


class Mailbox:
    """Carries the windows of a worker to the master, in Locust's own reports."""

    def __init__(self) -> None:
        self._windows: list[Window] = []

    def take(self, window: Window) -> None:
        self._windows.append(window)

    def pack(self, data: dict[str, Any], **_: object) -> None:
        """Add the windows since the last report to a report (a worker's `report_to_master`)."""
        data["windows"], self._windows = self._windows, []
