"""Build the files of a release in dist/: the work of `make dist`.

Everything is built from the last commit, unpacked in a folder of its own, so that only files in Git
are included. All files have the time of the commit, so that the same commit gives the same bytes.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
NAME = "websocket-broadcast"
SUMS = "SHA256SUMS"


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """Run a program, and return its standard output without white space at both ends.

    Args:
        command: the program and its arguments.
        cwd: the working directory.
        environ: further environment variables.

    Raises:
        subprocess.CalledProcessError: it failed; its standard error was passed on.
    """
    result = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout.strip()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def archive(version: str, folder: Path) -> Path:
    """Write the server's source archive into dist/, and unpack it in `folder`.

    Returns:
        The root of the unpacked tree.
    """
    prefix = f"{NAME}-{version}"
    packed = DIST / f"{prefix}.tar.gz"
    run(
        *("git", "-c", "tar.umask=0022", "archive", "--format=tar.gz"),
        *(f"--prefix={prefix}/", f"--output={packed}", "HEAD"),
    )
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    return folder / prefix


def build_clients(tree: Path, epoch: str) -> None:
    """Write the Python client's wheel and sdist, and the JavaScript client's tarball.

    Args:
        tree: the unpacked commit.
        epoch: the time of the commit, in seconds since the epoch.
    """
    build = "-m", "build", "--no-isolation", "--outdir", str(DIST)
    run(sys.executable, *build, tree / "clients/python", SOURCE_DATE_EPOCH=epoch)
    run("npm", "pack", "--silent", "--pack-destination", DIST, cwd=tree / "clients/js")


def write_sbom(tree: Path, version: str, epoch: str) -> None:
    """Write the bill of materials: the packages that requirements.lock pins, and the clients.

    Args:
        tree: the unpacked commit.
        version: of the release.
        epoch: the time of the commit, in seconds since the epoch.

    Raises:
        ValueError: the result is not valid CycloneDX.
    """
    found = run(
        *(sys.executable, "-m", "cyclonedx_py", "requirements", "requirements.lock"),
        *("--pyproject", "pyproject.toml", "--output-reproducible", "--sv", "1.6"),
        cwd=tree,
        SOURCE_DATE_EPOCH=epoch,
        PYTHONWARNINGS="ignore",  # it warns that a lock has no graph of dependencies
    )
    sbom: dict[str, Any] = json.loads(found)
    for component in sbom["components"]:
        del component["description"]  # it repeats the line of the lock, with all hashes
    for path in sorted([*DIST.glob("*.whl"), *DIST.glob("*.tgz")]):
        sbom["components"].append(
            {
                "bom-ref": path.name,
                "type": "library",
                "name": path.name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": sha256(path)}],
            }
        )
    text = json.dumps(sbom, indent=2, sort_keys=True) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(error)
    (DIST / f"{NAME}-{version}.cdx.json").write_text(text)


def main() -> str | None:
    """Build dist/ anew.

    Returns:
        Why that is not possible, as a line for people; None if it is built.

    Raises:
        subprocess.CalledProcessError: a program failed, and has printed why.
    """
    for program in ("git", "npm"):
        if shutil.which(program) is None:
            return f"make dist needs {program}, which is not installed"
    if not (ROOT / ".git").exists():
        return "make dist needs a clone, since it builds a commit"
    if changes := run("git", "status", "--porcelain", "--untracked-files=no"):
        return f"make dist builds a commit, so commit these changes first:\n{changes}"
    version = run(sys.executable, "release/version.py")
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    epoch = run("git", "show", "--no-patch", "--format=%ct", "HEAD")
    with tempfile.TemporaryDirectory(prefix="dist-") as folder:
        tree = archive(version, Path(folder))
        build_clients(tree, epoch)
        write_sbom(tree, version, epoch)
    files = sorted(DIST.iterdir())
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    (DIST / SUMS).write_text("".join(lines))
    print("".join(lines), end="")
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"make dist stopped: {shlex.join(map(str, error.cmd))} failed")
