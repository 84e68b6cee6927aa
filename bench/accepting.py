"""Measure how listening sockets spread connections over processes, and what a killed one loses.

    .venv/bin/python bench/accepting.py

Three ways in which several processes may accept the connections of one port:

- inherited: one listening socket, which every process inherits;
- own: each process opens a socket of its own with SO_REUSEPORT;
- held: the same sockets are opened by the parent, which keeps them open. When a process ends, the
  parent tells another one to accept from the socket of that one, too.

For each it prints the fewest and the most connections of one process, in percent of an equal part:
in a storm (64 at a time), and when they come one by one. Then a process is stopped, connects are
made, and the process is killed: the figures are the number of these connections that are lost, and
the time until all others are accepted. All connections are over loopback. The processes accept on
uvloop, as the server does.
"""

import argparse
import asyncio
import os
import resource
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

BACKLOG = 4_096
AT_ONCE = 64  # connects under way in a storm
PATIENCE = 2.0  # seconds without an answer, after which a connection is lost
WAYS = ("inherited", "own", "held")


def listener(port: int, *, shared: bool) -> socket.socket:
    """Return a listening socket; `shared`: other sockets may listen on its port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(BACKLOG)
    return sock


# --- The processes --------------------------------------------------------------------------------


class Accepted(asyncio.Protocol):
    """Works for as long as a handshake takes, and answers with the number of the process."""

    def __init__(self, number: int, work: float) -> None:
        self._number = number
        self._work = work

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        end = time.perf_counter() + self._work
        while time.perf_counter() < end:
            pass
        cast(asyncio.Transport, transport).write(bytes([self._number]))


async def serve(number: int, work: float, sockets: list[socket.socket], told: int) -> None:
    """Accept from the first socket, and from each other one whose number is read from `told`."""
    loop = asyncio.get_running_loop()

    async def accept(sock: socket.socket) -> None:
        await loop.create_server(lambda: Accepted(number, work), sock=sock, backlog=BACKLOG)

    def read() -> None:
        accepting.extend(loop.create_task(accept(sockets[it])) for it in os.read(told, 1))

    accepting = [loop.create_task(accept(sockets[0 if len(sockets) == 1 else number]))]
    loop.add_reader(told, read)
    await asyncio.Event().wait()  # until it is killed


class Group:
    """The processes that accept, and the pipes on which they are told to accept from more."""

    def __init__(self, way: str, processes: int, work: float) -> None:
        self.way = way
        self.pids: list[int] = []
        self._pipes: list[int] = []
        count_of = 1 if way == "inherited" else processes
        first = listener(0, shared=way != "inherited")
        self.port: int = first.getsockname()[1]
        sockets = [first, *(listener(self.port, shared=True) for _ in range(count_of - 1))]
        for number in range(processes):
            end, self_end = os.pipe()
            pid = os.fork()
            if not pid:
                for pipe in (*self._pipes, self_end):
                    os.close(pipe)
                mine = sockets
                if way == "own":
                    mine = [sockets.pop(number)]
                    for sock in sockets:
                        sock.close()
                uvloop.run(serve(number, work, mine, end))
                os._exit(0)
            os.close(end)
            self.pids.append(pid)
            self._pipes.append(self_end)
        if way != "held":
            for sock in sockets:
                sock.close()
        self._held = sockets

    def kill(self, number: int) -> None:
        """Kill a process; another one accepts from its socket if the parent holds that."""
        os.kill(self.pids[number], signal.SIGKILL)
        os.waitpid(self.pids[number], 0)
        if self.way == "held":
            os.write(self._pipes[number - 1], bytes([number]))

    def end(self) -> None:
        """End all processes."""
        for pid, pipe in zip(self.pids, self._pipes, strict=True):
            os.close(pipe)
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it was killed before
        for sock in self._held:
            sock.close()


@contextmanager
def group(way: str, processes: int, work: float) -> Iterator[Group]:
    """Run processes that accept."""
    made = Group(way, processes, work)
    try:
        answer(connect(made.port))  # one of them accepts
        time.sleep(0.5)  # and so do the others; there is no event for it
        yield made
    finally:
        made.end()


# --- The clients ----------------------------------------------------------------------------------


def connect(port: int) -> socket.socket:
    """Begin to connect."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


def answer(sock: socket.socket) -> int:
    """Wait for the number of the process that has accepted a connection; -1 if it is lost."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    try:
        data = sock.recv(1) if poll.poll(PATIENCE * 1_000) else b""
    except ConnectionError:
        data = b""
    return data[0] if data else -1


def storm(port: int, connections: int) -> Counter[int]:
    """Connect AT_ONCE at a time; return the number of connections by process."""
    poll = select.epoll()
    waiting: dict[int, socket.socket] = {}
    made: list[socket.socket] = []
    found: Counter[int] = Counter()
    started = 0
    while len(made) < connections:
        while len(waiting) < AT_ONCE and started < connections:
            sock = connect(port)
            waiting[sock.fileno()] = sock
            poll.register(sock, select.EPOLLIN)
            started += 1
        for descriptor, _ in poll.poll(PATIENCE):
            sock = waiting.pop(descriptor)
            poll.unregister(descriptor)
            found[answer(sock)] += 1
            made.append(sock)
    for sock in made:
        sock.close()
    poll.close()
    return found


def one_by_one(port: int, connections: int, rate: float) -> Counter[int]:
    """Connect at a rate a second; return the number of connections by process."""
    made = []
    found: Counter[int] = Counter()
    begin = time.monotonic()
    for number in range(connections):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        sock = connect(port)
        found[answer(sock)] += 1
        made.append(sock)
    for sock in made:
        sock.close()
    return found


def killed(it: Group, connections: int) -> tuple[int, float]:
    """Connect while one process is stopped, and kill it.

    Returns:
        The number of lost connections, and the seconds from the kill until the last other one is
        accepted.
    """
    os.kill(it.pids[-1], signal.SIGSTOP)
    socks = [connect(it.port) for _ in range(connections)]
    time.sleep(0.2)  # those that another process accepts are answered
    begin = time.monotonic()
    it.kill(len(it.pids) - 1)
    lost = 0
    last = begin
    for sock in socks:
        if answer(sock) < 0:
            lost += 1
        else:
            last = time.monotonic()
        sock.close()
    return lost, last - begin


def shares(found: Counter[int], processes: int) -> str:
    """Return the fewest and the most connections of a process, in percent of an equal part."""
    equal = sum(found.values()) / processes
    parts = [found[number] / equal * 100 for number in range(processes)]
    return f"{min(parts):4.0f} to {max(parts):3.0f} %"


def main() -> None:
    """Print a line for each way and number of processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="in a storm")
    parser.add_argument("--slow", type=int, default=2_000, help="that come one by one")
    parser.add_argument("--killed", type=int, default=200, help="while a process is stopped")
    parser.add_argument("--rate", type=float, default=1_000.0, help="of those, a second")
    parser.add_argument("--work", type=float, default=125.0, help="µs for each connection")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    runs = ((processes, way) for processes in (2, 4) for _ in range(asked.rounds) for way in WAYS)
    for processes, way in runs:
        with group(way, processes, asked.work / 1e6) as it:
            quick = shares(storm(it.port, asked.connections), processes)
            slow = shares(one_by_one(it.port, asked.slow, asked.rate), processes)
            lost, seconds = killed(it, asked.killed)
        print(
            f"{processes} processes, {way:9}: storm {quick}, one by one {slow},"
            f" killed: {lost:3} of {asked.killed} lost, {seconds * 1e3:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
