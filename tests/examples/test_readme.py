"""examples/README.md: it has every example, and its commands are those that the tests run."""

import re
import shlex
from pathlib import Path

import pytest

from hub.settings import read_settings
from tests.support.examples import EXAMPLES, README, SETTINGS
from tests.support.markdown import blocks

LONGEST = 99  # lines of an example
LARGEST = 150_000  # bytes of a picture
SUFFIXES = {".html", ".py", ".mjs", ".go", ".sh", ".js", ".ts", ".tsx"}
MADE = {"node_modules", "dist"}  # by npm
PARTS = sorted(
    it for it in EXAMPLES.iterdir() if it.name not in ("README.md", "images", "__pycache__")
)


def sources(part: Path) -> list[Path]:
    """Return the files of an example, which is a file or a folder, without those of tools."""
    names = part.rglob("*") if part.is_dir() else [part]
    return [it for it in names if it.suffix in SUFFIXES and not MADE & set(it.parts)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_an_example_is_short_and_says_what_it_shows(part: Path) -> None:
    files = sources(part)
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert 0 < len(lines) <= LONGEST
    beginnings = ["\n".join(it.read_text().splitlines()[:8]) for it in files]
    assert any(re.search(r"(?i)\bshows\b", it) for it in beginnings)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_readme_has_an_example(part: Path) -> None:
    for file in sources(part):
        name = file.relative_to(EXAMPLES).as_posix()
        assert f"]({name})" in README, name


def test_each_picture_is_shown_and_small() -> None:
    pictures = {it.name: it.stat().st_size for it in (EXAMPLES / "images").iterdir()}
    assert set(pictures) == set(re.findall(r"\]\(images/([^)]+)\)", README))
    assert {name: size for name, size in pictures.items() if size > LARGEST} == {}


def test_each_command_is_run_by_a_test() -> None:
    tests = "".join(it.read_text() for it in Path(__file__).parent.glob("test_*.py"))
    for heading, text in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", README):
        if any(it.tag == "sh" for it in blocks(text)):
            assert f'"{heading}"' in tests, heading
    assert {it.tag for it in blocks(README)} <= {"sh", "text"}


def test_the_server_of_the_tests_is_that_of_the_readme() -> None:
    (first, *_) = (it for it in blocks(README) if it.tag == "sh")
    *settings, make, run = shlex.split(first.lines[0])
    assert (make, run) == ("make", "run")
    assert read_settings(dict(it.split("=", 1) for it in settings)) == SETTINGS
