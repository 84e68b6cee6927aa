"""Go, and the checkers of `tests/deploy/tools`, which `make test` builds if Go is installed."""

import re
import shutil
import subprocess

from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import PATH, skip_unless, without

_FOLDER = ROOT / "tests/deploy/tools/bin"


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


def _is_usable() -> bool:
    """Return True if there is a Go that the examples are written for."""
    program = shutil.which("go", path=PATH)
    if program is None:
        return False
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" go1\.(\d+)", said)
    return found is not None and int(found[1]) >= 24


needs_go = skip_unless(_is_usable(), "Go 1.24 or newer")
