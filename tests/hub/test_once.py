"""A publish with an idempotency key is carried out once, for a time and within a bound."""

import pytest

from hub import once
from hub.once import REMEMBERED, First, Once


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_known_for_its_topic_and_its_time() -> None:
    clock = Clock()
    keys = Once(clock)
    first = First("m1", 3)
    assert keys.first("t", "k") is None
    keys.remember("t", "k", first)
    assert keys.first("t", "k") == first
    assert keys.first("u", "k") is None
    assert keys.first("t", "l") is None
    clock.now = REMEMBERED - 1
    assert keys.first("t", "k") == first
    clock.now = REMEMBERED
    assert keys.first("t", "k") is None


def test_the_oldest_key_goes_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "LIMIT", 2)
    keys = Once(Clock())
    for key in "abc":
        keys.remember("t", key, First(key, 0))
    assert keys.first("t", "a") is None
    assert keys.first("t", "b") == First("b", 0)
    assert keys.first("t", "c") == First("c", 0)
