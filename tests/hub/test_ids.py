"""Ids and timestamps, with a clock that the test sets."""

from hub.ids import Ids

SECOND = 1_000_000_000


def test_a_timestamp_is_rfc_3339_in_utc_with_whole_seconds() -> None:
    now = [1_767_225_600 * SECOND + 999_999_999]
    ids = Ids(lambda: now[0], "n1")
    assert ids.now() == "2026-01-01T00:00:00Z"
    now[0] += 1
    assert ids.now() == "2026-01-01T00:00:01Z"
    now[0] -= 5 * SECOND  # the wall clock may be set back
    assert ids.now() == "2025-12-31T23:59:56Z"


def test_ids_are_nanoseconds_that_grow_although_the_clock_is_set_back() -> None:
    now = [1_767_225_600 * SECOND]
    ids = Ids(lambda: now[0], "n1")
    made = [ids.new_id() for _ in range(3)]
    now[0] -= SECOND
    made.append(ids.new_id())
    now[0] += 2 * SECOND
    made.append(ids.new_id())
    assert made[0] == "1767225600000000000-n1"
    assert sorted(set(made)) == made


def test_two_nodes_make_different_ids_at_the_same_time() -> None:
    assert Ids(lambda: 7, "n1").new_id() != Ids(lambda: 7, "n2").new_id()
