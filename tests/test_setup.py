"""Locks, make, the image and compose, tested without network and container engine.

A stand-in for the image is made from its Dockerfile: a directory with a virtual environment that
holds the packages of `requirements.lock` and nothing else, and a tree with the files that it
copies and nothing else. Its commands run there, as its user if the tests run as root.
`make check-wheels`, which `.ci/run` calls, needs the registry: it finds a wheel for every pin.
"""

import configparser
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
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hub.settings import Settings
from hub.version import VERSION

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UID = GID = 1001
# Seconds that a child may take before it is killed and its test fails; none takes two.
PATIENCE = 30


# --- Locks and tools ------------------------------------------------------------------------------


def pins(lock: str) -> dict[str, Requirement]:
    """Return the `name==version; marker` lines of a lock file by canonical name."""
    lines = (ROOT / lock).read_text().splitlines()
    found = [Requirement(line.rstrip(" \\")) for line in lines if line[0] not in "# "]
    return {canonicalize_name(pin.name): pin for pin in found}


def version(pin: Requirement) -> str:
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        (
            "requirements-test.lock",
            PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"],
        ),
    ],
)
def test_a_lock_pins_what_is_declared_within_its_range(lock: str, declared: list[str]) -> None:
    locked = pins(lock)
    for wanted in map(Requirement, declared):
        pin = locked[canonicalize_name(wanted.name)]
        assert (pin.marker is None) == (wanted.marker is None), f"{pin} is not pinned everywhere"
        assert wanted.specifier.contains(version(pin)), f"{lock} has {pin}, declared is {wanted}"


def test_the_server_has_the_version_of_the_project() -> None:
    assert PROJECT["version"] == VERSION


def test_the_test_lock_has_every_pin_of_the_run_lock() -> None:
    run, test = pins("requirements.lock"), pins("requirements-test.lock")
    assert {name: version(pin) for name, pin in run.items()} == {
        name: version(test[name]) for name in run
    }


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_a_lock_has_pins_and_hashes_and_no_address_or_path(lock: str) -> None:
    header, *rest = re.split(r"(?m)^(?=[^# ])", (ROOT / lock).read_text())
    assert header.splitlines()[-1] == "#    make lock"
    for entry in rest:
        assert re.fullmatch(
            r"[a-z0-9-]+(\[[a-z,]+\])?==[a-z0-9.]+( ; [a-z_]+ [<>=!]+ '[\w.]+'"
            r"( and [a-z_]+ [<>=!]+ '[\w.]+')*)?"
            r"( \\\n    --hash=sha256:[0-9a-f]{64})+\n",
            entry,
        ), f"not a pin with its hashes: {entry}"


def test_the_installed_versions_are_the_locked_ones() -> None:
    for name, pin in pins("requirements-test.lock").items():
        if pin.marker is None or pin.marker.evaluate():
            assert importlib.metadata.version(name) == version(pin)


def test_each_tool_is_configured_in_one_file(pytestconfig: pytest.Config) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    tools = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"])
    assert tools == {"ruff"}
    assert setup.sections() == ["mypy", "tool:pytest", "coverage:run", "coverage:report"]
    rivals = "ruff.toml .ruff.toml mypy.ini .mypy.ini pytest.ini .pytest.ini tox.ini .coveragerc"
    assert not [name for name in rivals.split() if (ROOT / name).exists()]
    assert pytestconfig.inipath == ROOT / "setup.cfg"
    assert pytestconfig.getini("xfail_strict") is True


def test_the_required_python_is_checked_and_shipped() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    floor = PROJECT["requires-python"].removeprefix(">=")
    assert setup["mypy"]["python_version"] == floor
    assert {stage.base for stage in STAGES} == {f"python:{floor}-slim"}


@pytest.mark.skipif("CI" not in os.environ, reason="only CI's Python must be the image's")
def test_the_image_has_the_python_that_ci_tests() -> None:
    major, minor = sys.version_info[:2]
    assert {stage.base for stage in STAGES} == {f"python:{major}.{minor}-slim"}


