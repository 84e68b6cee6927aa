"""The budget for the bodies of large requests."""

from contextlib import ExitStack

from hub.body_budget import LIMIT, SHARE, BodyBudget


def test_a_caller_gets_its_share_and_no_more() -> None:
    budget = BodyBudget()
    with budget.reserve("ann", SHARE - 1) as first, budget.reserve("ann", 1) as second:
        assert (first, second) == (True, True)
        with budget.reserve("ann", 1) as third, budget.reserve("bob", SHARE) as of_bob:
            assert (third, of_bob) == (False, True)
    with budget.reserve("ann", SHARE) as again:
        assert again


def test_all_callers_share_the_limit() -> None:
    budget = BodyBudget()
    with ExitStack() as held:
        for number in range(LIMIT // SHARE):
            assert held.enter_context(budget.reserve(number, SHARE))
        with budget.reserve("late", 1) as refused, budget.reserve("small", 0) as small:
            assert (refused, small) == (False, True)
    with budget.reserve("late", SHARE) as reserved:
        assert reserved
