"""The parent: it starts the workers, replaces those that have died, and stops them in order.

Theory of operation. The parent holds the listening sockets, in one part for each worker, and the
kernel spreads connections evenly over the parts. While a worker is down, another one accepts from
its part, and nothing in a backlog is lost. Each worker is told from which parts to accept.

A worker that dies is started again (workers/deaths.py).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from socket import socket
from typing import Any, Final

from hub.logs import events
from workers.channel import STATUS
from workers.child import Child
from workers.deaths import Deaths
from workers.group import Group

READY: Final = 30.0  # seconds in which a worker must become ready
LOOK: Final = 1.0  # seconds between two checks whether the workers answer
HUNG: Final = 30.0  # seconds without an answer after which a worker is killed
# Seconds for the workers to close their sockets, but at most half of the remaining time.
CLOSE: Final = 3.0
GRACE: Final = 4.0  # seconds after SHUTDOWN_TIMEOUT in which the workers must end
SETTINGS: Final = 2  # the exit code of a worker whose settings are not valid


class _Place:
    """The place of one worker. State: its newest child, which may have ended."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.starting = asyncio.Lock()  # held while another child is being started

    @property
    def serves(self) -> bool:
        return self.child is not None and self.child.serves


class _FailureError(Exception):
    """The server cannot go on; `code` is the exit code of the parent."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Parent:
    """Runs the workers. State: their places."""

    def __init__(
        self,
        group: Group,
        command: Sequence[str],
        sockets: Sequence[Sequence[socket]],
        *,
        drain_delay: float,
        shutdown_timeout: float,
    ) -> None:
        """Create a parent that has no workers yet; `run` starts them.

        Args:
            group: asks the workers.
            command: the program and its arguments that start a worker.
            sockets: the listening sockets, in a part for each worker.
            drain_delay: seconds from a signal until the sockets are closed.
            shutdown_timeout: seconds from a signal until the remaining clients are cut.
        """
        self._group = group
        self._command = command
        self._sockets = sockets
        self._drain_delay = drain_delay
        self._shutdown_timeout = shutdown_timeout
        self._places = [_Place(number) for number in range(1, len(sockets) + 1)]
        self._deaths = Deaths()
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False  # whether the sockets are closed
        self._clock = asyncio.get_running_loop().time

    async def run(
        self, stop: asyncio.Event, reload: asyncio.Event, started: Callable[[], None]
    ) -> int:
        """Run the workers until `stop` is set; return the exit code.

        Args:
            stop: ends the server.
            reload: replaces all workers, each time it is set.
            started: called when all workers are ready.
        """
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._work(reload, started))
        stopped = loop.create_task(stop.wait())
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stopped):
            task.cancel()
        await asyncio.wait([work, stopped])
        code = 0 if work.cancelled() else work.result()
        await self._shut_down(self._drain_delay if stop.is_set() else 0.0)
        return code

    def kill(self) -> None:
        """Kill all workers."""
        for child in self._group.children:
            child.kill()

    async def _work(self, reload: asyncio.Event, started: Callable[[], None]) -> int:
        """Start the workers and keep them running; return an exit code if that is not possible."""
        code = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                for place in self._places:
                    tasks.create_task(self._fill(place))
            started()
            async with asyncio.TaskGroup() as tasks:
                for place in self._places:
                    tasks.create_task(self._keep(place))
                tasks.create_task(self._kill_hung())
                tasks.create_task(self._reload(reload))
        except* _FailureError as failures:
            (code, *_) = (it.code for it in failures.exceptions if isinstance(it, _FailureError))
        return code

    # Starts.

    async def _start(self, number: int) -> Child:
        """Start a child, and return it when it is ready or has ended."""
        child = Child(number, self._group.answer)
        self._group.children.add(child)
        running = asyncio.get_running_loop().create_task(self._run(child))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(READY):
                await child.ready.wait()
        except TimeoutError:
            await _kill(child, "not ready")
        if child.ready_at is not None:
            seconds = child.ready_at - child.began
            events.WORKER_READY.log(worker=number, pid=child.pid, node=child.node, seconds=seconds)
        return child

    async def _run(self, child: Child) -> None:
        await child.run(self._command, self._sockets)
        self._group.forget(child)
        self._assign()

    async def _fill(self, place: _Place) -> None:
        """Start the first child of a place.

        Raises:
            _FailureError: it has ended.
        """
        place.child = await self._start(place.number)
        if not place.serves:
            raise _fail(place.child)
        self._assign()

    async def _keep(self, place: _Place) -> None:
        """Start the worker of a place again whenever it has died.

        Raises:
            _FailureError: the workers die young.
        """
        while True:
            child = place.child
            assert child is not None
            await child.ended.wait()
            if place.child is not child:
                continue  # another one has replaced it
            await asyncio.sleep(self._record_death(child))
            async with place.starting:
                if place.child is child:
                    place.child = await self._start(place.number)
                    self._assign()

    def _record_death(self, child: Child) -> float:
        """Return the seconds until a child that has died is started again.

        Raises:
            _FailureError: the workers die young.
        """
        now = self._clock()
        others = [it.ready_at for it in self._serving() if it.ready_at is not None]
        pause = self._deaths.record(now, child.ready_at, others)
        if pause is None:
            raise _fail(child)
        self._group.restarts += 1
        events.WORKER_DIED.log(
            worker=child.number,
            pid=child.pid,
            reason=child.why,
            seconds=now - child.began,
            restart_in=pause,
        )
        return pause

    def _serving(self) -> list[Child]:
        return [place.child for place in self._places if place.child and place.serves]

    def _assign(self) -> None:
        """Tell each worker from which parts of the sockets to accept."""
        serving = self._serving()
        if not serving or self._closing:
            return
        parts = {child: [child.number - 1] for child in serving}
        for place in self._places:
            if not place.serves:
                min(parts.values(), key=len).append(place.number - 1)
        for child, own in parts.items():
            if child.parts != own:
                child.parts = own
                child.channel.tell("accept", parts=own)

    async def _kill_hung(self) -> None:
        """Kill each worker that has not answered for HUNG seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            await self._group.answer(STATUS)
            for child in list(self._group.children):
                if child.silent_since is not None and self._clock() - child.silent_since >= HUNG:
                    await _kill(child, "no answer")

    # Replacing.

    async def _reload(self, reload: asyncio.Event) -> None:
        """Replace all workers, one by one, whenever `reload` is set."""
        while True:
            await reload.wait()
            reload.clear()
            events.RELOADING.log(workers=len(self._places))
            for place in self._places:
                if not await self._replace(place):
                    break
            else:
                events.RELOADED.log()

    async def _replace(self, place: _Place) -> bool:
        """Replace the worker of a place; return False if the new one does not start."""
        async with place.starting:
            old = place.child
            child = await self._start(place.number)
            if not child.serves:
                events.RELOAD_FAILED.log(worker=place.number, reason=child.why)
                return False
            assert old is not None
            place.child, old.leaving = child, True
            self._assign()
            old.channel.tell("leave", seconds=self._shutdown_timeout, clients=0)
        await _end([old], self._shutdown_timeout + GRACE)
        return True

    # Shutdown.

    async def _shut_down(self, delay: float) -> None:
        """End all workers, in the order of the shutdown.

        `delay`: seconds until the sockets are closed.
        """
        end = self._clock() + self._shutdown_timeout
        self._group.announced = True
        children = list(self._group.children)
        for child in children:
            if child.ready_at is None:
                child.kill()
            else:
                child.channel.tell("announce")
        if delay:
            events.DELAYING.log(seconds=delay)
            await asyncio.sleep(delay)
        self._closing = True
        for part in self._sockets:
            for sock in part:
                sock.close()
        serving = [child for child in children if child.serves]
        for child in serving:
            child.channel.tell("close")
        seconds = min(CLOSE, (end - self._clock()) / 2)
        await _all((child.closed.wait() for child in serving), seconds)
        clients = sum(child.clients for child in serving)
        for child in serving:
            child.channel.tell("dismiss", seconds=end - self._clock(), clients=clients)
        await _end(children, end + GRACE - self._clock())
        events.STOPPED.log()


def _fail(child: Child) -> _FailureError:
    """Log that the server ends because a child has ended, and return the error."""
    events.WORKERS_FAILED.log(reason=child.why)
    return _FailureError(SETTINGS if child.code == SETTINGS else 1)


async def _kill(child: Child, reason: str) -> None:
    events.WORKER_KILLED.log(worker=child.number, pid=child.pid, reason=reason)
    child.kill()
    await child.ended.wait()


async def _end(children: Sequence[Child], seconds: float) -> None:
    """Wait until children have ended; kill those that have not ended after so many seconds."""
    await _all((child.ended.wait() for child in children), seconds)
    for child in children:
        if not child.ended.is_set():
            await _kill(child, "not ended")


async def _all(waits: Iterable[Coroutine[Any, Any, object]], seconds: float) -> None:
    """Wait until all coroutines have ended, for at most so many seconds; cancel the others."""
    tasks = [asyncio.get_running_loop().create_task(it) for it in waits]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=max(0.0, seconds))
        for task in late:
            task.cancel()
