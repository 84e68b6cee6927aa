"""Ctrl-C: it ends a program that starts, and interrupts one that works.

An import that is interrupted prints a traceback. The imports of a command take a part of a second.
"""

import os
import signal
from types import FrameType
from typing import Final

EXIT_CODE: Final = 130  # as shells count it


def end_at_once() -> None:
    """Let Ctrl-C end the process without a word, unless the caller has it ignored.

    This is not left to the system, which ignores the signal for process 1 of a container.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


class Interruptible:
    """A block in which Ctrl-C raises KeyboardInterrupt, after `end_at_once` too."""

    def __enter__(self) -> None:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._before is _end:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)
