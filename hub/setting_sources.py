"""Where the text of a setting comes from: an option, the environment, or a file.

Every setting is an environment variable and an option of the command line. The option wins. A
secret may also be the content of a file, whose path is in the variable `X_FILE` or the option
`--x-file`; it is no option itself, since `ps` shows options to everybody.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from hub.errors import SettingError
from hub.origins import EVERY_ORIGIN
from hub.setting_values import Kind

_MAX_FILE: Final = 1_048_576  # bytes of a file with a secret
# Variables that Kubernetes and Docker set in each container for each service.
_INJECTED_NAME: Final = re.compile(
    r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PORT|PROTO|ADDR))?)"
)
_INJECTED_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*")  # the value of their NAME_PORT
_SHORTEST: Final = 6  # characters; shorter names are common, and so not taken for misspelled ones
_LIKENESS: Final = 0.86  # of two names (difflib): one wrong letter in ten is still alike


class Source(StrEnum):
    """Where the value of a setting comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    FILE = "file"
    OPTION = "option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of a setting."""

    name: str  # of its environment variable
    default: Any
    kind: Kind[Any]
    group: str
    help: str  # one line
    detail: str  # sentences that follow it in docs/configuration.md, in Markdown; may be empty
    secret: bool  # whether the value is never printed, and may be in a file
    switch: bool  # whether it turns access on
    needs: tuple[str, ...]  # fields of earlier settings, whose values `kind.parse` gets too

    @property
    def field(self) -> str:
        """The name of the field of `Settings`."""
        return self.name.lower()

    @property
    def file_name(self) -> str:
        """The environment variable with the path of a file that has the value."""
        return f"{self.name}_FILE"

    @property
    def option(self) -> str:
        """The option of the command line."""
        return option_of(self.file_name if self.secret else self.name)

    @property
    def default_text(self) -> str:
        """The default as a text for the environment; empty if the default is no value."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, float):
            return f"{self.default:g}"
        if self.default == EVERY_ORIGIN:
            return "*"
        return str(self.default) if isinstance(self.default, int | str) else ""

    def refuse(self, label: str, value: str, allowed: str) -> SettingError:
        """Return the error for a wrong value.

        Args:
            label: the name by which the user gave it, such as `--port`.
            value: its text.
            allowed: says which values are allowed.
        """
        # A secret may be in X_FILE by mistake, in place of the file's path.
        return SettingError(label, None if self.secret else value, allowed)


@dataclass(frozen=True, slots=True)
class Given:
    """The text of a setting that is set."""

    text: str
    source: Source
    label: str  # the name by which the user gave it: X, X_FILE, --x or --x-file
    path: str = ""  # of the file that has the text


def option_of(name: str) -> str:
    """Return the option of the command line for an environment variable."""
    return f"--{name.lower().replace('_', '-')}"


def find(setting: Setting, environ: Mapping[str, str], options: Mapping[str, str]) -> Given | None:
    """Return the text of a setting; None if it has its default.

    Args:
        setting: the setting.
        environ: the environment.
        options: texts by the name of their environment variable; they win.

    Raises:
        SettingError: the setting is given twice, cannot be read from its file, or is empty although
            it turns access on.
    """
    given = (
        _secret(setting, environ, options) if setting.secret else _plain(setting, environ, options)
    )
    if given is not None and not given.text.strip():
        if setting.switch:
            raise setting.refuse(
                given.label, "", "it is set but empty, which would leave access off"
            )
        return None
    return given


def _plain(
    setting: Setting, environ: Mapping[str, str], options: Mapping[str, str]
) -> Given | None:
    if setting.name in options:
        return Given(options[setting.name].strip(), Source.OPTION, setting.option)
    text = environ.get(setting.name, "").strip()
    if is_injected(setting.name, text):
        return None
    return Given(text, Source.ENVIRONMENT, setting.name)


def _secret(
    setting: Setting, environ: Mapping[str, str], options: Mapping[str, str]
) -> Given | None:
    value, path, label = (
        environ.get(setting.name),
        environ.get(setting.file_name),
        setting.file_name,
    )
    if setting.file_name in options:
        value, path, label = None, options[setting.file_name], setting.option
    if path is None or not path.strip():
        if value is None:
            return None if path is None else Given("", Source.FILE, label)
        return Given(value, Source.ENVIRONMENT, setting.name)
    if value or (value is not None and setting.switch):
        raise setting.refuse(label, path, f"{setting.name} is set too, only one of them is allowed")
    try:
        text = _content(path)
    except ValueError as error:
        raise setting.refuse(label, path, str(error)) from None
    return Given(text, Source.FILE, label, path)


def _content(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE + 1)
        text = re.sub(r"\r?\n\Z", "", content.decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a path or not UTF-8"
        raise ValueError(f"the file cannot be read: {why}") from None
    if not text.strip() or len(content) > _MAX_FILE:
        raise ValueError(f"the file is empty or larger than {_MAX_FILE} bytes")
    return text


def is_injected(name: str, text: str) -> bool:
    """Return whether Kubernetes or Docker has set a variable, to announce a service."""
    if _INJECTED_NAME.fullmatch(name):
        return True
    return name.endswith("_PORT") and bool(_INJECTED_PORT.fullmatch(text))


def warnings_of(settings: Iterable[Setting], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable that is ignored, although it may be meant as a setting.

    Values are not shown: a variable with a misspelled name may have a secret.
    """
    names = {
        name
        for setting in settings
        for name in ((setting.name, setting.file_name) if setting.secret else (setting.name,))
    }
    for name, text in sorted(environ.items()):
        injected = is_injected(name, text.strip())
        if name in names:
            if injected:
                service = name.removesuffix("_PORT").lower()
                yield f"{name} is ignored: Kubernetes set it for a service named {service!r}"
        elif not injected and len(name) >= _SHORTEST and (near := nearest(name.upper(), names)):
            yield f"{name} is not a setting, and is ignored: did you mean {near}?"


def nearest(name: str, names: Iterable[str], likeness: float = _LIKENESS) -> str | None:
    """Return the name that `name` is probably a misspelling of; None if there is none.

    Args:
        name: the name.
        names: the known names.
        likeness: how alike both must be, from 0 to 1, as `difflib` measures it.
    """
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, sorted(names), n=1, cutoff=likeness)), None)
