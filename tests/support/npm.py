"""Node, and the packages that `make test` installs for it."""

import platform
import shutil
import subprocess
from pathlib import Path

from tests.support.browser import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import skip_unless

NPM = ROOT / "tests/clients/npm"
MODULES = NPM / "node_modules"
PACKAGE = ROOT / "clients/js"
NAME = "websocket-broadcast-client"
OLDEST = 20, 19  # of Node, as clients/README.md says
NODE = shutil.which("node")
# A Node with a WebSocket of its own, which is a package for each platform.
_ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "none")
NODE_22 = MODULES / f"node-linux-{_ARCHITECTURE}/bin/node"


def run(directory: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE / 1000,
        check=False,
    )


def node(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return run(directory, NODE, *arguments)


def npm(directory: Path, *arguments: str) -> str:
    """Run npm without the network, which must succeed, and return its output."""
    ran = run(
        directory, "npm", *arguments, "--offline", "--ignore-scripts", "--no-audit", "--no-fund"
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def tsc(directory: Path, *arguments: str) -> str:
    """Run the compiler of TypeScript, and return its complaints."""
    return run(directory, MODULES / ".bin/tsc", *arguments).stdout


def is_usable() -> bool:
    """Return True if there are the packages of `make test`, and a Node that the README allows."""
    if NODE is None or not MODULES.exists():
        return False
    major, minor = node(NPM, "--version").stdout.removeprefix("v").split(".")[:2]
    return (int(major), int(minor)) >= OLDEST


needs_npm = skip_unless(is_usable(), "Node, or the packages for it")


def link(project: Path, *names: str) -> None:
    """Give a project packages of `make test`."""
    for name in names:
        place = project / "node_modules" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(MODULES / name)
