"""What commands print, and how they end.

Text is for people: control characters of topics and payloads are escaped, so that nobody can write
to a terminal by publishing. Colours are for terminals only.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, Self, TextIO

from cli.interrupts import EXIT_CODE

_SHOW_EVERY: Final = 0.1  # seconds between two texts of a progress
_RED: Final = "31"
_DIM: Final = "2"
_BOLD: Final = "1"


class Exit(IntEnum):
    """The exit codes of all commands; docs/command-line.md has them for people."""

    OK = 0
    REFUSED = 1  # the request was not carried out, and would not be the next time
    USAGE = 2  # a wrong argument or setting
    UNREACHABLE = 3  # there is no server, or it cannot answer now
    NOT_ALLOWED = 4  # a token or key is missing, not valid, or does not give the right
    INTERRUPTED = EXIT_CODE  # by Ctrl-C
    CLOSED_PIPE = 141  # the reader of the output has ended, as with `| head -1`


class CommandError(Exception):
    """A command has failed. The text is one line for the user."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code


class Paint:
    """Colours for a stream, if it is a terminal and NO_COLOR is not set (https://no-color.org)."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.on = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    def bold(self, text: str) -> str:
        return self._in(_BOLD, text)

    def dim(self, text: str) -> str:
        return self._in(_DIM, text)

    def red(self, text: str) -> str:
        return self._in(_RED, text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text


def printable(text: str) -> str:
    """Return the text with escapes, as in Python, for characters that are not printable."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def to_json(value: Any) -> str:
    """Return the value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def say(text: str) -> None:
    """Print a line for people to standard error, which is not part of the output."""
    print(text, file=sys.stderr, flush=True)


def print_topics(topics: Mapping[str, int], *, heading: bool = True) -> None:
    """Print topics with their numbers of subscribers."""
    if heading and topics:
        print("subscribers  topic")
    for name, subscribers in topics.items():
        print(f"{subscribers:11}  {printable(name)}")


def counted(number: int, word: str) -> str:
    """Return a number with its word, such as `2 topics`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


class Progress:
    """A line on the terminal that shows how far a command is.

    It is not shown if the output of the command goes to the terminal, too.

    State: the time at which the line was last written.
    """

    def __init__(self) -> None:
        self._on = sys.stderr.isatty() and not sys.stdout.isatty()
        self._shown = 0.0  # monotonic time; 0: never

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._write("")

    def show(self, text: str) -> None:
        """Show the text, unless another one was shown just now."""
        now = time.monotonic()
        if self._on and now - self._shown >= _SHOW_EVERY:
            self._shown = now
            self._write(text)

    def _write(self, text: str) -> None:
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


def discard_output() -> None:
    """Discard what is still to be written to standard output, because its reader has ended."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
