"""The files that list all settings: `.env.example` and docs/configuration.md.

Both are made from the table in hub/settings.py by `make settings`.
"""

from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Final

from hub.setting_sources import Setting
from hub.settings import SETTINGS

_ENV_HEADER: Final = """\
# All settings, with their defaults. Copy this file to .env and remove the # of those that you set.
# For a shell: set -a; . ./.env; set +a; for Docker: docker run --env-file .env
# Leave out spaces and quotes. docs/configuration.md describes the settings in more detail.
# Secrets may be in files: JWT_SECRET_FILE=/run/secrets/jwt in place of JWT_SECRET.
#
# Written by: make settings
"""

_PAGE_HEADER: Final = """\
# Configuration

<!-- Written by `make settings` from hub/settings.py and cli/setting_lists.py. -->

Every setting is an environment variable, read once at the start, and an option of `server.py`. You
need none of them to try the server.

## The ten that matter first

| Setting | Default | Set it when |
|---|---|---|
"""

_PAGE_RULES: Final = """
## How to set them

- An **environment variable**: `MAX_TOPICS=1000`. An empty one has its default, but an empty setting
  that turns access on stops the start.
- An **option**: `--max-topics 1000`. It wins over the variable.
- A **file**, for secrets: `JWT_SECRET_FILE=/run/secrets/jwt` or `--jwt-secret-file
  /run/secrets/jwt`. One trailing newline of the file is dropped. A secret itself is not an option,
  because others can see the options of a process.
- With **Docker**, a file `.env`: copy [.env.example](../.env.example), which has all settings with
  their defaults. `docker compose` reads it; for `docker run`, add `--env-file .env`.

`--check` shows all settings, where each comes from, and all mistakes, and ends. Here without those
that have their defaults:

```sh
PORT=9000 .venv/bin/python server.py --check --max-topics 1000 | grep -v default
```

```text
Listening
  PORT                    environment  9000
Limits
  MAX_TOPICS              option       1000
Messages
Slow and silent clients
History
Access
Shutdown
Several servers
Logs and metrics
access: off, everybody may subscribe, publish and manage topics
```

A wrong value stops the start. So do two values that do not fit together:

```sh
MAX_QUEUE_SIZE=0 .venv/bin/python server.py
```

```text
MAX_QUEUE_SIZE='0' is not valid: a whole number from 1 to 1000000 is allowed
```

## All settings

Times are in seconds and sizes in bytes. Below the variable of each setting is its option, and for a
secret first the variable with the path of its file.
"""

# The settings that most deployments need, and when.
FIRST: Final = {
    "PORT": "another program listens on 8080",
    "ALLOWED_ORIGINS": "only your own pages should use the server",
    "API_KEYS": "your back end publishes, and others must not",
    "JWT_SECRET": "your back end issues tokens to its users",
    "ANONYMOUS_SUBSCRIBE": "everybody may read some topics, with access on",
    "HISTORY_SIZE": "clients that reconnect should get the events that they missed",
    "BACKPRESSURE": "a slow client should lose events and stay connected",
    "REDIS_ADDR": "several servers should act as one",
    "WORKERS": "one core is not enough",
    "TRUSTED_PROXIES": "a proxy or load balancer is in front",
}


def env_example() -> str:
    """Return the content of `.env.example`."""
    lines = [_ENV_HEADER]
    for title, members in groupby(SETTINGS, lambda setting: setting.group):
        lines.append(f"\n# --- {title} ---\n")
        for setting in members:
            form = f" ({setting.kind.form})" if "|" in setting.kind.form else ""
            lines.append(
                "\n"
                + fill(f"{setting.help}{form}", 98, initial_indent="# ", subsequent_indent="# ")
                + f"\n#{setting.name}={setting.default_text}\n"
            )
    return "".join(lines)


def configuration() -> str:
    """Return the content of docs/configuration.md."""
    defaults = {setting.name: setting.default_text for setting in SETTINGS}
    parts = [_PAGE_HEADER]
    parts += [_row(_code(name), _code(defaults[name]), why) for name, why in FIRST.items()]
    parts.append(_PAGE_RULES)
    for title, members in groupby(SETTINGS, lambda setting: setting.group):
        parts.append(f"\n### {title}\n\n| Setting | Default | Meaning |\n|---|---|---|\n")
        parts += [_row(_names(it), _code(it.default_text), _meaning(it)) for it in members]
    return "".join(parts)


def _names(setting: Setting) -> str:
    """Return the names of a setting, a line each: its variables and its option."""
    variables = [setting.name, setting.file_name] if setting.secret else [setting.name]
    return "<br>".join(map(_code, [*variables, setting.option]))


def _meaning(setting: Setting) -> str:
    """Return the help and the details of a setting, as sentences."""
    sentences = [f"{setting.help[0].upper()}{setting.help[1:]}."]
    words = setting.kind.form.split("|")
    if len(words) > 1 and "N" not in words:
        sentences.append(f"One of {', '.join(map(_code, words))}.")
    if setting.detail:
        sentences.append(setting.detail)
    if setting.switch:
        sentences.append("It turns access on.")
    return " ".join(sentences)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    for name, content in (
        (".env.example", env_example()),
        ("docs/configuration.md", configuration()),
    ):
        Path(name).write_text(content)
