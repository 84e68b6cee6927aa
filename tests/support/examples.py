"""The programs and pages of `examples/`, as a reader runs them, beside a real server."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, Page

from hub.settings import Settings
from tests.support.browser import PATIENCE
from tests.support.markdown import Block, blocks, section
from tests.support.pasted import SHOWN_AT, localized
from tests.support.process import ROOT
from tests.support.programs import PATH
from tests.support.proxy import Proxy
from tests.support.server import Running

RUNNING = 100  # seconds for a command to end: Go compiles its standard library once
EXAMPLES = ROOT / "examples"
README = (EXAMPLES / "README.md").read_text()
# Those of the command in the README that starts the server.
SETTINGS = Settings(history_size=1000, recovery_limit=1000)


def copied(folder: Path, port: int) -> Path:
    """Copy the examples into a folder, for the server on a port, and return the new root."""
    ignored = ignore_patterns("images", "__pycache__", "react")  # which has a test of its own
    where = copytree(EXAMPLES, folder / "examples", ignore=ignored)
    for file in where.rglob("*"):
        if file.is_file():
            file.write_text(file.read_text().replace(SHOWN_AT, f"127.0.0.1:{port}"))
    (folder / "clients").symlink_to(ROOT / "clients")
    return folder


def commands(heading: str) -> list[str]:
    """Return the commands under a heading of the README."""
    shells: list[Block] = [it for it in blocks(section(README, heading)) if it.tag == "sh"]
    return [line for block in shells for line in block.lines]


@contextmanager
def started(command: str, root: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the README until the end of the block, in a copy of the examples.

    Its input is a pipe, and its output and errors are another one.
    """
    process = subprocess.Popen(
        ["bash", "-c", localized(command, 0)],
        cwd=root,
        env=os.environ | {"NO_PROXY": "*", "PATH": PATH, "PYTHONUNBUFFERED": "1", **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what the shell has started
        process.communicate(timeout=PATIENCE / 1000)


def output(command: str, root: Path, **environ: str) -> str:
    """Run a command of the README to its end, and return what it prints."""
    with started(command, root, **environ) as process:
        said, _ = process.communicate(timeout=RUNNING)
        return f"{said}{f'exit code {code}' if (code := process.returncode) else ''}"


def line_of(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read the output of a command up to a line that matches."""
    assert process.stdout is not None
    said: list[str] = []
    guard = threading.Timer(RUNNING, os.killpg, (process.pid, signal.SIGKILL))
    guard.start()
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.search(pattern, line):
                return found
    finally:
        guard.cancel()
    raise AssertionError(f"no line matches {pattern!r}:\n{''.join(said)}")


def call(url: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Send a GET, or a POST with a JSON body, and return the status and the answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, headers), timeout=PATIENCE / 1000) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def remembered(here: Running, topic: str) -> list[Any]:
    """Return the payloads in the history of a topic, the oldest first."""
    status, answer = call(f"{here.url}/topics/{topic}/history?limit=1000")
    assert status == 200, answer
    return [event["message"]["payload"] for event in answer["events"]]


async def cut(way: Proxy) -> None:
    """Abort all connections through a proxy; call it in the proxy's thread."""
    way.cut()


@contextmanager
def opened(browser: Browser, address: str, *, says: str = "", **options: Any) -> Iterator[Page]:
    """Open a page in a context of its own.

    Args:
        says: a pattern of all that the page may write to the console.
        options: those of the context.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    page.on("console", lambda it: "favicon" in it.location["url"] or said.append(it.text))
    page.on("pageerror", lambda it: said.append(str(it)))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    unexpected = [it for it in said if not re.fullmatch(says, it)]
    assert not unexpected, unexpected
