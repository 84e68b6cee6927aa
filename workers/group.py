"""The workers of a parent as one server: their state and their metrics.

If a client asks a worker for them, the worker asks the parent, which asks all workers.

State: the children, the counts of those that have ended, and the rounds of questions under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from hub.status import CONNECTIONS, OK, REDIS, SHUTDOWN, WORKERS, Status
from hub.values import Json
from workers.channel import METRICS, STATUS
from workers.child import Child
from workers.totals import Family, Report, decode, of_ended, of_replaced, of_worker, total

DRAINING: Final = "Server is shutting down"
NO_WORKER: Final = "No worker is ready"


class State(StrEnum):
    """The state of a worker."""

    READY = "ready"
    SILENT = "silent"  # it does not answer the parent
    STARTING = "starting"
    LEAVING = "leaving"  # another one has replaced it, and its clients are leaving
    DOWN = "down"  # it has ended, and is started again later


class Group:
    """Asks all workers, and adds up their answers."""

    def __init__(self, workers: int) -> None:
        """`workers`: the number of workers that should run."""
        self.workers = workers
        self.children: set[Child] = set()
        self.announced = False  # whether the shutdown has begun
        self.restarts = 0  # of workers that have died
        self._began = asyncio.get_running_loop().time()
        self._ended: Report = []
        self._rounds: dict[str, _Round] = {
            STATUS: _Round(self._status),
            METRICS: _Round(self._metrics),
        }

    def forget(self, child: Child) -> None:
        """Remove a child that has ended, and keep its counts."""
        self.children.discard(child)
        if child.metrics is not None:
            self._ended = total([self._ended, of_ended(decode(child.metrics))])

    async def answer(self, about: str) -> Json:
        """Answer a question of a worker; None if it is not known."""
        asked = self._rounds.get(about)
        return None if asked is None else await asked.join()

    async def status(self) -> Status:
        """Return the state of all workers together."""
        return Status(**await self._rounds[STATUS].join())

    async def metrics(self) -> Json:
        """Return the metrics of all workers together, as plain data."""
        return await self._rounds[METRICS].join()

    async def _ask(self, about: str) -> dict[Child, Any]:
        """Ask all children, and return their answers in the order of the workers."""
        children = sorted(self.children, key=lambda it: (it.number, it.began))
        answers = await asyncio.gather(*(it.ask(about) for it in children))
        return dict(zip(children, answers, strict=True))

    async def _status(self) -> Json:
        answers = await self._ask(STATUS)
        found = {child: Status(**it) for child, it in answers.items() if it is not None}
        serving = [it for child, it in found.items() if child.serves]
        checks = {SHUTDOWN: "draining" if self.announced else OK}
        checks |= _worst(serving)
        count = len(serving)
        checks[WORKERS] = OK if count == self.workers else f"{count} of {self.workers}"
        refusal = DRAINING if self.announced else "" if serving else NO_WORKER
        return Status(
            uptime=asyncio.get_running_loop().time() - self._began,
            topics=sum(it.topics for it in found.values()),
            subscribers=sum(it.subscribers for it in found.values()),
            checks=checks,
            refusal=refusal or next((it.refusal for it in serving if it.refusal), ""),
        )._asdict()

    async def _metrics(self) -> Json:
        reports = [self._ended]
        for child, answer in (await self._ask(METRICS)).items():
            if answer is not None:
                child.metrics = answer
                report = of_worker(decode(answer), child.number)
                reports.append(report if child.serves else of_replaced(report))
            elif child.metrics is not None:
                reports.append(of_ended(decode(child.metrics)))
        return [tuple(family) for family in (*total(reports), *self._own())]

    def _own(self) -> Report:
        """Return the metrics that only the parent knows."""
        states = dict.fromkeys(State, 0)
        for child in self.children:
            states[_state_of(child)] += 1
        present = {child.number for child in self.children}
        states[State.DOWN] = self.workers - len(present)
        name = "broadcast_workers"
        samples = [(name, {"state": str(it)}, float(count)) for it, count in states.items()]
        restarts = "broadcast_worker_restarts"
        return [
            Family(name, "Workers, by their state.", "gauge", samples),
            Family(
                restarts,
                "Workers that have died, and were to be started again.",
                "counter",
                [(f"{restarts}_total", {}, float(self.restarts))],
            ),
        ]


def _state_of(child: Child) -> State:
    if child.ready_at is None:
        return State.STARTING
    if child.leaving:
        return State.LEAVING
    return State.READY if child.silent_since is None else State.SILENT


def _worst(statuses: Iterable[Status]) -> dict[str, str]:
    """Return the checks of several workers as those of one server.

    Redis is lost if one of them has lost it. The server is full if all of them are.
    """
    checks: dict[str, set[str]] = {REDIS: set(), CONNECTIONS: set()}
    for status in statuses:
        for name, states in checks.items():
            states.add(status.checks.get(name, OK))
    redis, connections = checks[REDIS] - {OK}, checks[CONNECTIONS]
    return {
        REDIS: min(redis, default=OK),
        CONNECTIONS: OK if OK in connections else min(connections, default=OK),
    }


class _Round:
    """Asks all workers. Callers that come during a round share the next one.

    So at most two rounds are under way, however many callers there are, and no caller gets an
    answer from before its call.
    """

    def __init__(self, ask: Callable[[], Awaitable[Json]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Json] | None = None  # waits for its turn

    async def join(self) -> Json:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._run())
        # Shielded, because other callers may wait for the same round when this one is cancelled.
        return await asyncio.shield(self._next)

    async def _run(self) -> Json:
        async with self._lock:
            self._next = None
            return await self._ask()
