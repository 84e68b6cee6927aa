"""The measurement of listening sockets runs, and prints every case."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(
    r"(\d) processes, (\w+) *: storm +\d+ to +\d+ %, one by one +\d+ to +\d+ %,"
    r" killed: +(\d+) of 20 lost, \d+ ms"
)


def test_it_prints_a_line_for_each_case() -> None:
    small = ["--connections=200", "--slow=50", "--killed=20", "--work=10", "--rounds=1"]
    done = subprocess.run(
        [sys.executable, "bench/accepting.py", *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = LINE.findall(done.stdout)
    assert [(int(processes), way) for processes, way, _ in found] == [
        (processes, way) for processes in (2, 4) for way in ("inherited", "own", "held")
    ]
    lost = {way: int(number) for _, way, number in found}
    assert (lost["inherited"], lost["held"]) == (0, 0)
    assert lost["own"] > 0
