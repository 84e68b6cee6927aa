"""Lines of the log, as the text format writes them."""

import logging

import pytest

from hub.logs.events import Event
from hub.logs.formats import sentence


def said(caplog: pytest.LogCaptureFixture, event: Event | None = None) -> list[str]:
    """Return the lines so far of this server, or of one event, without time, level and logger."""
    return [sentence(record) for record in records(caplog, event)]


def records(
    caplog: pytest.LogCaptureFixture, event: Event | None = None
) -> list[logging.LogRecord]:
    """Return the records so far of this server, or of one event."""
    found = [it for it in caplog.records if hasattr(it, "event")]
    return [it for it in found if event is None or it.__dict__["event"] is event]


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record that have a value."""
    return {name: it for name, it in record.__dict__["fields"].items() if it not in (None, "")}