# --- Make and CI ----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with the Makefile and the locks, and without `.venv`."""
    npm = Path("tests/clients/npm")
    (tmp_path / npm).mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "requirements-test.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copy(ROOT / npm / "package-lock.json", tmp_path / npm)
    return tmp_path


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, without the environment of a make that runs these tests."""
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    return subprocess.run(
        ["make", *arguments],
        cwd=tree,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def stub_python(tree: Path, body: str) -> str:
    """Write a script with `body` to replace Python, and return the argument of make for it."""
    stub = tree / "stub-python"
    stub.write_text(f"#!/bin/sh\n{body}\n")
    stub.chmod(0o755)
    return f"PYTHON={stub}"


@pytest.mark.parametrize(
    ("target", "lock", "command"),
    [
        ("install", "requirements.lock", "pip"),
        ("run", "requirements.lock", ".venv/bin/python server.py"),
        ("test", "requirements-test.lock", ".venv/bin/python -m pytest --numprocesses auto --cov"),
        ("check", "requirements-test.lock", ".venv/bin/mypy"),
    ],
)
def test_make_installs_the_lock_before_it_does_its_work(
    tree: Path, target: str, lock: str, command: str
) -> None:
    said = make(tree, "-n", target).stdout
    installing = said.index(f"--require-hashes --requirement {lock}")
    assert said.rindex(command) >= said.index("-m venv")
    assert command == "pip" or said.index(command) > installing


def test_make_alone_lists_every_target(tree: Path) -> None:
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (tree / "Makefile").read_text())
    assert phony is not None
    listed = [line.split()[0] for line in make(tree).stdout.splitlines()]
    assert listed == phony[1].split()


@pytest.mark.parametrize(
    ("python", "says"),
    [
        # Both run make's own question, one of them with another answer.
        (
            f"{sys.executable} -c 'import sys; sys.version_info = 3, 10; exec(sys.argv[1])' \"$2\"",
            "install Python 3.11",
        ),
        (
            f'case "$2" in *ensurepip*) exit 1;; esac; {sys.executable} "$@"',
            "apt-get install python3-venv",
        ),
        ("exit 127", "install Python 3.11"),
    ],
    ids=["too old", "without venv", "missing"],
)
def test_make_reports_an_unusable_python_in_one_line(tree: Path, python: str, says: str) -> None:
    result = make(tree, "install", stub_python(tree, python))
    complaint, make_error = result.stderr.splitlines()
    assert result.returncode == 2
    assert says in complaint
    assert make_error.startswith("make: ***")


def test_make_installs_again_only_when_the_lock_changes(tree: Path) -> None:
    # The stub makes a `.venv` whose Python writes down every call of pip.
    stub = stub_python(
        tree,
        'case "$*" in "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;;'
        ' "-m pip"*) echo "$*" >> calls;; esac',
    )
    make(tree, ".venv/.test", stub)
    make(tree, ".venv/.test", "install", stub)
    assert len((tree / "calls").read_text().splitlines()) == 1
    stamp = (tree / ".venv/.run").stat().st_mtime
    os.utime(tree / "requirements.lock", (stamp + 10, stamp + 10))
    make(tree, "install", stub)
    assert len((tree / "calls").read_text().splitlines()) == 2


def test_ci_checks_and_tests() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=PATIENCE)
    assert {"make check", "make test", "make check-wheels"} <= set(script.read_text().splitlines())


@pytest.mark.parametrize("present", [False, True])
def test_ci_installs_redis_for_every_python(tmp_path: Path, present: bool) -> None:
    """The Redis in a wheel, which other machines use, is an old version."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    stubs = ["apt-get", "cc", "chromium", "curl", "ldconfig", "make", "openssl", "python3"]
    for name in [*stubs, *(["redis-server"] if present else [])]:
        (bin_ / name).write_text('#!/bin/sh\necho "${0##*/} $*" >> calls\n')
        (bin_ / name).chmod(0o755)
    for name in ("bash", "dirname", "sh"):
        (bin_ / name).symlink_to(str(shutil.which(name)))
    script = ["bash", ".ci/run"]
    environ = {"PATH": str(bin_)}
    subprocess.run(script, cwd=tmp_path, env=environ, check=True, timeout=PATIENCE)
    calls = (tmp_path / "calls").read_text().splitlines()
    (installed,) = [call.split() for call in calls if call.startswith("apt-get install")]
    assert "libatomic1" in installed
    assert ("redis-server" in installed) is not present
    assert calls[-1].startswith("make ")


# --- The image ------------------------------------------------------------------------------------


