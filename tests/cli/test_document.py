"""docs/command-line.md: its commands run, and its tables are those of the code."""

import re
from pathlib import Path

import pytest

from cli.commands import COMMANDS
from cli.output import Exit
from tests.support.command import carry_out
from tests.support.markdown import code, table
from tests.support.pasted import followed
from tests.support.process import ROOT

TEXT = (ROOT / "docs/command-line.md").read_text()


async def test_its_commands_work_as_pasted(tmp_path: Path) -> None:
    async with followed(TEXT, "Try it", tmp_path):
        pass


def test_it_has_every_command_and_no_other() -> None:
    names = re.findall(r"^\| `([a-z-]+)", TEXT.partition("\n## ")[0], re.MULTILINE)
    assert list(dict.fromkeys(names)) == list(COMMANDS)


def test_it_has_every_exit_code() -> None:
    assert [int(row[0]) for row in table(TEXT, "Exit codes")] == list(Exit)


def test_it_has_the_options_of_each_command_for_a_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        carry_out(["stats", "--help"], {})
    _, _, options = capsys.readouterr().out.partition("\nserver:\n")
    rows = table(TEXT, "The server and the caller")
    assert re.findall(r"^  (--[a-z-]+)", options, re.MULTILINE) == [code(row[0])[0] for row in rows]
    for row in rows:
        assert all(variable in options for variable in code(row[1]))
