"""Times and ids, with a clock that the test sets."""

from hub.ids import Stamps

SECOND = 1_000_000_000


def test_ts_is_rfc_3339_in_utc_with_whole_seconds() -> None:
    now = [1_767_225_600 * SECOND + 999_999_999]
    stamps = Stamps(lambda: now[0], "n1")
    assert stamps.ts() == "2026-01-01T00:00:00Z"
    now[0] += 1
    assert stamps.ts() == "2026-01-01T00:00:01Z"
    now[0] -= 5 * SECOND  # the wall clock may be set back
    assert stamps.ts() == "2025-12-31T23:59:56Z"


def test_ids_are_nanoseconds_that_grow_even_where_the_clock_does_not() -> None:
    now = [1_767_225_600 * SECOND]
    stamps = Stamps(lambda: now[0], "n1")
    ids = [stamps.new_id() for _ in range(3)]
    now[0] -= SECOND
    ids.append(stamps.new_id())
    now[0] += 2 * SECOND
    ids.append(stamps.new_id())
    assert ids[0] == "1767225600000000000-n1"
    assert sorted(set(ids)) == ids


def test_two_nodes_make_different_ids_at_the_same_time() -> None:
    assert Stamps(lambda: 7, "n1").new_id() != Stamps(lambda: 7, "n2").new_id()
