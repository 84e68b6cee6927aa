"""`make dist`, run in a clone: its files are reproducible, complete, and can be installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hub.version import VERSION
from tests.support.locks import pins, version
from tests.support.process import ROOT
from tests.support.programs import find

PATIENCE = 300  # seconds for a command that asks a registry
SERVER = f"websocket-broadcast-{VERSION}"
WHEEL = f"websocket_broadcast_client-{VERSION}-py3-none-any.whl"
SDIST = f"websocket_broadcast_client-{VERSION}.tar.gz"
TARBALL = f"websocket-broadcast-client-{VERSION}.tgz"
SBOM = f"{SERVER}.cdx.json"
FILES = {f"{SERVER}.tar.gz", SBOM, WHEEL, SDIST, TARBALL, "SHA256SUMS"}
MAX_ARCHIVE = 10_000_000  # bytes
MAX_FILE = 600_000
# As from a shell: without the variables of a make that runs these tests.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def run(
    *command: str | Path, cwd: Path, environ: dict[str, str] | None = None, umask: int = -1
) -> str:
    """Run a program that must succeed, and return what it prints."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRON | (environ or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
        umask=umask,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit: the files of this tree that are not ignored."""
    folder = tmp_path_factory.mktemp("origin")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not one that is deleted, but not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    author = "-c", "user.name=Test", "-c", "user.email=test@example.com"
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", *author, "commit", "--quiet", "--message", "Release", cwd=folder)
    return folder


def make_dist(clone: Path, umask: int, zone: str) -> Path:
    """Run `make dist` with the packages of this Python, and return the folder that it makes."""
    packages = [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.test"]
    find("npm")
    run("make", "dist", *packages, cwd=clone, environ={"TZ": zone}, umask=umask)
    return clone / "dist"


@pytest.fixture(scope="module")
def dist(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes of a clone in which files lie about that git does not have."""
    clone = tmp_path_factory.mktemp("first") / "clone"
    run("git", "clone", "--quiet", origin, clone, cwd=origin)
    for folder in (".", "clients/js", "clients/python/broadcast_client", "dist"):
        (clone / folder).mkdir(exist_ok=True)
        (clone / folder / "stray.js").write_text("")
        (clone / folder / "stray.py").write_text("")
    return make_dist(clone, 0o022, "UTC")


def names(archive: Path) -> set[str]:
    """Return the files of an archive, without its top folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if not member.isdir()]
    assert {(member.uid, member.gid, member.isreg()) for member in members} == {(0, 0, True)}
    tops, rest = zip(*(member.name.split("/", 1) for member in members), strict=True)
    assert len(set(tops)) == 1
    return set(rest)


def test_it_makes_the_files_of_a_release_and_their_sums(dist: Path) -> None:
    assert {path.name for path in dist.iterdir()} == FILES
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=dist).splitlines()
    assert {line.removesuffix(": OK") for line in checked} == FILES - {"SHA256SUMS"}


def test_another_clone_in_another_place_and_zone_gives_the_same_bytes(
    dist: Path, origin: Path, tmp_path: Path
) -> None:
    run("git", "clone", "--quiet", origin, tmp_path / "another", cwd=origin, umask=0o077)
    again = make_dist(tmp_path / "another", 0o077, "Pacific/Auckland")
    assert (again / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()


def test_the_source_archive_has_the_files_of_the_commit(dist: Path, origin: Path) -> None:
    archive = dist / f"{SERVER}.tar.gz"
    assert names(archive) == set(run("git", "ls-files", cwd=origin).splitlines())
    assert archive.stat().st_size < MAX_ARCHIVE
    with tarfile.open(archive) as tar:
        assert [member.name for member in tar.getmembers() if member.size > MAX_FILE] == []


def test_the_packages_of_the_clients_have_only_the_clients(dist: Path) -> None:
    sources = {
        path.relative_to(ROOT / "clients/python").as_posix()
        for path in (ROOT / "clients/python/broadcast_client").glob("**/*")
        if path.suffix in {".py", ".typed"}
    }
    metadata = f"{SDIST.removesuffix('.tar.gz')}.dist-info"
    assert names(dist / WHEEL) == sources | {
        f"{metadata}/{name}" for name in ("METADATA", "RECORD", "WHEEL")
    }
    extras = {"PKG-INFO", "README.md", "pyproject.toml"}
    assert names(dist / SDIST) - {".gitignore"} == sources | extras
    package = json.loads((ROOT / "clients/js/package.json").read_text())
    shown = {path.name for path in (ROOT / "clients/js").glob("README.md")}
    assert names(dist / TARBALL) == {"package.json", *package["files"], *shown}


def test_the_bill_of_materials_has_the_locked_packages_and_the_clients(dist: Path) -> None:
    text = (dist / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    sbom: dict[str, Any] = json.loads(text)
    server = sbom["metadata"]["component"]
    assert (server["name"], server["version"]) == ("websocket-broadcast", VERSION)
    found = {it["purl"] for it in sbom["components"] if "purl" in it}
    locked = pins("requirements.lock")
    assert found == {f"pkg:pypi/{name}@{version(pin)}" for name, pin in locked.items()}
    sums = dict(reversed(line.split()) for line in (dist / "SHA256SUMS").read_text().splitlines())
    ours = {it["name"]: it["hashes"] for it in sbom["components"] if "purl" not in it}
    assert ours == {name: [{"alg": "SHA-256", "content": sums[name]}] for name in (WHEEL, TARBALL)}
    assert not re.search(r"/(tmp|root|home)/", text)


@contextmanager
def serving(tree: Path) -> Iterator[int]:
    """Run `make run` in a tree until the end of the block; it yields the port."""
    environ = ENVIRON | {"HOST": "127.0.0.1", "PORT": "0"}
    command = ["make", "run", f"PYTHON={sys.executable}"]
    with subprocess.Popen(
        command, cwd=tree, env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        guard = threading.Timer(PATIENCE, process.terminate)
        guard.start()
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                pytest.fail("the server ended before it listened:\n" + "".join(log))
            yield int(found[1])
        finally:
            guard.cancel()
            process.terminate()  # make passes it on


HELLO = """
import asyncio, sys
from importlib.metadata import version
from broadcast_client import connect

