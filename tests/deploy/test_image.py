"""The image, tested without a container engine; `make test-installed` builds and runs the real one.

A stand-in is made from the Dockerfile: a directory with a virtual environment that holds the
packages of `requirements.lock` and nothing else, and a tree with the files that the Dockerfile
copies and nothing else. Its commands run there, as the image's user if the tests run as root.
"""

import ast
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from handlers.routes import ROUTES
from hub.settings import Settings
from hub.version import VERSION
from tests.support.dockerfile import BUILDER, COPIED, FINAL, ignored
from tests.support.locks import pins
from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import without

UID = GID = 1001
# Pages and files that the server sends; /ws and /events do not end.
PATHS = sorted(
    route.path
    for route in ROUTES
    if isinstance(route, web.RouteDef)
    and route.method == "GET"
    and "{" not in route.path
    and route.path not in ("/ws", "/events")
)
# Runs `server.py`, and writes the name of each file that it opens to the file in OPENED.
TRACED = """
import os, runpy, sys
out = open(os.environ.pop("OPENED"), "w", buffering=1)
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        out.write(os.path.abspath(os.fspath(arguments[0])) + "\\n")
sys.addaudithook(note)
sys.path.insert(0, "")
runpy.run_path("server.py", run_name="__main__")
"""


# --- The Dockerfile -------------------------------------------------------------------------------


def modules() -> set[str]:
    """Return the modules of this project that `server.py` imports, directly or through others."""
    found, new = set[str](), {"server.py"}
    while new:
        found |= new
        new = {path for it in new for path in imported(it)} - found
    return found


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        for name in names:
            module = name.replace(".", "/")
            # `subscribe` and `tail` use the client, which is a package of its own.
            for path in (module, f"clients/python/{module}", f"clients/python/{module}/__init__"):
                if (ROOT / f"{path}.py").is_file():
                    yield f"{path}.py"


def opened(folder: Path) -> set[str]:
    """Return the files of the tree that a server opens while it answers all GET requests."""
    names = folder / "opened"
    environ = os.environ | {"OPENED": str(names)}
    tree = Image(ROOT, environ, [])
    with tree.serving([sys.executable, "-c", TRACED]) as (_, port):
        for path in PATHS:
            assert get(port, path)[0] == 200, path
    paths = (Path(line) for line in names.read_text().splitlines())
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_relative_to(ROOT) and path.suffix != ".pyc" and ".venv" not in path.parts
    }


def get(port: int, path: str, host: str = "localhost") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, body


def source_of(path: str) -> str | None:
    """Return the source of the COPY that brings a file of the tree."""
    parents = [path, *(it.as_posix() for it in Path(path).parents)]
    return next((source for source, _ in COPIED if source in parents), None)


def test_the_build_copies_what_the_server_needs_and_nothing_else(tmp_path: Path) -> None:
    _, check = FINAL.health
    needed = modules() | opened(tmp_path) | {"requirements.lock", check[1]}
    assert [path for path in sorted(needed) if source_of(path) is None or ignored(path)] == []
    assert {source for source, _ in COPIED} == {source_of(path) for path in needed}
    assert all(copy.startswith("--from=builder ") for copy in FINAL.all("COPY"))


def test_files_that_only_redis_needs_are_in_the_build() -> None:
    scripts = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("hub/**/*.lua")]
    assert scripts
    assert [path for path in scripts if source_of(path) is None or ignored(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".venv",
        ".git",
        "tests",
        "docs",
        "secrets/api-keys",
        ".ci/run",
        ".env",
        "hub/__pycache__/a.pyc",
        "clients/python/README.md",
        "deploy/systemd",
    ],
)
def test_other_files_are_excluded_from_the_build(path: str) -> None:
    assert ignored(path)


def test_the_image_runs_as_appuser_and_exposes_one_port() -> None:
    assert FINAL.one("USER") == f"{UID}:{GID}"
    users = FINAL.one("RUN")
    assert f"groupadd --gid {GID} appgroup" in users
    assert re.search(rf"useradd --uid {UID} --gid appgroup .*appuser$", users)
    assert FINAL.one("EXPOSE") == str(Settings().port)


def test_the_image_says_what_it_is() -> None:
    labels = FINAL.labels
    assert {name.rpartition(".")[0] for name in labels} == {
        "org.opencontainers.image",
        "org.opencontainers.image.base",
    }
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.base.name"].rpartition("/")[2] == FINAL.base
    assert FINAL.base == BUILDER.base


def test_sigterm_reaches_the_server() -> None:
    assert json.loads(FINAL.one("ENTRYPOINT")) == ["python", "server.py"]
    assert FINAL.one("STOPSIGNAL") == "SIGTERM"
    assert not FINAL.all("CMD")


def test_the_health_check_runs_every_30_seconds_without_curl() -> None:
    options, command = FINAL.health
    assert options["interval"] == "30s"
    assert command[0] == "python"
    assert '"/stats"' in (ROOT / command[1]).read_text()
    assert "curl" not in (ROOT / "Dockerfile").read_text()


