"""The benchmark's commands and flags in documents exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import run
from servers import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench/README.md"]
TEXTS = [path.read_text() for path in DOCUMENTS]
NAMED = {
    command.replace("`", "").strip()
    for text in [*TEXTS, (ROOT / "Makefile").read_text()]
    for command in re.findall(
        r"(?m)`make bench[^`]*`|^make bench.*$|make bench\S* [A-Z]+=\S+", text
    )
}
TARGETS = re.findall(r"(?m)^(bench[a-z-]*):.*##", (ROOT / "Makefile").read_text())
RUNS = [it for text in TEXTS for it in re.findall(r"run\.py ([^`\n]*)", text)]
FLAGS = {flag for words in RUNS for flag in re.findall(r"--[a-z-]+", words)}
SHOWN = re.findall(r"(?m)^    python bench/run\.py *(.*?)(?:  +| of | the |$)", run.__doc__ or "")


def asked(make: str) -> list[str]:
    """Return the runner's arguments for a `make bench…` command."""
    done = subprocess.run(
        ["make", "-n", *shlex.split(make)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    (line,) = (line for line in done.stdout.splitlines() if "bench/run.py" in line)
    return shlex.split(line.partition("bench/run.py")[2])


def test_documents_name_every_target() -> None:
    assert {f"make {target}" for target in TARGETS} <= {name.split(" REV")[0] for name in NAMED}


@pytest.mark.parametrize("command", sorted(NAMED))
def test_a_command_in_a_document_exists(command: str) -> None:
    run.parser().parse_args(asked(command))


def test_an_unknown_key_does_not_exist() -> None:
    with pytest.raises(SystemExit):
        run.parser().parse_args(asked("make bench ONLY=fanin"))


def test_a_flag_in_a_document_exists() -> None:
    known = {flag for action in run.parser()._actions for flag in action.option_strings}
    assert FLAGS
    assert known >= FLAGS


def test_the_runners_docstring_names_its_flags() -> None:
    known = {flag for action in run.parser()._actions for flag in action.option_strings}
    shown = {words.split()[0] for words in SHOWN if words.startswith("--")}
    assert shown == known - {"-h", "--help"}
