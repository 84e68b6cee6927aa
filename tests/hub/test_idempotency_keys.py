"""Idempotency keys: kept for a time, within two limits."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers import idempotency
from hub.brokers.base import PublishResult
from hub.brokers.idempotency import REMEMBERED, FirstPublish, IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.values import Position
from tests.support.node import Node


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_kept_for_one_topic_and_a_limited_time() -> None:
    clock = Clock()
    keys = IdempotencyKeys(clock)
    first = FirstPublish("m1", 3)
    assert keys.get("t", "k") is None
    keys.remember("t", "k", first)
    assert keys.get("t", "k") == first
    assert keys.get("u", "k") is None
    assert keys.get("t", "l") is None
    clock.now = REMEMBERED - 1
    assert keys.get("t", "k") == first
    clock.now = REMEMBERED
    assert keys.get("t", "k") is None


@pytest.mark.parametrize(
    "first",
    [
        FirstPublish(None, 0),
        FirstPublish({"é": [1.5, True]}, 1),
        FirstPublish("m", 2, Position("e", 3)),
    ],
    ids=["no id", "id of any JSON", "position"],
)
def test_an_answer_is_returned_unchanged(first: FirstPublish) -> None:
    keys = IdempotencyKeys(Clock())
    keys.remember("t", "k", first)
    assert keys.get("t", "k") == first


def test_a_key_used_again_does_not_revive_expired_keys() -> None:
    clock = Clock()
    keys = IdempotencyKeys(clock)
    for key in "abc":
        keys.remember("t", key, FirstPublish(key, 1))
    clock.now = REMEMBERED
    keys.remember("t", "a", FirstPublish("again", 1))
    assert [keys.get("t", key) for key in "abc"] == [FirstPublish("again", 1), None, None]


def test_beyond_the_limit_the_oldest_key_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "LIMIT", 2)
    keys = IdempotencyKeys(Clock())
    for key in "abc":
        keys.remember("t", key, FirstPublish(key, 0))
    assert keys.get("t", "a") is None
    assert keys.get("t", "b") == FirstPublish("b", 0)
    assert keys.get("t", "c") == FirstPublish("c", 0)


@pytest.mark.parametrize(
    "publish",
    [
        lambda keys, n: keys.remember(f"{n}" + "t" * 60_000, "k", FirstPublish("m", 1)),
        lambda keys, n: keys.remember("é" * 30_000 + f"{n}", "k", FirstPublish("m", 1)),
        lambda keys, n: keys.remember("t", f"{n}" + "k" * 250, FirstPublish([[]] * 80, 1)),
    ],
    ids=["topics", "topics that are not ASCII", "keys and ids"],
)
def test_the_memory_of_all_keys_is_limited(
    monkeypatch: pytest.MonkeyPatch, publish: Callable[[IdempotencyKeys, int], None]
) -> None:
    monkeypatch.setattr(idempotency, "MAX_BYTES", 1_000_000)
    keys = IdempotencyKeys(Clock())
    publish(keys, 0)
    for number in range(1, 3_000):
        publish(keys, number)
    assert 1 < len(keys) < 1_500
    for number in range(3_000):
        keys.remember("t", str(number), FirstPublish("m", number))
    assert len(keys) > 1_500  # small entries fit again


def test_one_sweep_drops_some_of_the_expired_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "SWEPT", 2)
    clock = Clock()
    keys = IdempotencyKeys(clock)
    for clock.now in (0.0, 0.0, 0.0, 1.0):
        keys.remember("t", f"{len(keys)}", FirstPublish("m", 1))
    keys.sweep()
    assert len(keys) == 4
    clock.now = REMEMBERED
    left = []
    for _ in range(3):
        keys.sweep()
        left.append(len(keys))
    assert left == [2, 1, 1]


STEPS = st.one_of(
    st.tuples(st.just("remember"), st.sampled_from("abcdef"), st.integers(0, 60)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 100.0, 150.0, REMEMBERED])),
    st.tuples(st.just("sweep")),
)


@given(st.lists(STEPS, max_size=60))
def test_keys_are_those_of_a_plain_list(steps: list[tuple[Any, ...]]) -> None:
    """The keys are the newest of the list, within the time and both limits."""
    clock = Clock()
    keys = IdempotencyKeys(clock)
    said: list[tuple[float, str, FirstPublish, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idempotency, "LIMIT", 4)
        patch.setattr(idempotency, "SWEPT", 1)
        patch.setattr(idempotency, "MAX_BYTES", 4 * idempotency.OVERHEAD + 650)
        for what, *drawn in steps:
            if what == "remember":
                key, length = drawn
                first = FirstPublish("x" * length, len(said))
                keys.remember("t", key, first)
                said = [it for it in said if it[1] != key]
                said.append((clock.now, key, first, size_of("t", key, first)))
            elif what == "wait":
                clock.now += drawn[0]
            else:
                keys.sweep()
            said = [it for it in said if it[0] + REMEMBERED > clock.now][-4:]
            while sum(size for *_, size in said) > idempotency.MAX_BYTES:
                said.pop(0)
            known = {key: first for _, key, first, _ in said}
            assert {key: keys.get("t", key) for key in "abcdef"} == {
                key: known.get(key) for key in "abcdef"
            }
            assert len(known) <= len(keys) <= 4


def size_of(topic: str, key: str, first: FirstPublish) -> int:
    """Return the bytes that one entry counts."""
    keys = IdempotencyKeys(Clock())
    keys.remember(topic, key, first)
    return keys.used


def test_the_broker_of_a_single_server_sweeps_its_keys() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    Node(broker=broker).subscribed("t")
    outcomes: list[Any] = []
    for key in "ab":
        broker.publish_once("t", b"{}", outcomes.append, key=key, first=FirstPublish(key, 1))
    assert outcomes == [PublishResult(), PublishResult()]
    clock.now = REMEMBERED
    broker.sweep()
    assert len(broker._keys) == 0
