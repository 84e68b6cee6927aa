"""docs/tutorial.md: its commands are run as pasted, and their output is compared.

The tour is followed from top to bottom with a real server. The tag of a block tells its meaning:
`sh` is pasted into a shell, `json` is typed into the WebSocket client that the shell started, and
`text` is the output.
"""

import asyncio
import contextlib
import os
import re
import subprocess
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from tests.support.markdown import Block, blocks, section
from tests.support.pasted import followed, localized, masked
from tests.support.patience import PATIENCE
from tests.support.process import ROOT, server_process

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
SECURE_IT = section(TUTORIAL, "Secure it")  # has a server of its own; the tour leaves it out

# Commands that are not run, with the reason; a test below checks that they exist.
NOT_RUN = {
    "make run": "serves until it is stopped: the tour's server takes its place",
    "curl -N 'localhost:8080/events?topic=news'": "tests/handlers/test_events.py runs and stops it",
    ".venv/bin/python server.py subscribe alerts builds": "tests/cli/test_follow.py stops one",
    "PYTHONPATH=clients/python .venv/bin/python examples/dashboard/feed.py": (
        "tests/examples/test_dashboard.py runs it with its page"
    ),
}


class Tour:
    """Pastes block after block into terminals, and compares the output."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._said: list[str] = []  # output of the last block's commands that was not compared yet
        self._client: Process | None = None  # the WebSocket client, once it is started
        # No proxy, no index and no news from pip: a tour of this machine only.
        self._environ = os.environ | {
            "NO_PROXY": "*",
            "BROADCAST_URL": f"127.0.0.1:{port}",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }

    async def __aenter__(self) -> "Tour":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the terminals."""
        if self._client is not None:
            with contextlib.suppress(ProcessLookupError):
                self._client.kill()
            await self._client.communicate()

    async def take(self, block: Block) -> None:
        """Handle a block as a reader does."""
        if block.tag == "sh":
            assert self._said == [], "the document does not show what the last commands say"
            for command in block.lines:
                if command not in NOT_RUN:
                    await self._run(command)
        elif block.tag == "json":
            for line in block.lines:
                self._type(line)
        else:
            await self._compare(block)

    async def _run(self, command: str) -> None:
        is_client = "-m websockets" in command
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", localized(command, self._port)),
            cwd=ROOT,
            env=self._environ,
            stdin=PIPE,
            stdout=PIPE,
            stderr=subprocess.STDOUT,
        )
        if is_client:
            self._client = process
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                greeting = (await process.stdout.readline()).decode()
            assert greeting.startswith("Connected to"), greeting
            return
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._said += said.decode().splitlines()

    def _type(self, line: str) -> None:
        assert self._client is not None, "nothing is there to type into"
        assert self._client.stdin is not None
        self._client.stdin.write(line.encode() + b"\n")

    async def _compare(self, block: Block) -> None:
        shown = [masked(line) for line in block.lines]
        if shown[0].startswith("< "):
            heard = [masked(await self._hear()) for _ in shown]
            # A publisher's event may come before or after its ack; all else is in order.
            assert answers(heard) == answers(shown)
            assert [line for line in heard if line not in answers(heard)] == [
                line for line in shown if line not in answers(shown)
            ]
        else:
            assert [masked(line) for line in self._said] == shown
            self._said = []

    async def _hear(self) -> str:
        """Return the next line of the WebSocket client, without its cursor movements."""
        assert self._client is not None
        assert self._client.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self._client.stdout.readline()).decode():
                if arrived := re.search(r"\x1b\[L(< .*)\n", line):
                    return arrived[1]
        return "the client has ended"

    async def leave(self) -> None:
        """Press Ctrl-D; fail if there is output that the document does not show."""
        assert self._said == []
        assert self._client is not None
        assert self._client.stdin is not None
        self._client.stdin.close()
        assert await self._hear() == "the client has ended"
        assert await self._client.wait() == 0


def answers(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r'< \{"type":"(ack|error|pong)"', line)]


async def test_the_tour_works_as_pasted() -> None:
    async with server_process() as server, Tour(server.port) as tour:
        for block in blocks(TUTORIAL.replace(SECURE_IT, "\n" * SECURE_IT.count("\n"))):
            try:
                await tour.take(block)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(
                    f"docs/tutorial.md, block of line {block.place}: {error}"
                ) from error
        await tour.leave()


async def test_the_commands_that_secure_a_server_work_as_pasted(tmp_path: Path) -> None:
    async with followed(TUTORIAL, "Secure it", tmp_path / "secrets"):
        pass
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_commands_that_are_not_run_exist() -> None:
    pasted = {line for block in blocks(TUTORIAL) if block.tag == "sh" for line in block.lines}
    assert set(NOT_RUN) <= pasted, "NOT_RUN names a command that the tutorial has no more"
