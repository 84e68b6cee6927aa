"""Measure what the log costs: the lines, and an HTTP request with and without the access log.

Print µs of CPU: the best of five rounds, which other processes disturb the least. `--lines` and
`--requests` are those of a round.
"""

import argparse
import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub.logs import events
from hub.logs.formats import JsonFormatter, TextFormatter
from hub.logs.setup import LimitedHandler

ROOT = Path(__file__).parents[1]
ROUNDS = 5
CONNECTIONS = 8
REQUEST = b"GET /live HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n"
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


def write_line() -> None:
    events.HTTP_REQUEST.log(
        method="GET",
        path="/topics/orders/history",
        address="203.0.113.9",
        subject="ann",
        status=200,
        bytes=1_234,
        seconds=0.012,
        user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    )


def best(run: Callable[[], object], count: int) -> float:
    """Return the µs of CPU for each of `count` calls."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(count):
            run()
        times.append(time.process_time() - began)
    return min(times) / count * 1e6


def measure_lines(count: int) -> None:
    root = logging.getLogger()
    show("a line below the level", best(write_line, count))
    root.setLevel("INFO")
    with Path(os.devnull).open("w") as nowhere:
        handler = LimitedHandler(nowhere)
        root.handlers = [handler]
        for name, formatter in (("text", TextFormatter()), ("JSON", JsonFormatter())):
            handler.setFormatter(formatter)
            show(f"a line as {name}", best(write_line, count))
    root.handlers = []


async def measure_requests(count: int, **settings: str) -> float:
    """Return the µs of CPU that a server takes for a request."""
    environ = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", **settings}
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "server.py"), cwd=ROOT, env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert server.stderr is not None
    while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", await server.stderr.readline())):
        pass
    reading = asyncio.create_task(server.stderr.read())
    times = []
    for _ in range(ROUNDS):
        began = cpu(server.pid)
        await asyncio.gather(*(ask(int(found[1]), count) for _ in range(CONNECTIONS)))
        times.append(cpu(server.pid) - began)
    server.terminate()
    await asyncio.gather(reading, server.wait())
    return min(times) / count / CONNECTIONS * 1e6


async def ask(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        writer.write(REQUEST)
        await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def show(name: str, cost: float) -> None:
    print(f"{name:40} {cost:6.1f} µs")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=1_000)
    options = parser.parse_args()
    measure_lines(options.lines)
    show("GET /live", await measure_requests(options.requests))
    for form in ("text", "json"):
        logged = await measure_requests(options.requests, ACCESS_LOG="true", LOG_FORMAT=form)
        show(f"GET /live, ACCESS_LOG, {form}", logged)


if __name__ == "__main__":
    asyncio.run(main())
