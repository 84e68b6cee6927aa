"""docs/design.md names commands and files; all of them are there and run."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/design.md").read_text()
SCALING = (ROOT / "docs/scaling.md").read_text()
FRAMES, READERS, LOAD, HISTORY = (
    f".venv/bin/python bench/{name}.py"
    for name in ("frame_reader", "redis_reader", "redis_load", "history")
)
COMMANDS = re.findall(r"`(\.venv/bin/python [^`]+)`", TEXT + SCALING)
FILES = set(re.findall(r"`((?:hub|handlers|bench|tests|docs)/[\w./]*)`", TEXT + SCALING))


async def printed_by(command: str, *flags: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *shlex.split(command)[1:],
        *flags,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().splitlines()


def test_every_race_is_run_here() -> None:
    assert set(COMMANDS) == {FRAMES, READERS, LOAD, HISTORY}


async def test_the_race_of_frames_prints_the_rows_of_the_table() -> None:
    sizes = [line.split()[0] for line in (await printed_by(FRAMES, "--messages=640"))[1:]]
    rows = re.findall(r"^\| ([\d,]+) \|", TEXT, re.MULTILINE)
    assert sizes == [row.replace(",", "") for row in rows]


@pytest.mark.parametrize(("command", "figures"), [(READERS, 5), (LOAD, 16)])
async def test_what_redis_costs_is_printed(command: str, figures: int) -> None:
    lines = await printed_by(command, "--messages=100")
    assert len([line for line in lines if re.search(r"\d+\.\d\d?\b|\d$", line)]) == figures


async def test_what_a_history_costs_is_printed() -> None:
    printed = await printed_by(HISTORY, "--rounds=1", "--recoveries=20", "--seconds=0.1")
    assert len([line for line in printed if line.startswith("| HISTORY_SIZE=300 | ")]) == 4
    assert re.fullmatch(r"ratio of the medians: \d+\.\d\d", printed[-1])


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()
