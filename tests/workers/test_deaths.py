"""When workers that die are started again, and when the server gives up."""

from workers.deaths import MAX_PAUSE, STABLE, TRIES, Deaths


def test_a_worker_that_lived_is_started_again_at_once() -> None:
    deaths = Deaths()
    assert [deaths.record(STABLE * it, STABLE * (it - 1), []) for it in range(1, 50)] == [0.0] * 49


def test_pauses_double_while_workers_die_young_and_an_older_one_lives() -> None:
    deaths = Deaths()
    pauses = [deaths.record(100.0 + it, 100.0 + it, [99.0]) for it in range(20)]
    assert pauses[:6] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == MAX_PAUSE


def test_a_worker_may_die_young_for_days() -> None:
    deaths = Deaths()
    pauses = [deaths.record(100.0 + MAX_PAUSE * it, None, [99.0]) for it in range(10_000)]
    assert set(pauses[10:]) == {MAX_PAUSE}


def test_without_an_older_one_it_gives_up() -> None:
    for others in ([], [100.5]):  # it was ready after the first death
        deaths = Deaths()
        results = [deaths.record(100.0 + it, None, others) for it in range(TRIES)]
        assert results[-1] is None
        assert None not in results[:-1]


def test_a_worker_that_lived_begins_a_new_count() -> None:
    deaths = Deaths()
    for _ in range(3):
        for it in range(TRIES - 1):
            assert deaths.record(100.0 + it, None, []) is not None
        assert deaths.record(200.0, 100.0, []) == 0.0
