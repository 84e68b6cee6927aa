"""The process: its signals, and the policy of its garbage collection."""

import asyncio
import gc
import os
import signal


def stop_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second one ends the process."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            # Not the default action of the signal: process 1 of a container ignores that.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def tune_garbage_collection() -> None:
    """Exempt the objects that exist now from collection, and collect rarely from here on.

    They live as long as the process. Connections leave hardly any garbage in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
