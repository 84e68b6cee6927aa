"""The formats of a log line: text for people, and JSON for programs.

Values may come from clients. No value can begin a new line, send a control character to a terminal
or be longer than MAX_VALUE.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from hub.logs.events import Event

MAX_VALUE: Final = 300  # characters of a value
MAX_MESSAGE: Final = 2_000  # characters of a message of another library
MAX_TRACEBACK: Final = 10_000  # characters of a traceback

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+~*#?&\[\]-]+", re.ASCII)


class TextFormatter(logging.Formatter):
    """`2026-11-26 10:00:00,123 INFO server: connection failed: connection=7 reason=lost`.

    A value with other characters than those of names, addresses and paths is quoted as in Python. A
    traceback follows in indented lines.
    """

    def __init__(self, worker: int = 0) -> None:
        """`worker`: the number that each line has as its last field; 0 for none."""
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and the lines of its traceback."""
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {self._text(record)}"
        if record.exc_info:
            for part in _traceback(self, record.exc_info).splitlines():
                line += f"\n    {_escape(part)}"
        return line

    def _text(self, record: logging.LogRecord) -> str:
        text = sentence(record)
        if not self._worker:
            return text
        return f"{text}{' ' if _fields(record) else ': '}worker={self._worker}"


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII: `ts`, `level`, `logger` and `event`, then the fields of the event.

    `event` is the event's name, or the message of another library. A line about an exception also
    has `exception`, the text of the traceback.
    """

    def __init__(self, worker: int = 0) -> None:
        """`worker`: the number that each line has as a field; 0 for none."""
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        event: Event | None = getattr(record, "event", None)
        message = record.getMessage()[:MAX_MESSAGE] if event is None else event.name
        line: dict[str, object] = {
            "ts": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": message,
        }
        if self._worker:
            line["worker"] = self._worker
        line.update((name, _cut(value)) for name, value in _fields(record).items())
        if record.exc_info:
            line["exception"] = _traceback(self, record.exc_info)
        # Not by orjson, which leaves control characters beyond ASCII as they are, and refuses the
        # lone surrogates of a path that is not UTF-8.
        return json.dumps(line)


def sentence(record: logging.LogRecord) -> str:
    """Return the text of a record as one printable line: its event, then the fields of the event.

    A record of another library has its message, cut to MAX_MESSAGE characters.
    """
    event: Event | None = getattr(record, "event", None)
    if event is None:
        return _escape(record.getMessage()[:MAX_MESSAGE])
    fields = _fields(record)
    text, _, name = event.text.partition("{")
    if name:
        text += _escape(str(fields.pop(name.removesuffix("}"), "")))
    pairs = " ".join([f"{name}={_shown(value)}" for name, value in fields.items()])
    separator = " " if name else ": "
    return f"{text}{separator}{pairs}" if pairs else text


def _traceback(formatter: logging.Formatter, exc_info: Any) -> str:
    return formatter.formatException(exc_info)[-MAX_TRACEBACK:]


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that have a value."""
    fields = getattr(record, "fields", {})
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(_cut(value))
    return text if _PLAIN.fullmatch(text) else repr(text)


def _cut(value: object) -> object:
    """Shorten a value: a float to three decimals, and anything but a number to MAX_VALUE."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, int):
        return value
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _escape(text: str) -> str:
    """Return text as it is if it is printable, otherwise with escapes as in Python."""
    return text if text.isprintable() else repr(text)[1:-1]


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
