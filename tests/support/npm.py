"""Node, and the packages that `make test` installs for it."""

import shutil
import subprocess
from pathlib import Path

from tests.support.browser import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import skip_unless

NPM = ROOT / "tests/clients/npm"
OLDEST = 20, 19  # of Node, as clients/README.md says
NODE = shutil.which("node")


def node(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run(
        [NODE, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE / 1000,
        check=False,
    )


def is_usable() -> bool:
    """Return True if there are the packages of `make test`, and a Node that the README allows."""
    if NODE is None or not (NPM / "node_modules").exists():
        return False
    major, minor = node(NPM, "--version").stdout.removeprefix("v").split(".")[:2]
    return (int(major), int(minor)) >= OLDEST


needs_npm = skip_unless(is_usable(), "Node, or the packages for it")
