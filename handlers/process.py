"""The process: its signals, and the policy of its garbage collection."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable


def stop_signal(at_once: Callable[[], None] | None = None) -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second one ends the process.

    `at_once` is called before that.
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
    """Ignore the signals that the parent of this process obeys.

    systemd sends them to all processes of a service.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tune_garbage_collection() -> None:
    """Exempt the objects that exist now from collection, and collect rarely from here on.

    They live as long as the process. Connections leave hardly any garbage in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
