"""The checkers in Go of `tests/deploy/tools`, which `make test` builds if Go is installed."""

import subprocess

from tests.support.process import ROOT
from tests.support.programs import without

_FOLDER = ROOT / "tests/deploy/tools/bin"
PATIENCE = 60  # seconds


def go_tool(name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a tool in the root of the tree; skip the test if it is not built, but not in CI."""
    program = _FOLDER / name
    if not program.exists():
        without("tools that make test builds with Go 1.24 or newer")
    return subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
