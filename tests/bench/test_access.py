"""The benchmark of rights and tokens runs and prints every case."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_a_figure_for_each_case() -> None:
    done = subprocess.run(
        [sys.executable, "bench/access.py", "--checks=200"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    cases = re.findall(r"(?m)^(check|verify), (.+?) +\d+\.\d{3} µs$", done.stdout)
    assert len(cases) == len(done.stdout.splitlines()) == 8