# --- The stand-in ---------------------------------------------------------------------------------


@dataclass
class Image:
    """A stand-in for the built image: its packages, its files, its environment and user."""

    app: Path
    environ: dict[str, str]
    user: list[str]  # what goes before a command to run it as appuser; empty when that cannot be

    def command(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.user, *command],
            cwd=self.app,
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def healthy(self, port: int, **environ: str) -> bool:
        _, command = FINAL.health
        with self.command(*command, PORT=str(port), **environ) as process:
            process.communicate(timeout=PATIENCE)
        return process.returncode == 0

    @contextmanager
    def serving(
        self, entry: list[str], **environ: str
    ) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """Run the entry point on a free port, and read the port from its log."""
        with self.command(*entry, HOST="127.0.0.1", PORT="0", **environ) as process:
            guard = threading.Timer(PATIENCE, process.kill)
            guard.start()
            try:
                yield process, listening_port(process)
            finally:
                process.kill()
                guard.cancel()


def listening_port(process: subprocess.Popen[str]) -> int:
    """Read the server's log until it names its port, or until it ends."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        if match := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
            return int(match[1])
        lines.append(line)
    pytest.fail("the server ended before it listened:\n" + "".join(lines))


def as_appuser(python: Path) -> list[str]:
    """Return the prefix of a command that runs as appuser, who must be able to run `python`.

    Only root may change the user. If root's Python is closed to others (under /root), appuser keeps
    the capability to read every file; it does not allow writing.
    """
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return []
    drop = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"]
    if subprocess.run([*drop, "test", "-x", python], timeout=PATIENCE, check=False).returncode == 0:
        return drop
    sets = ("--inh-caps", "--ambient-caps", "--bounding-set")
    return [*drop, *(f"{caps}=-all,+dac_read_search" for caps in sets)]


def install_locked_packages(site: Path) -> None:
    """Copy the packages that `requirements.lock` pins from the environment of these tests."""
    for name, pin in pins("requirements.lock").items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)


ENTRY = json.loads(FINAL.one("ENTRYPOINT"))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not under tmp_path, which is closed to every other user.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        venv.create(top / "venv", symlinks=True)
        major, minor = sys.version_info[:2]
        install_locked_packages(top / f"venv/lib/python{major}.{minor}/site-packages")
        app = top / "app"
        app.mkdir()
        for source, target in COPIED:
            if (ROOT / source).is_dir():
                no_bytecode = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, app / target, ignore=no_bytecode)
            elif source != "requirements.lock":
                (app / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, app / target)
        # The rights that the image gives, whatever the umask was where this clone was made.
        subprocess.run(["chmod", "-R", "a+rX", app, top / "venv"], check=True, timeout=PATIENCE)
        environ = dict(entry.split("=", 1) for entry in FINAL.one("ENV").split())
        environ["PATH"] = f"{top}/venv/bin:/usr/local/bin:/usr/bin:/bin"
        yield Image(app, environ, as_appuser(top / "venv/bin/python"))


def test_the_image_serves_as_appuser_and_ends_on_sigterm(image: Image) -> None:
    with image.serving(ENTRY) as (process, port):
        assert image.healthy(port)
        for path in PATHS:
            assert get(port, path)[0] == 200, path
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, log
    assert not list(image.app.rglob("*.pyc")), "it wrote into its tree"


def test_the_image_has_the_packages_of_every_module(image: Image) -> None:
    ours = sorted(path for path in modules() if not path.startswith("clients/"))
    names = [path.removesuffix(".py").replace("/", ".") for path in ours]
    with image.command("python", "-c", f"import {', '.join(names)}") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert errors == ""


def test_the_image_has_the_commands_for_a_running_server(image: Image) -> None:
    with image.serving(ENTRY, HISTORY_SIZE="5") as (_, port):
        said = []
        for arguments in ("topics create news", "publish news hello", "tail news --count 1"):
            with image.command(*ENTRY, *arguments.split(), PORT=str(port)) as process:
                out, errors = process.communicate(timeout=PATIENCE)
            assert (process.returncode, errors) == (0, "")
            said.append(out)
    assert said[0] == "created news\n"
    assert said[2].endswith('  news  "hello"\n')


def test_a_server_for_some_hosts_only_is_healthy(image: Image) -> None:
    hosts = "ws.example.com, example.com"
    with image.serving(ENTRY, ALLOWED_HOSTS=hosts) as (_, port):
        assert get(port, "/stats")[0] == 421
        assert image.healthy(port, ALLOWED_HOSTS=hosts)


def test_the_health_check_fails_if_nothing_listens(image: Image) -> None:
    with socket.socket() as taken:  # bound but not listening, so that no process can listen on it
        taken.bind(("127.0.0.1", 0))
        assert not image.healthy(taken.getsockname()[1])


def test_the_image_runs_as_uid_1001(image: Image) -> None:
    if not image.user:
        without("root or setpriv, to become appuser")
    report = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.access('.', os.W_OK))"
    with image.command("python", "-c", report) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert said == f"{UID} {GID} [] False\n"
