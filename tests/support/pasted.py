"""The commands of a document, run as a reader pastes them."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.markdown import blocks, section
from tests.support.patience import PATIENCE
from tests.support.process import ROOT, ServerProcess, server_process

SHOWN_AT = "localhost:8080"  # the server of the documents; replaced by the test's
_FOLDER = re.compile(r"\bsecrets(?=/|$)")  # of the documents; replaced by a folder of the test


def localized(command: str, port: int) -> str:
    """Return a command of a document for a server on this port, with this test's Python."""
    bin_here = shlex.quote(os.path.dirname(sys.executable)) + "/"
    return command.replace(SHOWN_AT, f"127.0.0.1:{port}").replace(".venv/bin/", bin_here)


def masked(line: str) -> str:
    """Replace the parts of a line that differ from run to run."""
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", line)
    return re.sub(r"\d{19}-[0-9a-f]{6}", "ID", line)


@asynccontextmanager
async def followed(
    document: str, heading: str, folder: Path, **changed: str
) -> AsyncIterator[ServerProcess]:
    """Follow one section: paste its commands, and compare the output with its `text` blocks.

    The command that ends with `make run` starts the server, which serves until the end of the
    block. Then its log must have no secret.

    Args:
        document: the text of the document.
        heading: of the section.
        folder: takes the place of `secrets`.
        changed: settings that replace those of the section.
    """
    said: list[str] = []
    async with AsyncExitStack() as stack:
        server: ServerProcess | None = None
        for block in blocks(section(document, heading)):
            if block.tag == "text":
                assert [masked(line) for line in said] == [masked(line) for line in block.lines]
                said = []
            for line in block.lines if block.tag == "sh" else ():
                command = _FOLDER.sub(str(folder), line)
                if command.endswith("make run"):
                    settings = dict(it.split("=", 1) for it in shlex.split(command)[:-2])
                    serving = server_process(**(settings | changed))
                    server = await stack.enter_async_context(serving)
                else:
                    said += await paste(command, server.port if server else 0)
        assert said == []
        assert server is not None
        yield server
        server.terminate()
        assert await server.exit_code() == 0
        log = "".join(server.log)
        assert [secret for secret in secrets_in(folder) if secret in log] == []


def secrets_in(folder: Path) -> list[str]:
    """Return the secrets in the files of a folder."""
    files = folder.iterdir() if folder.exists() else ()
    return [it for file in files if (it := file.read_text().strip().removeprefix("app:"))]


async def paste(command: str, port: int) -> list[str]:
    """Run a command in a shell, and return the lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", localized(command, port)),
        cwd=ROOT,
        env=os.environ | {"NO_PROXY": "*", "BROADCAST_URL": f"127.0.0.1:{port}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode().splitlines()
