"""The documents in docs/: their commands run, and the files that they name exist."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs/decisions"
DOCUMENTS = {path: path.read_text() for path in sorted((ROOT / "docs").glob("**/*.md"))}
TEXT = "\n".join(DOCUMENTS.values())
FRAMES, READERS, LOAD, HISTORY = (
    f".venv/bin/python bench/{name}.py"
    for name in ("frame_reader", "redis_reader", "redis_load", "history")
)
FAIRNESS = ".venv/bin/python bench/fairness.py"  # tests/bench/test_fairness.py runs it
ACCESS = ".venv/bin/python bench/access.py"  # tests/bench/test_access.py runs it
COMMANDS = re.findall(r"`(\.venv/bin/python [^`]+)`", TEXT)
FILES = set(re.findall(r"`((?:hub|handlers|bench|tests|docs)/[\w./]*)`", TEXT))
NUMBERED = sorted(DECISIONS.glob("[0-9]*.md"))


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


def rows(decision: str, pattern: str) -> list[str]:
    """Return the first cells that match, in the tables of a decision given by its number."""
    (path,) = DECISIONS.glob(f"{decision}-*.md")
    return re.findall(rf"(?m)^\| ({pattern}) \|", DOCUMENTS[path])


def test_every_command_is_run() -> None:
    assert set(COMMANDS) == {FRAMES, READERS, LOAD, HISTORY, FAIRNESS, ACCESS}


async def test_the_frame_reader_benchmark_prints_the_rows_of_the_table() -> None:
    sizes = [line.split()[0] for line in (await printed_by(FRAMES, "--messages=640"))[1:]]
    assert sizes == [row.replace(",", "") for row in rows("0005", r"[\d,]+")]


@pytest.mark.parametrize(("command", "figures"), [(READERS, 5), (LOAD, 16)])
async def test_the_redis_benchmarks_print_their_figures(command: str, figures: int) -> None:
    lines = await printed_by(command, "--messages=100")
    assert len([line for line in lines if re.search(r"\d+\.\d\d?\b|\d$", line)]) == figures


async def test_the_history_benchmark_prints_its_figures() -> None:
    printed = await printed_by(HISTORY, "--rounds=1", "--recoveries=20", "--seconds=0.1")
    compared = [line for line in printed if line.startswith("| HISTORY_SIZE=300 | ")]
    assert len(compared) == len(rows("0030", r"[^|]*\d+[^|]*"))
    assert re.fullmatch(r"ratio of the medians: \d+\.\d\d", printed[-1])


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_named_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_list_of_decisions_is_complete() -> None:
    listed = re.findall(r"(?m)^- (\S+) \[(\d+) (.*)\]\((.*)\)$", DOCUMENTS[DECISIONS / "README.md"])
    assert listed == [
        (date[:10], path.name[:4], title.removeprefix("# "), path.name)
        for path in NUMBERED
        for title, _, date, *_ in [DOCUMENTS[path].splitlines()]
    ]


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_a_decision_has_a_date_and_its_sections(path: Path) -> None:
    text = DOCUMENTS[path]
    assert re.match(r"# .+\n\n\d{4}-\d\d-\d\d(, \d{4}-\d\d-\d\d)*\n\n## Context\n", text)
    sections = re.findall(r"(?m)^## (.*)$", text)
    assert sections[:2] == ["Context", "Decision"]
    assert sections[2:] in (["Consequences"], ["Figures"])
