"""What Ctrl-C does: it ends a program that is starting, and interrupts a command that is running.

Python would print a traceback if Ctrl-C came during an import, and the imports of a command take a
noticeable part of a second.
"""

import os
import signal
from types import FrameType
from typing import Final

EXIT_CODE: Final = 130  # the one that shells give a program that SIGINT has ended: 128 + 2


def end_at_once() -> None:
    """Let Ctrl-C end the process without a traceback, unless SIGINT is ignored.

    The default action of the signal would do the same, except in process 1 of a container, for
    which the kernel ignores it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


class Interruptible:
    """A block in which Ctrl-C raises KeyboardInterrupt, also after a call of `end_at_once`."""

    def __enter__(self) -> None:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._before is _end:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)