async def main():
    async with connect(sys.argv[1]) as client:
        news = client.subscribe("news")
        await news.ready()
        await client.publish("news", version("websocket-broadcast-client"))
        async for event in news:
            print(event.payload)
            return

asyncio.run(main())
"""
HELLO_JS = """
import { connect } from "websocket-broadcast-client";
import { createRequire } from "node:module";
import WebSocket from "ws";
const { version } = createRequire(import.meta.url)("websocket-broadcast-client/package.json");
const client = connect(process.argv[2], { WebSocket });
const news = client.subscribe("news");
await news.ready();
await client.publish("news", version);
for await (const event of news) {
  console.log(event.payload);
  break;
}
client.close();
"""


def test_the_server_of_the_archive_serves_both_installed_clients(
    dist: Path, tmp_path: Path
) -> None:
    with tarfile.open(dist / f"{SERVER}.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    run(python, "-m", "pip", "install", "--quiet", dist / WHEEL, cwd=tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "hello.mjs").write_text(HELLO_JS)
    run("npm", "install", "--silent", dist / TARBALL, "ws@8", cwd=project)
    with serving(tmp_path / SERVER) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        assert run(python, "-c", HELLO, url, cwd=tmp_path) == f"{VERSION}\n"
        assert run("node", "hello.mjs", url, cwd=project) == f"{VERSION}\n"


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """A clone with a release before in dist/."""
    run("git", "clone", "--quiet", origin, tmp_path / "clone", cwd=origin)
    (tmp_path / "clone/dist").mkdir()
    (tmp_path / "clone/dist/SHA256SUMS").write_text("")
    return tmp_path / "clone"


def refused(clone: Path, **environ: str) -> list[str]:
    """Return the lines of the error of a build that is refused, and touches nothing."""
    result = subprocess.run(
        [sys.executable, "release/dist.py"],
        cwd=clone,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert [path.name for path in (clone / "dist").iterdir()] == ["SHA256SUMS"]
    return result.stderr.splitlines()


def test_a_tree_with_changes_is_not_built(clone: Path) -> None:
    (clone / "README.md").write_text("changed\n")
    assert refused(clone)[1:] == ["M README.md"]


def test_a_tree_with_two_versions_is_not_built(clone: Path) -> None:
    package = clone / "clients/js/package.json"
    package.write_text(package.read_text().replace(VERSION, "98.7.6"))
    author = "-c", "user.name=Test", "-c", "user.email=test@example.com"
    run("git", *author, "commit", "--quiet", "--all", "--message", "Two versions", cwd=clone)
    *versions, last = refused(clone)
    assert "clients/js/package.json has 98.7.6" in versions
    assert last.startswith("make dist stopped: ")
    assert last.endswith(" release/version.py failed")


def test_a_missing_program_is_named(clone: Path, tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(git)
    assert refused(clone, PATH=str(tmp_path / "bin")) == [
        "make dist needs npm, which is not installed"
    ]
