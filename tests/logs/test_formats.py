"""The formats of log lines: no value can break a line."""

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from hub.logs import events
from hub.logs.events import Event
from hub.logs.formats import MAX_MESSAGE, MAX_VALUE, JsonFormatter, TextFormatter, sentence
from tests.logs.test_limits import foreign, record

NOON = datetime(2026, 11, 26, 12, 0, 0, 123_456, UTC).timestamp()
# Line breaks, terminal escapes, a byte that is not UTF-8, and text that runs backwards.
EVIL = "a\x7f\n2026-11-26 ERROR forged\r\x1b[2J\x9b2J\x07\u2028\x85\udcff\u202e\x00\"'\\ b=c"


def text(record: logging.LogRecord) -> str:
    return TextFormatter().format(record)


def parsed(record: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def failing(fault: BaseException) -> logging.LogRecord:
    """Return a record with the traceback of a fault."""
    try:
        raise fault
    except type(fault):
        line = record(events.CONNECTION_FAULT, NOON, connection=7)
        line.exc_info = sys.exc_info()
        return line


def test_a_line_of_text_has_its_fields_behind_the_event() -> None:
    line = record(
        events.FAILED, NOON, connection=7, address="::1", client_id="an n", seconds=1.23456
    )
    _, _, rest = text(line).partition(" INFO ")
    said = "connection failed: connection=7 address=::1 client_id='an n' seconds=1.235"
    assert rest == f"server: {said}"


def test_a_field_may_be_a_part_of_the_text() -> None:
    line = record(events.LISTENING, NOON, url="http://127.0.0.1:80", port=80, node="a")
    assert sentence(line) == "listening on http://127.0.0.1:80 port=80 node=a"
    assert parsed(line)["event"] == "listening on"
    assert parsed(line)["port"] == 80


def test_a_line_of_json_has_its_fields_beside_the_event() -> None:
    line = record(events.FAILED, NOON, connection=7, address="::1", client_id="ann", seconds=0.5)
    assert parsed(line) == {
        "ts": "2026-11-26T12:00:00.123456Z",
        "level": "info",
        "logger": "server",
        "event": "connection failed",
        "connection": 7,
        "address": "::1",
        "client_id": "ann",
        "seconds": 0.5,
    }


def test_fields_without_a_value_are_omitted() -> None:
    line = record(events.FAILED, NOON, connection=0, client_id="", subject=None)
    assert sentence(line) == "connection failed: connection=0"
    assert parsed(line).keys() == {"ts", "level", "logger", "event", "connection"}


def test_no_value_can_break_a_line() -> None:
    line = record(events.FAILED, NOON, client_id=EVIL)
    assert text(line).isprintable()
    assert sentence(line).startswith("connection failed: client_id='a\\x7f\\n2026")
    assert parsed(line)["client_id"] == EVIL


@pytest.mark.parametrize("value", ["", "a b", "a=b", "'", "naïve", "a,b", "\t"])
def test_only_plain_values_are_not_quoted(value: str) -> None:
    line = record(events.SUBSCRIBED, NOON, connection=1, topic=value)
    shown = f" topic={value!r}" if value else ""
    assert sentence(line) == f"subscribed: connection=1{shown}"


def test_a_long_value_is_cut() -> None:
    line = record(events.FAILED, NOON, client_id="x" * 5_000)
    assert len(sentence(line)) < MAX_VALUE + 100
    assert parsed(line)["client_id"] == "x" * MAX_VALUE + "…"


def test_lines_of_other_libraries_have_the_same_forms() -> None:
    line = foreign("Task failed\nfuture: %s", NOON, EVIL)
    assert text(line).isprintable()
    assert " ERROR asyncio: Task failed\\nfuture: a\\x7f" in text(line)
    assert parsed(line)["logger"] == "asyncio"
    assert parsed(line)["event"] == f"Task failed\nfuture: {EVIL}"


def test_a_long_message_of_a_library_is_cut() -> None:
    line = foreign("x" * 5_000, NOON)
    assert len(sentence(line)) == len(parsed(line)["event"]) == MAX_MESSAGE


def test_lines_of_a_worker_have_its_number() -> None:
    lines = [record(events.FULL, NOON, limit=5), record(events.STOPPED, NOON), foreign("odd", NOON)]
    plain, json_lines = TextFormatter(worker=3), JsonFormatter(worker=3)
    for line in lines:
        assert plain.format(line) == f"{text(line)}{' ' if line is lines[0] else ': '}worker=3"
        assert json.loads(json_lines.format(line)) == {**parsed(line), "worker": 3}


def test_a_traceback_cannot_forge_a_line() -> None:
    line = failing(ValueError(EVIL))
    first, *others = text(line).split("\n")
    assert first.endswith("fault in a connection (it is closed): connection=7")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(it.startswith("    ") and it.isprintable() for it in others)
    assert "ValueError: a" in str(parsed(line)["exception"])


def test_a_long_traceback_is_cut_to_its_end() -> None:
    line = failing(ValueError("x" * 100_000 + "end"))
    assert len(text(line)) < 20_000
    assert text(line).endswith("end")
    assert str(parsed(line)["exception"]).endswith("end")
    assert len(JsonFormatter().format(line)) < 20_000


def test_every_event_has_a_text_and_fields_that_fit_the_formats() -> None:
    found = {name: it for name, it in vars(events).items() if isinstance(it, Event)}
    assert len({it.name for it in found.values()}) == len(found)
    for name, event in found.items():
        assert name.isupper()
        assert event.text.isprintable()
        assert not set(event.fields) & {"ts", "level", "logger", "event", "exception"}
        assert len(set(event.fields)) == len(event.fields)
        inside = event.text.partition("{")[2].removesuffix("}")
        assert inside in ("", *event.fields)
