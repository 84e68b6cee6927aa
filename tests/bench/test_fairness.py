"""bench/fairness.py: a short run of every row."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import fairness
from fairness_clients import EVENT, PONG, Frames, closed_with
from servers import BENCH

ROWS = [(group, row) for group in fairness.GROUPS for row in group.rows]
TINY = ("--rounds=1", "--seconds=0.2", "--scale=0.002")


def number(cell: str) -> float:
    """Return the median in a cell such as `1,234 (1,230-1,240)`."""
    return float(cell.split()[0].replace(",", ""))


@pytest.mark.parametrize(("group", "row"), ROWS, ids=[row.key for _, row in ROWS])
def test_a_row_is_measured(group: fairness.Group, row: fairness.Row) -> None:
    command = [sys.executable, BENCH / "fairness.py", *TINY, f"--only={row.key}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, line = done.stdout.strip().splitlines()
    assert head.split(" | ")[1:-1] == list(group.columns.values())
    title, *cells, goal = line.strip("| ").split(" | ")
    assert title == row.title
    found = dict(zip(group.columns, cells, strict=True))
    if group.key == "fairness":
        assert number(found["count"]) >= fairness.QUIET  # each has sent, and all are answered
        assert 0 < number(found["p50"]) <= number(found["p99"]) <= number(found["max"])
        assert found["rate"] == "-" if row.key == "alone" else number(found["rate"]) > 0
    elif group.key == "burst":
        assert number(found["cut"]) <= fairness.READERS
        assert 0 < number(found["share"]) <= 100
    else:
        assert number(found["longest"]) > 0
    assert re.fullmatch(r"-|≤ \d+: (met|\*\*missed\*\*)", goal)


def test_a_key_that_is_no_row_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such row: bursts"):
        fairness.chosen("bursts")


def test_a_failed_row_has_its_reason_and_the_others_have_figures() -> None:
    group = fairness.GROUPS[1]
    figures = dict.fromkeys(group.columns, 1.0)
    results = {row.key: [figures] for row in group.rows}
    results[group.rows[0].key] = [{"failed": "RuntimeError: nothing came"}]
    lines = fairness.table(group, group.rows, results).splitlines()[2:]
    why = "1 of 1 rounds failed: RuntimeError: nothing came"
    assert lines[0] == f"| {group.rows[0].title} | {why} |"
    assert lines[1].startswith(f"| {group.rows[1].title} | 1 (1-1) |")
    assert lines[1].endswith("**missed** |")  # one connection was cut


@pytest.mark.parametrize("size", [1, 3, 7, 1_000_000])
def test_frames_in_any_chunks_are_counted(size: int) -> None:
    event = b'{"type":"event","payload":"%s"}'
    short = event % b""
    medium, long = event % (b"\x88" * 200), event % (b"x" * 70_000)
    stream = b"".join(
        [
            bytes([0x81, len(short)]) + short,
            b"\x8a\x00",
            b"\x81\x7e" + len(medium).to_bytes(2, "big") + medium,
            b"\x81\x7f" + len(long).to_bytes(8, "big") + long,
            b"\x8a\x03abc",
            b"\x88\x0f" + (1013).to_bytes(2, "big") + b"slow_consumer",
        ]
    )
    frames = Frames()
    for start in range(0, len(stream), size):
        frames.feed(stream[start : start + size])
    assert (frames.counts[EVENT], frames.counts[PONG], frames.closed) == (3, 2, 1013)
    assert closed_with(stream) == 1013
    assert closed_with(stream[:-1]) == 0
