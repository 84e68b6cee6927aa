"""The checkers in Go of `tests/deploy/tools`, which `make test` builds if Go is installed."""

import os
import subprocess

import pytest

from tests.support.process import ROOT

_FOLDER = ROOT / "tests/deploy/tools/bin"
PATIENCE = 60  # seconds


def go_tool(name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a tool in the root of the tree; skip the test if it is not built, but not in CI."""
    program = _FOLDER / name
    if not program.exists():
        assert "CI" not in os.environ, "install Go 1.24 or newer, and run make test"
        pytest.skip("there is no Go of 1.24 or newer, or make test has not built the tools")
    return subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
