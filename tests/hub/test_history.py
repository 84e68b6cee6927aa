"""The history of a topic, and the budget of all histories, against lists that drop nothing."""

import gc
from sys import getrefcount

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers import history as module
from hub.brokers.history import OVERHEAD, History, HistoryBudget
from hub.values import NOWHERE, Position, Rule, find_rule, position_of

EVENT = b'{"n":%d}'


def kept_events(history: History) -> list[bytes]:
    return history.after(history.first - 1, 1_000_000)


@given(
    size=st.integers(1, 5),
    max_bytes=st.integers(20, 200),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40),
)
def test_a_history_keeps_the_newest_events_within_its_three_limits(
    size: int, max_bytes: int, steps: list[tuple[int, int]]
) -> None:
    history = History("e", Rule(size, 5.0, max_bytes))
    model: list[tuple[float, bytes]] = []
    now = 0.0
    for pause, length in steps:
        now += pause
        event = history.append(b'{"p":"%b"}' % (b"x" * length), now)
        assert event == b'{"p":"%b","offset":%d}' % (b"x" * length, len(model) + 1)
        model.append((now, event))
        history.expire(now)
        kept = [it for at, it in model if at > now - 5.0][-size:]
        while sum(map(len, kept)) > max_bytes:
            kept.pop(0)
        assert kept_events(history) == kept
        assert (history.top, history.first) == (len(model), len(model) + 1 - len(kept))


def test_a_position_can_recover_if_all_events_after_it_are_kept() -> None:
    history = History("e", Rule(3, 5.0, 1_000))

    def recoverable(limit: int) -> list[int]:
        return [it for it in range(8) if history.can_recover(Position("e", it), limit)]

    assert history.can_recover(Position("e", 0), 10)
    for number in range(5):
        history.append(EVENT % number, 0.0)
    assert history.position == Position("e", 5)
    assert recoverable(10) == [2, 3, 4, 5]
    assert recoverable(1) == [4, 5]
    assert not history.can_recover(Position("f", 5), 10)
    history.expire(5.0)
    assert recoverable(10) == [5]


def test_a_read_returns_as_many_bytes_as_asked_and_at_least_one_event() -> None:
    history = History("e", Rule(10, 5.0, 1_000))
    events = [history.append(EVENT % number, 0.0) for number in range(4)]
    assert history.after(0, 1) == events[:1]
    assert history.after(1, len(events[1]) + 1) == events[1:3]
    assert history.after(3, 10_000) == events[3:]
    assert history.after(4, 10_000) == []
    assert [history.start_of_newest(count) for count in (0, 1, 4, 9)] == [4, 3, 0, 0]


def test_the_rule_with_the_longest_prefix_applies() -> None:
    every, chat, none = Rule(1, 1.0, 1), Rule(2, 1.0, 1), Rule(0, 1.0, 1)
    rules = {"": every, "chat/": chat, "chat/x": none}
    assert find_rule(rules, "news") == every
    assert find_rule(rules, "chat/a") == chat
    assert find_rule(rules, "chat/xy") is None
    assert find_rule({"chat/": chat}, "news") is None


def test_a_history_without_a_budget_is_freed_at_once() -> None:
    """One is made for each answer, and the server collects garbage rarely."""
    history = History("e", Rule(5, 60.0, 1_000))
    event = history.append(EVENT % 1, 0.0)
    history.page(None, 5, False)
    kept = getrefcount(event)
    gc.disable()
    try:
        del history
        assert getrefcount(event) == kept - 1
    finally:
        gc.enable()


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 3), st.integers(0, 60)),
    st.tuples(st.sampled_from(["read", "page", "expire", "restart", "close"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["wait", "sweep"])),
)


@given(limit=st.integers(0, 1_500), steps=st.lists(STEPS, max_size=80))
def test_histories_within_a_budget_drop_events_by_their_last_use(
    limit: int, steps: list[tuple[str, *tuple[int, ...]]]
) -> None:
    budget = HistoryBudget(limit)
    histories = [History("e", Rule(5, 5.0, 300), budget=budget) for _ in range(4)]
    model: list[list[tuple[float, bytes]]] = [[] for _ in histories]
    uses = [0] * len(histories)  # the last step that used each
    now = 0.0
    for step, (what, *drawn) in enumerate(steps):
        place = drawn[0] if drawn else 0
        history, kept = histories[place], model[place]
        if what == "append":
            kept.append((now, history.append(b'{"p":"%b"}' % (b"x" * drawn[1]), now)))
            while len(kept) > 5 or sum(len(event) for _, event in kept) > 300:
                kept.pop(0)
        elif what in ("read", "page"):
            read = history.page(None, 10, False) if what == "page" else kept_events(history)
            assert read == [event for _, event in kept]
        elif what == "restart":
            history.reset(Position("f", history.top))
            kept.clear()
        elif what == "close":
            history.close()
            kept.clear()
        elif what == "wait":
            now += 2.0
        if what in ("append", "read", "page"):
            uses[place] = step
        for number in range(4):
            if what == "sweep" or (what == "expire" and number == place):
                model[number][:] = [(at, it) for at, it in model[number] if at > now - 5.0]
        if what == "expire":
            history.expire(now)
        elif what == "sweep":
            budget.sweep(now)
        while total(model) > limit:
            model[min((n for n in range(4) if model[n]), key=uses.__getitem__)].pop(0)
        assert budget.used == total(model)
        for history, kept in zip(histories, model, strict=True):
            assert history.top + 1 - history.first == len(kept)


def total(model: list[list[tuple[float, bytes]]]) -> int:
    """Return the bytes that the budget counts."""
    return sum(len(event) + OVERHEAD for kept in model for _, event in kept)


def test_one_sweep_examines_some_histories_and_drops_some_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SWEPT_TOPICS", 2)
    monkeypatch.setattr(module, "SWEPT_EVENTS", 3)
    budget = HistoryBudget()
    histories = [History("e", Rule(10, 5.0, 1_000), budget=budget) for _ in range(5)]
    for history in histories:
        for number in range(2):
            history.append(EVENT % number, 0.0)
    size = budget.used // 10
    left = []
    for _ in range(7):
        before = budget.used
        budget.sweep(5.0)
        left.append(budget.used // size)
        assert before - budget.used <= 3 * size
    assert left == [7, 4, 1, 0, 0, 0, 0]
    for history in histories[:3]:
        history.append(EVENT % 3, 6.0)
    budget.sweep(10.9)
    budget.sweep(10.9)
    assert budget.used == 3 * size
    budget.sweep(11.0)
    assert budget.used == size


@pytest.mark.parametrize("event", [b"{}", b"{x}", b'{"n":' + b"1" * 5_000 + b"}", b'{"offset":}'])
def test_text_in_braces_has_no_position(event: bytes) -> None:
    """Events from Redis are not parsed. A malformed one must not stop the delivery of others."""
    assert position_of(event, "a") == NOWHERE
