"""Options of the command line for settings, from the table in hub/settings.py."""

import argparse
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from hub.setting_sources import Setting, option_of
from hub.setting_values import TRUTH
from hub.settings import SETTINGS


def add_settings(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    """Add an option for each setting, in the groups of the settings."""
    for title, members in groupby(settings, lambda setting: setting.group):
        group = parser.add_argument_group(title)
        for setting in members:
            if setting.secret:
                parser.add_argument(
                    option_of(setting.name), nargs="?", action=_Secret, help=argparse.SUPPRESS
                )
            # The option of a true-or-false setting may be given without a value.
            alone: dict[str, Any] = {"nargs": "?", "const": "true"} if setting.kind is TRUTH else {}
            group.add_argument(
                setting.option,
                dest=setting.file_name if setting.secret else setting.name,
                metavar="FILE" if setting.secret else setting.kind.form,
                default=argparse.SUPPRESS,
                help=_help(setting).replace("%", "%%"),
                **alone,
            )


class _Secret(argparse.Action):
    """Refuses a secret as an option."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        name = self.dest.upper()
        parser.error(
            f"others could see the secret: use --{self.dest.replace('_', '-')}-file FILE, or set"
            f" {name} or {name}_FILE"
        )


def _help(setting: Setting) -> str:
    if setting.secret:
        return f"{setting.help}; in a file"
    return f"{setting.help} [{setting.default_text}]" if setting.default_text else setting.help


def given_settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings that were given as options: their texts, by environment variable."""
    names = {name for setting in SETTINGS for name in (setting.name, setting.file_name)}
    return {name: text for name, text in vars(options).items() if name in names}
