"""The version in all its places, and the workflows of the forge."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.version import VERSION
from tests.support.dockerfile import STAGES
from tests.support.go_tools import go_tool
from tests.support.process import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPT = "release/version.py"
PLACES = [
    "Dockerfile",
    "api/asyncapi.yaml",
    "api/openapi.yaml",
    "clients/js/package.json",
    "clients/python/pyproject.toml",
    "deploy/kubernetes/kustomization.yaml",
    "hub/version.py",
    "pyproject.toml",
]


def version(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run release/version.py in a tree."""
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(
        command, cwd=tree, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with the script and the files that have the version."""
    for name in [SCRIPT, *PLACES]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_file_has_the_version_of_the_server() -> None:
    result = version(ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{VERSION}\n", "")


def test_one_command_writes_the_version_into_every_file(tree: Path) -> None:
    before = {name: (tree / name).read_text() for name in PLACES}
    assert version(tree, "98.7.6").stdout == "98.7.6\n"
    assert version(tree).stdout == "98.7.6\n"
    for name in PLACES:
        lines = zip(before[name].splitlines(), (tree / name).read_text().splitlines(), strict=True)
        ((old, new),) = [(old, new) for old, new in lines if old != new]
        assert new == old.replace(VERSION, "98.7.6")


@pytest.mark.parametrize("name", PLACES)
def test_a_file_with_another_version_is_named(tree: Path, name: str) -> None:
    text = (tree / name).read_text()
    (tree / name).write_text(text.replace(VERSION, "98.7.6"))
    result = version(tree)
    assert result.returncode == 1
    assert f"{name} has 98.7.6" in result.stderr.splitlines()


def test_what_is_no_version_is_not_written(tree: Path) -> None:
    result = version(tree, "v1.0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "v1.0 is no version such as 0.3.0\n"
    assert version(tree).stdout == f"{VERSION}\n"


# --- The text of a release ------------------------------------------------------------------------


def notes(tree: Path, changelog: str) -> subprocess.CompletedProcess[str]:
    """Run release/notes.py in a tree with this CHANGELOG.md."""
    shutil.copy(ROOT / "release/notes.py", tree / "release/notes.py")
    (tree / "CHANGELOG.md").write_text(changelog)
    command = [sys.executable, "release/notes.py", "https://forge.example/blob/v1/"]
    return subprocess.run(
        command, cwd=tree, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_text_of_a_release_is_the_section_of_its_version(tree: Path) -> None:
    changelog = f"""# Changelog

## [{VERSION}] - 2026-11-26

### Added

- One that is
  long ([here](docs/a.md#b), [there](https://c.example)).
- Two.

## [0.0.1] - 2026-01-01

- Old.
"""
    expected = """### Added

- One that is long ([here](https://forge.example/blob/v1/docs/a.md#b), [there](https://c.example)).
- Two.
"""
    result = notes(tree, changelog)
    assert (result.returncode, result.stdout, result.stderr) == (0, expected, "")


def test_a_release_without_a_section_has_no_text(tree: Path) -> None:
    result = notes(tree, "# Changelog\n\n## [0.0.1] - 2026-01-01\n")
    assert result.returncode == 1
    assert f"CHANGELOG.md has no section for {VERSION}" in result.stderr


def test_the_draft_of_a_release_has_the_text() -> None:
    (steps,) = [
        job["steps"] for job in read(ROOT / ".github/workflows/release.yml")["jobs"].values()
    ]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert "release/notes.py" in commands
    assert "--notes-file" in commands


# --- Workflows ------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """Return a workflow; its key `on` is True in YAML 1.1."""
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_actionlint_accepts_the_workflows() -> None:
    assert WORKFLOWS
    result = go_tool("actionlint", "-no-color", *map(str, WORKFLOWS))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_actionlint_refuses_a_wrong_workflow(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("github.ref", "github.no_such_thing"))
    assert "no_such_thing" in go_tool("actionlint", "-no-color", str(wrong)).stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_bounds_rights_and_time(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "github.ref" in workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        assert job.get("permissions", {"contents": "write"}) == {"contents": "write"}
    uses = re.findall(r"(?m)uses: (.*)$", path.read_text())
    assert uses
    assert [
        it for it in uses if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v[\d.]+", it)
    ] == []


def test_ci_tests_every_supported_python_and_the_images_one_with_everything() -> None:
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    everything, tests = jobs["everything"], jobs["tests"]
    assert {"run": ".ci/run", "name": "Check and test"} in everything["steps"]
    image = everything["container"]["image"]
    assert {image.removesuffix("-trixie")} == {stage.base for stage in STAGES}
    assert tests["strategy"]["matrix"]["python"] == ["3.12", "3.13", "3.14"]
