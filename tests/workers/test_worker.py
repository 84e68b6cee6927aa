"""The worker's end of the channel, with a test in place of its parent."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hub.logs import events
from hub.status import Status
from tests.support.eventually import eventually
from tests.support.logs import records
from tests.support.patience import PATIENCE
from workers.channel import Channel, Order
from workers.start import Start, take_start
from workers.worker import Worker

STATUS = Status(1.0, 2, 3, {"redis": "ok"})
METRICS = [["broadcast_topics", "", "gauge", [["broadcast_topics", {}, 2]]]]


class Process:
    """What a worker has besides: what accepts connections, and the steps of the shutdown.

    State: what was done, in order.
    """

    def __init__(self) -> None:
        self.done: list[Any] = []
        self._open: list[socket.socket] = []

    async def open(self, sock: socket.socket) -> None:
        self.done.append(("open", sock.getsockname()[1]))
        self._open.append(sock)

    def close(self, sock: socket.socket | None = None) -> Any:
        if sock is None:
            return self._close_all()
        self.done.append(("close", sock.getsockname()[1]))
        self._open.remove(sock)
        sock.close()
        return None

    async def _close_all(self) -> int:
        self.done.append("close")
        self._close_sockets()
        return 7

    def announce(self) -> None:
        self.done.append("announce")

    async def hand_over(self) -> None:
        self.done.append("hand over")
        self._close_sockets()

    async def dismiss(self, seconds: float, clients: int = 0) -> None:
        self.done.append(("dismiss", seconds, clients))
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._open:
            sock.close()
        self._open = []


class Parent:
    """The other end of the channel. State: the orders and questions so far."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        self.channel = Channel(self.orders.append, self._answer)

    async def _answer(self, about: str) -> Any:
        self.asked.append(about)
        if about not in self.answers:
            await asyncio.Event().wait()
        return self.answers[about]


class Scene:
    """A worker that runs, its parent, and the ports of the parts."""

    def __init__(self, worker: Worker, parent: Parent, ports: list[int]) -> None:
        self.worker = worker
        self.parent = parent
        self.ports = ports
        self.process = Process()
        self.running = asyncio.create_task(
            worker.run("node", self.process, self.process, timeout=9.0)
        )

    async def did(self, *steps: Any) -> None:
        await eventually(lambda: len(self.process.done) >= len(steps))
        assert self.process.done == [*steps]

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.running


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    mine, theirs = socket.socketpair()
    parts = [[socket.create_server(("127.0.0.1", 0))] for _ in range(2)]
    ports = [part[0].getsockname()[1] for part in parts]
    files = [[part[0].detach()] for part in parts]
    parent = Parent()
    worker = Worker(Start(1, 2, theirs.detach(), files), lambda: STATUS, lambda: METRICS)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: parent.channel, sock=mine)
    it = Scene(worker, parent, ports)
    await eventually(lambda: parent.orders)
    assert parent.orders == [{"type": "ready", "node": "node"}]
    yield it
    await it.end()
    parent.channel.abort()
    await parent.channel.closed.wait()


def dismiss(it: Scene) -> None:
    it.parent.channel.tell("dismiss", seconds=5.0, clients=20)


async def test_it_accepts_from_the_parts_that_it_is_told() -> None:
    async with scene() as it:
        one, two = it.ports
        it.parent.channel.tell("accept", parts=[0])
        it.parent.channel.tell("accept", parts=[0, 1])
        it.parent.channel.tell("accept", parts=[1])
        it.parent.channel.tell("accept", parts=[0, 1])
        dismiss(it)
        await it.did(
            ("open", one), ("open", two), ("close", one), ("open", one), ("dismiss", 5.0, 20)
        )


async def test_it_answers_the_questions_of_the_parent() -> None:
    async with scene() as it:
        async with asyncio.timeout(PATIENCE):
            assert await it.parent.channel.ask("status") == STATUS._asdict()
            assert await it.parent.channel.ask("metrics") == METRICS
            assert await it.parent.channel.ask("weather") is None
        dismiss(it)


async def test_a_shutdown_has_its_order_and_ends_with_the_last_metrics() -> None:
    async with scene() as it:
        it.parent.channel.tell("accept", parts=[0])
        for order in ("announce", "nonsense", "close"):
            it.parent.channel.tell(order)
        await it.did(("open", it.ports[0]), "announce", "close")
        await eventually(lambda: len(it.parent.orders) == 2)
        assert it.parent.orders[1] == {"type": "closed", "clients": 7}
        with socket.socket() as sock:  # no process accepts from its part any more
            assert sock.connect_ex(("127.0.0.1", it.ports[0])) != 0
        dismiss(it)
        await it.end()
        assert it.process.done[-1] == ("dismiss", 5.0, 20)
        await eventually(lambda: len(it.parent.orders) == 3)
        assert it.parent.orders[2] == {"type": "final", "metrics": METRICS}


async def test_a_worker_that_is_replaced_hands_over() -> None:
    async with scene() as it:
        it.parent.channel.tell("accept", parts=[0])
        it.parent.channel.tell("leave", seconds=5.0, clients=0)
        await it.did(("open", it.ports[0]), "hand over", ("dismiss", 5.0, 0))


async def test_without_its_parent_it_shuts_down(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as it:
        it.parent.channel.tell("accept", parts=[0])
        await it.did(("open", it.ports[0]))
        it.parent.channel.abort()
        await it.did(("open", it.ports[0]), "announce", "close", ("dismiss", 9.0, 0))
    assert len(records(caplog, events.PARENT_LOST)) == 1


async def test_it_asks_the_parent_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.worker.PARENT", 0.1)
    async with scene() as it:
        it.parent.answers = {"status": STATUS._replace(topics=50)._asdict(), "metrics": METRICS}
        assert (await it.worker.status()).topics == 50
        assert await it.worker.metrics() == METRICS
        it.parent.answers = {}
        own = await it.worker.status()
        assert own == STATUS._replace(checks={"redis": "ok", "workers": "unknown"})
        assert await it.worker.metrics() is None
        assert it.parent.asked == ["status", "metrics"] * 2
        dismiss(it)


async def test_a_question_that_fails_is_logged_and_not_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene() as it:
        it.worker._status = lambda: 1 / 0  # type: ignore[assignment,return-value]
        asked = it.parent.channel.ask("status")
        await eventually(lambda: records(caplog, events.QUESTION_FAULT))
        assert not asked.done()
        dismiss(it)
    assert asked.cancelled()


def test_the_start_comes_in_a_variable_that_only_the_worker_sees() -> None:
    reading, writing = os.pipe()
    start = Start(2, 3, reading, [[writing]])
    environ = {"HOME": "/", **start.variable()}
    os.set_inheritable(reading, True)
    found = take_start(environ)
    assert found == start
    assert environ == {"HOME": "/"}
    assert not os.get_inheritable(reading)
    assert take_start(environ) is None
    os.close(reading)
    os.close(writing)
