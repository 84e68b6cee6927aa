"""The version of the server, which pyproject.toml and CHANGELOG.md share."""

from typing import Final

VERSION: Final = "0.2.0"
