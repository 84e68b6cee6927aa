"""The parent, with other programs in place of workers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hub.logs import events
from tests.support.eventually import eventually
from tests.support.logs import fields, records
from tests.support.parent import OBEDIENT, parent_of
from tests.support.patience import PATIENCE
from workers.child import Child
from workers.group import Group
from workers.parent import Parent


def never() -> None:
    raise AssertionError("it has started")


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (1, 1), (2, 2), (3, 1)])
async def test_a_first_start_that_fails_ends_the_server(code: int, expected: int) -> None:
    async with parent_of(f"sys.exit({code} if start['number'] == 2 else time.sleep(60))") as (
        parent,
        group,
    ):
        async with asyncio.timeout(PATIENCE):
            assert await parent.run(asyncio.Event(), asyncio.Event(), never) == expected
        assert not group.children


async def test_workers_that_die_at_once_are_given_up() -> None:
    async with parent_of("ready(); sys.exit(7)") as (parent, group):
        started = asyncio.Event()
        async with asyncio.timeout(30):
            assert await parent.run(asyncio.Event(), asyncio.Event(), started.set) == 1
        assert not group.children


async def test_a_signal_during_the_start_ends_the_server() -> None:
    async with parent_of("time.sleep(60)") as (parent, group):
        stop = asyncio.Event()
        running = asyncio.create_task(parent.run(stop, asyncio.Event(), never))
        await eventually(lambda: len(group.children) == 2)
        stop.set()
        async with asyncio.timeout(PATIENCE):
            assert await running == 0
        assert not group.children


async def test_a_worker_that_does_not_become_ready_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.parent.READY", 0.2)
    async with parent_of("time.sleep(60)", workers=1) as (parent, _), asyncio.timeout(PATIENCE):
        assert await parent.run(asyncio.Event(), asyncio.Event(), never) == 1
    (record,) = records(caplog, events.WORKER_KILLED)
    assert fields(record)["reason"] == "not ready"


async def test_a_worker_that_does_not_answer_is_killed_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name, seconds in (("parent.HUNG", 0.2), ("parent.LOOK", 0.05), ("child.ANSWER", 0.05)):
        monkeypatch.setattr(f"workers.{name}", seconds)
    async with parent_of("ready(); time.sleep(60)", workers=1) as (parent, _):
        stop = asyncio.Event()
        running = asyncio.create_task(parent.run(stop, asyncio.Event(), lambda: None))
        await eventually(lambda: len(records(caplog, events.WORKER_READY)) == 2)
        stop.set()
        async with asyncio.timeout(PATIENCE):
            assert await running == 0
    assert fields(records(caplog, events.WORKER_KILLED)[0])["reason"] == "no answer"
    assert fields(records(caplog, events.WORKER_DIED)[0])["reason"] == "killed by SIGKILL"


async def test_a_program_that_cannot_be_started_ends_the_server(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with parent_of("", command=[str(tmp_path / "nothing")]) as (parent, _):
        async with asyncio.timeout(PATIENCE):
            assert await parent.run(asyncio.Event(), asyncio.Event(), never) == 1
    (record, *_) = records(caplog, events.WORKERS_FAILED)
    assert fields(record)["reason"] == "not started: No such file or directory"


# --- With programs that do what workers do --------------------------------------------------------


class Running:
    """A parent that runs, and what stops it and makes it replace its workers."""

    def __init__(self, parent: Parent, group: Group) -> None:
        self.group = group
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.started = asyncio.Event()
        self.task = asyncio.create_task(parent.run(self.stop, self.reload, self.started.set))

    def children(self) -> list[Child]:
        """Return the children in the order of the workers, and those that leave before others."""
        return sorted(self.group.children, key=lambda it: (it.number, it.began))

    async def end(self) -> int:
        self.stop.set()
        async with asyncio.timeout(PATIENCE):
            return await self.task


@asynccontextmanager
async def running(program: str = OBEDIENT, workers: int = 2) -> AsyncIterator[Running]:
    async with parent_of(program, workers) as (parent, group):
        made = Running(parent, group)
        async with asyncio.timeout(PATIENCE):
            await made.started.wait()
        yield made
        assert await made.end() == 0


async def test_it_adds_up_what_its_workers_answer() -> None:
    async with running(workers=3) as it:
        status = await it.group.status()
        assert (status.topics, status.subscribers, status.refusal) == (3, 6, "")
        assert status.checks == {
            "shutdown": "ok",
            "redis": "ok",
            "connections": "ok",
            "workers": "ok",
        }
        plain = await it.group.metrics()
        assert delivered(plain) == 6
        assert state_of(plain) == {"ready": 3, "silent": 0, "starting": 0, "leaving": 0, "down": 0}
        assert await it.group.answer("weather") is None


def delivered(plain: Any) -> float:
    """Return the value of a counter of plain metrics."""
    (samples,) = (it[3] for it in plain if it[0] == "broadcast_delivered")
    ((_, _, value),) = samples
    return float(value)


def state_of(plain: Any) -> dict[str, float]:
    """Return the number of workers in each state, as plain metrics say."""
    (samples,) = (it[3] for it in plain if it[0] == "broadcast_workers")
    return {labels["state"]: value for _, labels, value in samples}


async def test_who_asks_at_the_same_time_shares_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.parent.LOOK", 60.0)
    async with running() as it:
        asked: list[str] = []

        def count(ask: Callable[[str], Any], about: str) -> Any:
            asked.append(about)
            return ask(about)

        for child in it.children():
            monkeypatch.setattr(child.channel, "ask", partial(count, child.channel.ask))
        found = await asyncio.gather(*(it.group.status() for _ in range(50)))
        assert {status.subscribers for status in found} == {3}
        assert asked == ["status"] * 2


async def test_each_worker_accepts_from_its_part_and_from_that_of_one_that_is_down() -> None:
    async with running(workers=3) as it:
        one, two, three = it.children()
        assert [child.parts for child in (one, two, three)] == [[0], [1], [2]]
        two.kill()
        await two.ended.wait()
        await eventually(lambda: 1 in one.parts + three.parts)
        await eventually(lambda: len(it.children()) == 3 and it.children()[1].parts == [1])
        assert [child.parts for child in it.children()] == [[0], [1], [2]]


async def test_counts_of_a_dead_worker_that_were_reported_stay_in_the_sum() -> None:
    async with running() as it:
        assert delivered(await it.group.metrics()) == 3
        (one, _) = it.children()
        one.kill()
        await one.ended.wait()
        await eventually(lambda: len(it.children()) == 2 and it.children()[0].serves)
        assert delivered(await it.group.metrics()) == 4


async def test_workers_are_replaced_one_by_one() -> None:
    async with running() as it:
        before = it.children()
        it.reload.set()
        await eventually(lambda: not set(before) & it.group.children)
        await eventually(lambda: all(child.serves for child in it.children()))
        assert [child.number for child in it.children()] == [1, 2]
        assert delivered(await it.group.metrics()) == 6  # the old ones have sent their last counts


async def test_a_new_worker_that_fails_leaves_the_old_ones(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    program = f"os.path.exists({str(mark)!r}) and sys.exit(3)\n{OBEDIENT}"
    async with running(program) as it:
        before = it.children()
        mark.touch()
        it.reload.set()
        await eventually(lambda: records(caplog, events.RELOAD_FAILED))
        assert it.children() == before
        (record,) = records(caplog, events.RELOAD_FAILED)
        assert fields(record) == {"worker": 1, "reason": "exit code 3"}


async def test_a_silent_worker_is_left_out_and_only_its_counts_remain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.child.ANSWER", 0.1)
    async with running() as it:
        (one, two) = it.children()
        assert delivered(await it.group.metrics()) == 3
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(one.channel, "ask", lambda _: loop.create_future())
        plain = await it.group.metrics()
        assert state_of(plain)["silent"] == 1
        assert delivered(plain) == 3
        status = await it.group.status()
        assert (status.subscribers, status.checks["workers"]) == (two.number, "1 of 2")


async def test_a_worker_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.parent.GRACE", 0.1)
    async with running("ready(); time.sleep(60)"):
        pass
    reasons = {fields(it)["reason"] for it in records(caplog, events.WORKER_KILLED)}
    assert reasons == {"not ended"}


async def test_the_drain_delay_is_before_the_sockets_are_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with parent_of(OBEDIENT, drain_delay=0.3) as (parent, group):
        it = Running(parent, group)
        await it.started.wait()
        it.stop.set()
        await eventually(lambda: records(caplog, events.DELAYING))
        status = await group.status()
        assert status.refusal == "Server is shutting down"
        assert status.checks["shutdown"] == "draining"
        assert await it.end() == 0
