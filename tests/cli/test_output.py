"""What is for terminals only: colours, and a line that says how far a command is."""

import io
import sys

import pytest

from cli.commands import run
from cli.output import Paint, Progress, printable


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "painted"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_terminals(
    stream: io.StringIO, environ: dict[str, str], painted: bool
) -> None:
    paint = Paint(stream, environ)
    for text in (paint.bold("x"), paint.dim("x"), paint.red("x")):
        assert text.startswith("\x1b[") is painted
        assert "x" in text


@pytest.mark.parametrize(
    ("errors", "output", "shown"),
    [
        (Terminal(), io.StringIO(), "\r1 published\x1b[K\r\x1b[K"),
        (Terminal(), Terminal(), ""),  # between the lines of the output it would be noise
        (io.StringIO(), io.StringIO(), ""),
    ],
)
def test_progress_is_for_terminals(
    errors: io.StringIO, output: io.StringIO, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "stdout", output)
    with Progress() as progress:
        progress.show("1 published")
        progress.show("2 published")  # too soon to be read
    assert errors.getvalue() == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("news ünï 日本", "news ünï 日本"),
        ("a\nb\x1b[31m\x7f\x85", "a\\nb\\x1b[31m\\x7f\\x85"),
        ("\u202e\u2028\ud800", "\\u202e\\u2028\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_characters_that_are_not_printable_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_ctrl_c_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, _: str) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdout", Interrupted())
    assert run(["--version"], {}) == 130
