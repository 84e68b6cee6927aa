"""Locks, tools, make and CI, tested without network.

`make check-wheels`, which `.ci/run` calls, needs the registry: it finds a wheel for every pin.
"""

import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.dockerfile import STAGES
from tests.support.locks import pins, version
from tests.support.patience import PATIENCE
from tests.support.process import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = (
    "requirements.lock",
    "requirements-test.lock",
    "requirements-loadtest.lock",
    "requirements-docs.lock",
)


# --- Locks and tools ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        (
            "requirements-test.lock",
            PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"],
        ),
        (
            "requirements-loadtest.lock",
            PROJECT["dependencies"] + PROJECT["optional-dependencies"]["loadtest"],
        ),
        (
            "requirements-docs.lock",
            PROJECT["dependencies"] + PROJECT["optional-dependencies"]["docs"],
        ),
    ],
)
def test_a_lock_pins_what_is_declared_within_its_range(lock: str, declared: list[str]) -> None:
    locked = pins(lock)
    for wanted in map(Requirement, declared):
        pin = locked[canonicalize_name(wanted.name)]
        assert (pin.marker is None) == (wanted.marker is None), f"{pin} is not pinned everywhere"
        assert wanted.specifier.contains(version(pin)), f"{lock} has {pin}, declared is {wanted}"


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_every_lock_has_the_pins_of_the_run_lock(lock: str) -> None:
    run, other = pins(LOCKS[0]), pins(lock)
    assert {name: version(pin) for name, pin in run.items()} == {
        name: version(other[name]) for name in run
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_pins_and_hashes_and_no_address_or_path(lock: str) -> None:
    header, *rest = re.split(r"(?m)^(?=[^# ])", (ROOT / lock).read_text())
    assert header.splitlines()[-1] == "#    make lock"
    for entry in rest:
        assert re.fullmatch(
            r"[a-z0-9-]+(\[[a-z,-]+\])?==([0-9]+!)?[a-z0-9.]+( ; [\w<>=!.'() ]+)?"
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


# --- Make and CI ----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with the Makefile and the locks, and without `.venv`."""
    npm, tools = "tests/clients/npm", "tests/deploy/tools"
    for name in (
        "Makefile",
        "requirements.lock",
        "requirements-test.lock",
        "requirements-loadtest.lock",
        "requirements-docs.lock",
        f"{npm}/package-lock.json",
        f"{tools}/go.mod",
        f"{tools}/go.sum",
        f"{tools}/compose.go",
        f"{tools}/actionlint.mod",
        f"{tools}/actionlint.sum",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(tree: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, without the environment of a make that runs these tests."""
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", **settings}
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
        ("loadtest", "requirements-loadtest.lock", ".venv/loadtest/bin/python loadtest/run.py"),
        ("test-loadtest", "requirements-loadtest.lock", "-m pytest tests/loadtest"),
        ("docs", "requirements-docs.lock", ".venv/docs/bin/python -m mkdocs build"),
        ("test-docs", "requirements-docs.lock", "-m pytest tests/site"),
    ],
)
def test_make_installs_the_lock_before_it_does_its_work(
    tree: Path, target: str, lock: str, command: str
) -> None:
    said = make(tree, "-n", target).stdout
    installing = said.index(f"--require-hashes --requirement {lock}")
    assert said.rindex(command) >= said.index("-m venv")
    assert command == "pip" or said.index(command) > installing


@pytest.mark.parametrize("port", [None, "9000"])
def test_make_run_begins_with_the_address_of_the_console(tree: Path, port: str | None) -> None:
    stub = stub_python(
        tree,
        'case "$*" in "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;;'
        ' server.py) echo "2026-11-26 INFO server: starting";; esac',
    )
    said = make(tree, "run", stub, **({"PORT": port} if port else {})).stdout.splitlines()
    assert said[-2:] == [
        f"The console: http://localhost:{port or 8080}/ (Ctrl-C stops the server)",
        "2026-11-26 INFO server: starting",
    ]
    assert said[:-2] == [
        f"making .venv with {said[0].partition(' with ')[2]}",
        "installing requirements.lock",
    ]


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


@pytest.fixture
def ci(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that runs `.ci/run` with programs that only write down their calls."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("bash", "dirname", "sh"):
        (bin_ / name).symlink_to(str(shutil.which(name)))

    def run(*targets: str, present: tuple[str, ...] = ()) -> list[str]:
        for name in ("apt-get", "cc", "chromium", "curl", "ldconfig", "make", "python3", *present):
            (bin_ / name).write_text('#!/bin/sh\necho "${0##*/} $*" >> calls\n')
            (bin_ / name).chmod(0o755)
        script, environ = [".ci/run", *targets], {"PATH": str(bin_)}
        subprocess.run(script, cwd=tmp_path, env=environ, check=True, timeout=PATIENCE)
        return (tmp_path / "calls").read_text().splitlines()

    return run


def test_ci_makes_every_check_and_test(ci: Callable[..., list[str]]) -> None:
    made = [call for call in ci() if call.startswith("make ")]
    phony = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())
    assert phony is not None
    checks = {name for name in phony[1].split() if re.match("check|test", name)}
    assert sorted(made) == sorted(f"make {name}" for name in checks)


def test_ci_makes_only_the_targets_that_it_is_given(ci: Callable[..., list[str]]) -> None:
    assert [call for call in ci("check", "test") if call.startswith("make ")] == [
        "make check",
        "make test",
    ]


@pytest.mark.parametrize("present", [(), ("redis-server",)])
def test_ci_installs_redis_for_every_python(
    ci: Callable[..., list[str]], present: tuple[str, ...]
) -> None:
    """The Redis in a wheel, which other machines use, is an old version."""
    (call,) = [it.split() for it in ci(present=present) if it.startswith("apt-get install")]
    assert "libatomic1" in call
    assert ("redis-server" in call) is (present == ())


@pytest.mark.parametrize(("in_ci", "ends"), [(False, "2 skipped"), (True, "2 failed")])
def test_a_missing_program_skips_a_test_but_fails_it_in_ci(
    tmp_path: Path, in_ci: bool, ends: str
) -> None:
    (tmp_path / "test_programs.py").write_text(
        "from tests.support.programs import find, needs\n"
        "@needs('no-such-program')\n"
        "def test_with_a_mark():\n"
        "    find('no-such-program')\n"
        "def test_that_asks():\n"
        "    find('no-such-program')\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    environ |= {"CI": "true"} if in_ci else {}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", tmp_path]
    result = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ends in result.stdout.splitlines()[-1], result.stdout
