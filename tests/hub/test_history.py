"""What a topic remembers, against a list that forgets nothing."""

from hypothesis import given
from hypothesis import strategies as st

from hub.history import History, Position, Rule, find_rule

EVENT = b'{"n":%d}'


def remembered(history: History) -> list[bytes]:
    return history.after(history.first - 1, 1_000_000)


@given(
    size=st.integers(1, 5),
    max_bytes=st.integers(20, 200),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40),
)
def test_it_keeps_the_newest_within_all_three_bounds(
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
        assert remembered(history) == kept
        assert (history.top, history.first) == (len(model), len(model) + 1 - len(kept))


def test_a_position_recovers_where_everything_behind_it_is_here() -> None:
    history = History("e", Rule(3, 5.0, 1_000))
    assert history.recovers(Position("e", 0), 10)
    for number in range(5):
        history.append(EVENT % number, 0.0)
    assert history.position == Position("e", 5)
    assert [offset for offset in range(8) if history.recovers(Position("e", offset), 10)] == [
        2, 3, 4, 5,
    ]  # fmt: skip
    assert [offset for offset in range(8) if history.recovers(Position("e", offset), 1)] == [4, 5]
    assert not history.recovers(Position("f", 5), 10)
    history.expire(5.0)
    assert [offset for offset in range(8) if history.recovers(Position("e", offset), 10)] == [5]


def test_reading_goes_by_size_and_always_goes_on() -> None:
    history = History("e", Rule(10, 5.0, 1_000))
    events = [history.append(EVENT % number, 0.0) for number in range(4)]
    assert history.after(0, 1) == events[:1]
    assert history.after(1, len(events[1]) + 1) == events[1:3]
    assert history.after(3, 10_000) == events[3:]
    assert history.after(4, 10_000) == []
    assert [history.newest(count) for count in (0, 1, 4, 9)] == [4, 3, 0, 0]


def test_the_longest_prefix_rules() -> None:
    every, chat, none = Rule(1, 1.0, 1), Rule(2, 1.0, 1), Rule(0, 1.0, 1)
    rules = {"": every, "chat/": chat, "chat/x": none}
    assert find_rule(rules, "news") == every
    assert find_rule(rules, "chat/a") == chat
    assert find_rule(rules, "chat/xy") is None
    assert find_rule({"chat/": chat}, "news") is None
