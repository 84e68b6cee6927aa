"""The limit on repeated lines of the log."""

import logging
import tracemalloc

from handlers.logs import LINES, RateLimit


def record(
    text: str, created: float, *args: object, name: str = "hub", level: int = logging.INFO
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, text, args, None)
    made.created = created
    return made


def test_lines_of_one_kind_are_limited_and_the_others_counted() -> None:
    limit = RateLimit()
    passed = [limit.filter(record("%s ended", 10.0, number)) for number in range(LINES + 5)]
    assert passed == [True] * LINES + [False] * 5
    assert limit.filter(record("another kind", 10.5))
    later = record("%s ended", 11.0, "x")
    assert limit.filter(later)
    assert later.getMessage() == "x ended (5 more like it were left out)"
    assert limit.filter(record("%s ended", 12.0, "y"))


def test_the_memory_for_different_texts_is_bounded() -> None:
    limit = RateLimit()
    tracemalloc.start()
    for number in range(20_000):
        assert limit.filter(record(f"fault at {number}", 10.0 + number / 100))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 500_000


def test_a_warning_of_a_seldom_logger_passes_once_a_minute() -> None:
    limit = RateLimit(seldom={"door"})
    times = [10.0, 10.9, 11.0, 69.9, 70.0, 129.9]
    passed = [
        limit.filter(record("full", time, name="door", level=logging.WARNING)) for time in times
    ]
    assert passed == [True, False, False, False, True, False]
    last = record("full", 130.0, name="door", level=logging.WARNING)
    assert limit.filter(last)
    assert last.getMessage() == "full (1 more like it were left out)"


def test_other_lines_of_a_seldom_logger_and_other_warnings_pass_each_second() -> None:
    limit = RateLimit(seldom={"door"})
    for second in range(3):
        assert limit.filter(record("refused", float(second), name="door"))
        assert limit.filter(record("slow", float(second), level=logging.WARNING))


def test_lines_pass_after_the_clock_was_set_back() -> None:
    limit = RateLimit(seldom={"door"})
    assert limit.filter(record("full", 5_000.0, name="door", level=logging.WARNING))
    assert limit.filter(record("full", 10.0, name="door", level=logging.WARNING))
