"""The server as a process; its log names its port."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[2]


class ServerProcess:
    """A running `python server.py`, its port and its log so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.log: list[str] = []

    async def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Read the log up to a line that matches."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"no line matches {pattern!r}:\n{''.join(self.log)}")

    async def read_log(self) -> None:
        """Read the log up to its end. A server waits when its log fills the pipe."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.log.append(line)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """Wait for the end of the process, and keep the rest of its log.

        A process that goes on is killed, since the event loop of the tests could not be closed.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                _, rest = await self.process.communicate()
        except TimeoutError:
            self.process.kill()
            raise
        self.log.append(rest.decode())
        assert self.process.returncode is not None
        return self.process.returncode


async def spawn(descriptors: int | None = None, **settings: str) -> ServerProcess:
    """Start `server.py` with these settings in its environment, and wait for nothing.

    `descriptors`: its limit of open files; None for that of the tests.
    """
    limited = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}"]
    environ = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", **settings}
    return ServerProcess(
        await asyncio.create_subprocess_exec(
            *limited,
            sys.executable,
            "server.py",
            cwd=ROOT,
            env=environ,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@asynccontextmanager
async def server_process(
    descriptors: int | None = None, **settings: str
) -> AsyncIterator[ServerProcess]:
    """Run a server process that listens; kill it at the end of the block.

    The arguments are those of `spawn`.
    """
    server = await spawn(descriptors, **settings)
    try:
        found = await server.wait_for_log(r"listening on.*http://127\.0\.0\.1:(\d+)")
        server.port = int(found[1])
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
        await server.process.communicate()
