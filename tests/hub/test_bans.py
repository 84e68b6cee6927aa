"""The banned subjects of a node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import bans as module
from hub.bans import ENDED, Bans


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_ban_lasts_until_its_end() -> None:
    clock = Clock()
    bans = Bans(clock)
    assert bans.add("ann", 1_010.0)
    assert (bans.end("ann"), bans.end("bob")) == (1_010.0, None)
    clock.now = 1_009.9
    assert bans.end("ann") == 1_010.0
    clock.now = 1_010.0
    assert bans.end("ann") is None


def test_a_ban_that_has_ended_changes_nothing() -> None:
    bans = Bans(Clock())
    assert not bans.add("ann", 1_000.0)
    assert bans.ends == {}


def test_bans_beyond_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BANS", 2)
    bans = Bans(Clock())
    assert [bans.add(subject, 1_010.0) for subject in ("a", "b", "c")] == [True, True, False]
    assert (bans.has_room("b"), bans.has_room("c")) == (True, False)
    assert bans.add("b", 1_020.0)
    assert bans.ends == {"a": 1_010.0, "b": 1_020.0}


def test_a_sweep_removes_what_has_ended_in_parts() -> None:
    clock = Clock()
    bans = Bans(clock)
    for number in range(ENDED + 10):
        bans.add(f"u{number}", 1_010.0)
    bans.add("longer", 1_020.0)
    clock.now = 1_015.0
    bans.sweep()
    assert len(bans.ends) == 11
    bans.sweep()
    assert bans.ends == {"longer": 1_020.0}


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.integers(0, 5)), max_size=40
    )
)
def test_bans_are_those_of_a_model(steps: list[tuple[str, int, int]]) -> None:
    """The end of a subject's ban is the latest that was added, whatever is swept meanwhile."""
    clock = Clock()
    bans = Bans(clock)
    model: dict[str, float] = {}
    for subject, seconds, pause in steps:
        end = clock.now + seconds
        model[subject] = max(end, model.get(subject, 0.0))
        bans.add(subject, end)
        clock.now += pause
        bans.sweep()
        left = {subject: end for subject, end in model.items() if end > clock.now}
        assert bans.ends == left
        assert {it: bans.end(it) for it in "abc"} == {it: left.get(it) for it in "abc"}
