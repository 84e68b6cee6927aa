"""The environment variables that a deployment may set."""

from hub.settings import SETTINGS


def variables() -> set[str]:
    """Return the variables of all settings, those of secrets as paths of files only."""
    return {it.file_name if it.secret else it.name for it in SETTINGS}
