"""Token buckets and counts of connections, against naive models."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import limits
from hub.limits import ConnectionCounts, Inflow, InflowRates, Rate, RateTable
from hub.settings import Settings

KEYS = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::/64"])


class NaiveBucket:
    """Counts tokens exactly, and adds those that have come back."""

    def __init__(self, rate: int, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = Fraction(burst)
        self._at = Fraction(0)

    def take(self, now: Fraction) -> Fraction:
        """Take a token, and return 0, or the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return Fraction(0)
        return (1 - self._tokens) / self._rate


@given(
    rate=st.integers(1, 10),
    seconds=st.integers(1, 2),
    steps=st.lists(st.tuples(KEYS, st.integers(0, 2_000), st.booleans())),
)
def test_a_table_of_buckets_is_like_the_model(
    rate: int, seconds: int, steps: list[tuple[str, int, bool]]
) -> None:
    table = RateTable(Rate.of(rate, seconds))
    buckets = {}
    now = Fraction(0)
    for key, milliseconds, sweep in steps:
        now += Fraction(milliseconds, 1_000)
        if sweep:
            table.sweep(float(now))
        expected = buckets.setdefault(key, NaiveBucket(rate, rate * seconds)).take(now)
        assert table.take(key, float(now)) == pytest.approx(float(expected), abs=1e-5)


def test_a_sweep_forgets_the_buckets_that_are_full() -> None:
    table = RateTable(Rate.of(5))
    for number in range(100):
        table.take(number, 0.0)
    table.sweep(1.1)
    table.sweep(2.2)
    assert len(table) == 0


def test_a_table_is_bounded_and_keeps_the_newest_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYS", 100)
    table = RateTable(Rate.of(1))
    for number in range(1_000):
        assert table.take(number, 0.0) == 0
        assert len(table) <= 200
    assert table.take(999, 0.0) > 0


@given(st.integers(1, 3), st.lists(st.tuples(KEYS, st.booleans())))
def test_counts_of_connections_are_like_the_model(
    limit: int, steps: list[tuple[str, bool]]
) -> None:
    counts, model = ConnectionCounts(limit), Counter[str]()
    for key, opens in steps:
        address = key.replace("/64", "7")
        if opens:
            counts.add(address)
            model[key] += 1
        elif model[key]:
            counts.remove(address)
            model[key] -= 1
        assert counts.full(address) == (model[key] >= limit)
        assert len(counts) == len(+model)


def test_nothing_is_counted_without_a_limit() -> None:
    counts = ConnectionCounts(0)
    counts.add("192.0.2.1")
    assert not counts.full("192.0.2.1")
    assert len(counts) == 0
    counts.remove("192.0.2.1")


def inflow(**settings: int) -> Inflow:
    return Inflow(InflowRates.of(Settings(**settings)))  # type: ignore[arg-type]


@given(
    rate=st.integers(1, 10),
    steps=st.lists(st.tuples(st.integers(0, 64), st.integers(0, 4_000))),
)
def test_the_messages_of_a_slice_get_the_tokens_of_the_model(
    rate: int, steps: list[tuple[int, int]]
) -> None:
    limited, bucket = inflow(message_rate=rate), NaiveBucket(rate, 2 * rate)
    now = Fraction(0)
    for messages, milliseconds in steps:
        now += Fraction(milliseconds, 1_000)
        waits = [bucket.take(now) for _ in range(messages)]
        refused = sum(wait > Fraction(1, 100_000) for wait in waits)
        assert limited.take(messages, 0, float(now)) == refused
        if refused:
            expected = 1_000 * float(waits[-1])
            assert expected - 0.1 <= limited.refusal(float(now)).retry_after_ms <= expected + 1.1


def test_a_message_is_accepted_after_the_time_of_its_refusal() -> None:
    limited = inflow(message_rate=3)
    now = 1_000.0
    while not limited.take(1, 0, now):
        pass
    for _ in range(100):
        now += limited.refusal(now).retry_after_ms / 1_000
        assert not limited.take(1, 0, now)
        assert limited.take(1, 0, now)


def test_an_excess_persists_unless_nothing_is_refused_for_a_while() -> None:
    limited = inflow(message_rate=1)
    for second in range(10):
        assert not limited.add_refusal(float(second))
    assert limited.add_refusal(10.0)
    assert not limited.add_refusal(12.5)


def test_messages_without_a_token_that_are_not_refused_are_no_excess() -> None:
    limited = inflow(message_rate=1)
    for second in range(20):
        limited.take(5, 0, float(second))
    assert not limited.add_refusal(20.0)


@given(st.lists(st.tuples(st.integers(1, 300_000), st.floats(0, 3)), min_size=1))
def test_pauses_are_short_and_keep_the_rate(reads: list[tuple[int, float]]) -> None:
    """A read pauses until the bucket is no longer in debt, or for two seconds."""
    rate = 100_000
    limited, now, debt = inflow(byte_rate=rate), 0.0, 0.0
    for size, gap in reads:
        debt = min(max(0.0, debt - gap * rate) + size, 4.0 * rate)
        now += gap
        assert limited.take(1, size, now) == 0
        pause, limited.pause = limited.pause, 0.0
        assert pause == pytest.approx(max(0.0, debt / rate - 2.0), abs=1e-5)
        assert pause <= 2.0


def test_a_limit_that_is_off_never_applies() -> None:
    assert inflow(byte_rate=1).take(1_000_000, 0, 0.0) == 0
    limited = inflow(message_rate=1)
    assert limited.take(1, 1_000_000, 0.0) == 0
    assert limited.pause == 0.0
