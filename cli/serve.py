"""`serve`: reads the settings for the server; `--check` shows them without serving."""

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from cli.output import Exit, Paint, printable, say
from cli.parsing import Parser
from cli.settings import add_settings, given_settings
from hub.setting_sources import Setting, Source
from hub.settings import SETTINGS, Inspection, describe_access, inspect

_DESCRIPTION: Final = """\
Run the server until SIGTERM or SIGINT.

Each option is a setting, and also an environment variable: --max-topics is
MAX_TOPICS. The option wins. A secret itself is not an option, because other
users can see the options of a process; give its file: --jwt-secret-file is
JWT_SECRET_FILE. Defaults are in brackets. Sizes are in bytes."""


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Inspection | Exit:
    """Carry out `serve` up to the point where the server starts.

    Returns:
        The settings to serve with, or an exit code after a mistake or `--check`.
    """
    if not arguments:
        inspection = inspect(environ, {})
        return _refused(inspection) if inspection.mistakes else inspection
    parser = Parser(
        "serve", _DESCRIPTION, usage="server.py [serve] [--check] [--SETTING VALUE ...]"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="show all settings and where each comes from, name all mistakes, and end;"
        " the exit code is 2 if there is one",
    )
    add_settings(parser, SETTINGS)
    options = parser.parse(arguments)
    inspection = inspect(environ, given_settings(options))
    if options.check:
        _show(inspection, Paint(sys.stdout, environ))
    if inspection.mistakes:
        return _refused(inspection)
    return Exit.OK if options.check else inspection


def _refused(inspection: Inspection) -> Exit:
    for mistake in inspection.mistakes.values():
        say(printable(str(mistake)))
    return Exit.USAGE


def _show(inspection: Inspection, paint: Paint) -> None:
    """Print each setting with its source and value; the value of a secret is masked."""
    width = max(len(setting.name) for setting in SETTINGS)
    for title, members in groupby(SETTINGS, lambda setting: setting.group):
        print(paint.bold(title))
        for setting in members:
            source, value = _describe(setting, inspection)
            line = f"  {setting.name:{width}}  {source:11}  {value}".rstrip()
            if setting.name in inspection.mistakes:
                line = paint.red(f"{line}  (not valid)")
            elif source is Source.DEFAULT:
                line = paint.dim(line)
            print(line)
    if not inspection.mistakes:
        print(f"access: {describe_access(inspection.settings)}")
    sys.stdout.flush()
    for warning in inspection.warnings:
        say(f"warning: {warning}")


def _describe(setting: Setting, inspection: Inspection) -> tuple[str, str]:
    given = inspection.given.get(setting.name)
    if given is None and setting.name in inspection.mistakes:
        return "", ""  # its text could not be read, for example from its file
    if given is None:
        return Source.DEFAULT, setting.default_text
    shown = "***" if setting.secret else printable(given.text)
    return given.source, f"{shown}  {printable(given.path)}" if given.path else shown
