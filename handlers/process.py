"""The process: its signals, the policy of its garbage collection, and what the kernel counts."""

import asyncio
import gc
import os
import resource
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc/self")
_DESCRIPTORS: Final = _PROC / "fd"


def stop_signal(at_once: Callable[[], None] | None = None) -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second one ends the process.

    `at_once`: called before a second signal ends the process; None for nothing.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            if at_once is not None:
                at_once()
            # Not the default action of the signal: process 1 of a container ignores that.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def reload_signal() -> asyncio.Event:
    """Return an event that each SIGHUP sets."""
    reload = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    return reload


def ignore_signals() -> None:
    """Ignore the signals that are for the parent of this process.

    systemd sends them to all processes of a service.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tune_garbage_collection() -> None:
    """Exempt the objects that exist now from collection, and collect rarely from now on.

    These objects live as long as the process, and connections leave hardly any garbage in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)


class ProcessFigures(NamedTuple):
    """What the kernel counts for this process."""

    virtual_bytes: int
    resident_bytes: int
    started_at: float  # seconds since the epoch
    cpu_seconds: float
    open_descriptors: int
    max_descriptors: int


def process_figures() -> ProcessFigures | None:
    """Return the kernel's figures; None where it has no /proc, as on macOS."""
    try:
        fields = (_PROC / "stat").read_bytes().rpartition(b")")[2].split()  # from the state on
        # From Linux 6.2 on, the folder's size is the number. A list of 10,000 takes 5 ms.
        descriptors = _DESCRIPTORS.stat().st_size or len(os.listdir(_DESCRIPTORS))
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    user, system, start, virtual, pages = (int(fields[it]) for it in (11, 12, 19, 20, 21))
    return ProcessFigures(
        virtual_bytes=virtual,
        resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        started_at=_boot_time() + start / ticks,
        cpu_seconds=(user + system) / ticks,
        open_descriptors=descriptors,
        max_descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


@cache
def _boot_time() -> int:
    """Return the time at which the machine started, in seconds since the epoch."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
