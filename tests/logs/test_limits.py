"""The limit on repeated lines of the log."""

import io
import logging
import math
import tracemalloc

import pytest

from hub.logs import events
from hub.logs.events import OFTEN, Event
from hub.logs.formats import sentence
from hub.logs.limits import RateLimit
from hub.logs.setup import LimitedHandler

LEFT_OUT = events.LEFT_OUT.text


def record(event: Event, created: float, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("server", event.level, "", 0, event.name, (), None)
    made.__dict__.update(event=event, fields=fields, created=created)
    return made


def foreign(text: str, created: float, *args: object) -> logging.LogRecord:
    """Return a record of another library."""
    made = logging.LogRecord("asyncio", logging.ERROR, "", 0, text, args, None)
    made.created = created
    return made


def passes(limit: RateLimit, *lines: logging.LogRecord) -> list[bool]:
    return [limit.admit(line)[0] for line in lines]


def test_lines_of_one_event_are_limited_and_the_others_counted() -> None:
    limit = RateLimit()
    failed = [record(events.FAILED, 10.0, connection=it) for it in range(OFTEN.lines + 5)]
    assert passes(limit, *failed) == [True] * OFTEN.lines + [False] * 5
    assert limit.admit(record(events.HTTP_FAILED, 10.5)) == (True, None)
    admitted, report = limit.admit(record(events.FAILED, 11.0))
    assert admitted
    assert report is not None
    assert sentence(report) == f"{LEFT_OUT}: of='connection failed' count=5"
    assert report.levelno == events.FAILED.level
    assert limit.admit(record(events.FAILED, 12.0)) == (True, None)


def test_the_number_is_reported_if_no_line_follows() -> None:
    limit = RateLimit()
    passes(limit, *[record(events.FAILED, 10.0)] * (OFTEN.lines + 3))
    assert limit.close(10.9) == []
    (report,) = limit.close(11.0)
    assert sentence(report) == f"{LEFT_OUT}: of='connection failed' count=3"
    assert limit.close(12.0) == []


def test_each_reason_of_an_event_has_its_own_limit() -> None:
    limit = RateLimit()
    for reason in ("lost", "too_big"):
        line = record(events.FAILED, 10.0, reason=reason)
        assert passes(limit, *[line] * (OFTEN.lines + 1)) == [True] * OFTEN.lines + [False]
    assert [sentence(it).partition(" reason=")[2] for it in limit.close(math.inf)] == [
        "lost count=1",
        "too_big count=1",
    ]


def test_a_warning_about_a_condition_passes_once_a_minute() -> None:
    limit = RateLimit()
    times = [10.0, 10.9, 11.0, 69.9, 70.0, 129.9]
    lines = [record(events.FULL, time) for time in times]
    assert passes(limit, *lines) == [True, False, False, False, True, False]
    (report,) = limit.close(130.0)
    assert report.levelno == logging.WARNING


def test_lines_pass_after_the_clock_was_set_back() -> None:
    limit = RateLimit()
    assert passes(limit, record(events.FULL, 5_000.0), record(events.FULL, 10.0)) == [True, True]


def test_lines_of_other_libraries_are_limited_by_their_text() -> None:
    limit = RateLimit()
    lines = [foreign("fault %d", 10.0, number) for number in range(OFTEN.lines + 2)]
    assert passes(limit, *lines) == [True] * OFTEN.lines + [False] * 2
    assert passes(limit, foreign("another", 10.0)) == [True]
    (report,) = limit.close(math.inf)
    assert sentence(report) == f"{LEFT_OUT}: of='fault 0' count=2"


def test_lines_that_are_never_left_out() -> None:
    limit = RateLimit()
    assert all(passes(limit, *[record(events.REDIS_LOST, 10.0)] * 100))


def test_the_memory_for_different_texts_is_bounded() -> None:
    limit = RateLimit()
    tracemalloc.start()
    for number in range(20_000):
        limit.admit(foreign(f"fault at {number}", 10.0))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2_000_000
    reports = limit.close(math.inf)
    assert sum(it.__dict__["fields"]["count"] for it in reports) == 20_000 - 1_000 - OFTEN.lines


def test_the_handler_writes_the_number_at_the_next_line_in_time_and_at_the_exit() -> None:
    stream = io.StringIO()
    handler = LimitedHandler(stream)
    for time in (10.0, 11.0):
        for _ in range(OFTEN.lines + 2):
            handler.handle(record(events.FAILED, time))
    handler.report(12.0)
    for _ in range(OFTEN.lines + 2):
        handler.handle(record(events.FAILED, 13.0))
    assert stream.getvalue().splitlines().count(LEFT_OUT) == 2
    handler.close()
    assert stream.getvalue().splitlines().count(LEFT_OUT) == 3


@pytest.mark.parametrize("event", [events.FULL, events.NO_DESCRIPTORS, events.FEW_DESCRIPTORS])
def test_conditions_of_a_full_server_are_logged_seldom(event: Event) -> None:
    assert event.limit == events.SELDOM
