"""Parses the arguments of commands: help within 80 columns, and mistakes as one line."""

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final, NoReturn

from cli.output import Exit
from hub.setting_sources import nearest

_WIDTH: Final = 80  # columns
_LIKENESS: Final = 0.6  # of a wrong word and a suggestion, as difflib measures it: from 0 to 1
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=_WIDTH)


class Parser(argparse.ArgumentParser):
    """The parser of one command's arguments."""

    def __init__(
        self, command: str, description: str, *, usage: str = "", epilog: str = ""
    ) -> None:
        super().__init__(
            prog=f"server.py {command}",
            usage=f"python {usage}" if usage else None,
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; end the process with one line if they are wrong."""
        # An unknown option is reported first: it may be why argparse misses another argument.
        for word in takewhile("--".__ne__, arguments):
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                self._refuse(word)
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            self._refuse(unknown[0])
        return options

    def _refuse(self, word: str) -> NoReturn:
        self.error(unknown_word("argument", word, self._option_string_actions))

    def error(self, message: str) -> NoReturn:
        """End the process with one line that says what is wrong."""
        self.exit(Exit.USAGE, f"{self.prog}: {message} (python {self.prog} --help)\n")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for output that programs read."""
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")


def unknown_word(kind: str, word: str, known: Iterable[str]) -> str:
    """Return the line for an unknown argument or command, with the nearest known one."""
    word = word.partition("=")[0]
    near = nearest(word, known, _LIKENESS)
    return f"unknown {kind} {word!r}" + (f": did you mean {near}?" if near else "")


def duration(text: str) -> int:
    """Return the seconds of a text such as 30s, 10m, 1h or 7d.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("a number with s, m, h or d, such as 1h, is allowed")
    return int(found[1]) * _UNITS[found[2]]


def positive(text: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        ArgumentTypeError: the text is not one.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError("a whole number of at least 1 is allowed")
    return int(text)


def utf8(text: str) -> str:
    """Return the text of an argument.

    Raises:
        ArgumentTypeError: the argument is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8") from None
    return text
