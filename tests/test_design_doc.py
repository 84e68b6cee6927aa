"""docs/design.md names commands and files; all of them are there and run."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/design.md").read_text()
COMMANDS = re.findall(r"`(\.venv/bin/python [^`]+)`", TEXT)
FILES = set(re.findall(r"`((?:hub|handlers|bench|tests|docs)/[\w./]*)`", TEXT))


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_race_runs(command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *shlex.split(command)[1:],
        "--messages=640",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    sizes = [line.split()[0] for line in printed.decode().splitlines()[1:]]
    rows = re.findall(r"^\| ([\d,]+) \|", TEXT, re.MULTILINE)
    assert sizes == [row.replace(",", "") for row in rows]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()
