"""The benchmark's commands and flags, wherever a document names one: the runner has them."""

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
FLAGS = {flag for text in TEXTS for flag in re.findall(r"`(?:\S*run\.py )?(--[a-z-]+)[^`]*`", text)}
SHOWN = re.findall(r"(?m)^    python bench/run\.py *(.*?)(?:  +| of | the |$)", run.__doc__ or "")


def asked(make: str) -> list[str]:
    """What a `make bench…` command would have the runner do."""
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
def test_a_command_is_one_that_the_runner_has(command: str) -> None:
    run.parser().parse_args(asked(command))


def test_a_key_that_is_no_scenario_is_not() -> None:
    with pytest.raises(SystemExit):
        run.parser().parse_args(asked("make bench ONLY=fanin"))


def test_a_flag_is_one_that_the_runner_has() -> None:
    known = {flag for action in run.parser()._actions for flag in action.option_strings}
    assert FLAGS
    assert known >= FLAGS


def test_the_runners_own_words_are_its_flags() -> None:
    known = {flag for action in run.parser()._actions for flag in action.option_strings}
    shown = {words.split()[0] for words in SHOWN if words.startswith("--")}
    assert shown == known - {"-h", "--help"}