@dataclass
class Stage:
    """One `FROM` of the Dockerfile with the instructions under it, continuations joined."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [argument for found, argument in self.instructions if found == name]

    def one(self, name: str) -> str:
        (argument,) = self.all(name)
        return argument

    @property
    def health(self) -> tuple[dict[str, str], list[str]]:
        """The options and the command of the HEALTHCHECK, which must be in exec form."""
        options, command = self.one("HEALTHCHECK").split("CMD ", 1)
        return dict(re.findall(r"--([a-z-]+)=(\S+)", options)), json.loads(command)


def read_dockerfile() -> list[Stage]:
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text())
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, _, argument = line.partition(" ")
        if name == "FROM":
            stages.append(Stage(argument.split()[0]))
        elif name:
            stages[-1].instructions.append((name, argument))
    return stages


STAGES = read_dockerfile()
BUILDER, FINAL = STAGES
# Files of the tree; a COPY from another stage begins with an option.
COPIED = [copy.split() for copy in BUILDER.all("COPY")]


def ignored(path: str) -> bool:
    """Return True if `.dockerignore` excludes `path`: the last matching pattern decides."""
    verdict = False
    parents = [str(Path(*Path(path).parts[: n + 1])) for n in range(len(Path(path).parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        names = Path(path).parts if "**/" in line else parents
        if line and line[0] != "#" and any(fnmatch(name, pattern) for name in names):
            verdict = line[0] != "!"
    return verdict


def test_the_build_copies_existing_files_and_nothing_else() -> None:
    assert [source for source, _ in COPIED] == [
        "requirements.lock",
        "server.py",
        "cli.py",
        "hub",
        "handlers",
        "api",
        "clients/js/client.js",
    ]
    assert all(copy.startswith("--from=builder ") for copy in FINAL.all("COPY"))
    for source, _ in COPIED:
        assert (ROOT / source).exists()
        assert not ignored(source)
    assert not ignored("hub/hub.py")
    assert not ignored("hub/redis/lua/lib/lifetime.lua")


@pytest.mark.parametrize(
    "path",
    [
        ".venv",
        ".git",
        "tests",
        "docs",
        ".ci/run",
        ".env",
        "hub/__pycache__/a.pyc",
        "clients/python",
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


def test_sigterm_reaches_the_server() -> None:
    assert json.loads(FINAL.one("ENTRYPOINT")) == ["python", "server.py"]
    assert FINAL.one("STOPSIGNAL") == "SIGTERM"
    assert not FINAL.all("CMD")


def test_the_health_check_runs_every_30_seconds_without_curl() -> None:
    options, command = FINAL.health
    assert options["interval"] == "30s"
    assert command[0] == "python"
    assert "/stats" in command[-1]
    assert "curl" not in (ROOT / "Dockerfile").read_text()


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

    def healthy(self, port: int) -> bool:
        _, command = FINAL.health
        with self.command(*command, PORT=str(port)) as process:
            process.communicate(timeout=PATIENCE)
        return process.returncode == 0

    @contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """Run the entry point on a free port, and read the port from its log."""
        entry = json.loads(FINAL.one("ENTRYPOINT"))
        with self.command(*entry, HOST="127.0.0.1", PORT="0") as process:
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
    with image.serving() as (process, port):
        assert image.healthy(port)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, log
    assert not list(image.app.rglob("*.pyc")), "it wrote into its tree"


def test_the_health_check_fails_if_nothing_listens(image: Image) -> None:
    with socket.socket() as taken:  # bound but not listening, so that no process can listen on it
        taken.bind(("127.0.0.1", 0))
        assert not image.healthy(taken.getsockname()[1])


def test_the_image_runs_as_uid_1001(image: Image) -> None:
    if not image.user:
        pytest.skip("only root can become appuser, and with setpriv")
    report = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.access('.', os.W_OK))"
    with image.command("python", "-c", report) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert said == f"{UID} {GID} [] False\n"


# --- Compose --------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVER, REDIS = COMPOSE["services"]["server"], COMPOSE["services"]["redis"]


def test_compose_starts_the_server_after_redis() -> None:
    assert set(COMPOSE) == {"services"}, "`version` is obsolete"
    assert SERVER["build"] == "."
    assert SERVER["ports"] == ["8080:8080"]
    assert SERVER["environment"] == {"REDIS_ADDR": "redis:6379"}
    assert SERVER["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert REDIS["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert "ports" not in REDIS, "nobody outside may reach it"
    assert "healthcheck" not in SERVER, "the image has one"


def test_compose_waits_longer_than_the_shutdown_timeout() -> None:
    grace = re.fullmatch(r"(\d+)s", SERVER["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > Settings().shutdown_timeout


def test_compose_gives_the_server_minimal_rights() -> None:
    assert SERVER["read_only"] is True
    assert SERVER["cap_drop"] == ["ALL"]
    assert SERVER["security_opt"] == ["no-new-privileges:true"]
    assert SERVER["restart"] == "unless-stopped"
