"""The commands of `server.py`, in this process or in one of their own."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.commands import run
from cli.output import Exit
from tests.support.patience import PATIENCE
from tests.support.process import ROOT


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a command: nothing of ours but the path."""
    return {"PATH": os.environ["PATH"], **variables}


def carry_out(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command in this process, and return its exit code; fail if it serves."""
    code = run(arguments, environ)
    assert isinstance(code, Exit), "it serves"
    return code


async def start(
    *arguments: str, stdin: int = DEVNULL, stdout: int = PIPE, **variables: str
) -> Process:
    """Start a command whose output and errors are pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "server.py", *arguments),
        cwd=ROOT,
        env=environment(**variables),
        stdin=stdin,
        stdout=stdout,
        stderr=PIPE,
    )


async def finish(process: Process, given: bytes | None = None) -> Result:
    """Give a command the rest of its input, and wait for its end."""
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, (out or b"").decode(), err.decode())


async def command(*arguments: str, given: bytes = b"", **variables: str) -> Result:
    """Run a command to its end."""
    return await finish(await start(*arguments, stdin=PIPE, **variables), given)
