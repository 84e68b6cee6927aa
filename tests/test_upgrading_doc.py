"""docs/upgrading.md: its tables and its list of settings are those of the code."""

import os
import re
import subprocess
import sys

import pytest

from hub.settings import Settings
from tests.support.markdown import section
from tests.support.process import ROOT

TEXT = section((ROOT / "docs/upgrading.md").read_text(), "Settings")
UNITS = {"s": 1, "MiB": 1_048_576}


def number(text: str) -> float:
    """Return a limit as settings have it: without separators, in seconds or bytes."""
    value, _, unit = text.partition(" ")
    return float(value.replace(",", "")) * UNITS.get(unit, 1)


def test_the_new_limits_are_the_defaults() -> None:
    rows = re.findall(r"(?m)^\| .* \| (.*) \| `([A-Z_]+)` \|$", TEXT)
    limits = {name: limit for limit, name in rows}
    assert limits.pop("MAX_CONNECTIONS") == "what its file descriptors allow"
    assert Settings().max_connections == 0  # so many
    assert "MAX_TOPICS" in limits
    for name, limit in limits.items():
        assert getattr(Settings(), name.lower()) == number(limit), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_ORIGINS", "http://app.example.com:99999"),
        ("ALLOWED_ORIGINS", "http://app..example.com"),
        ("WORKERS", "many"),
        ("LOG_FORMAT", "plain"),
        ("ACCESS_LOG", "/var/log/access.log"),
        ("API_KEYS", "short"),
        ("JWT_SECRET", "short"),
        ("API_KEYS", ""),
        ("JWT_SECRET", ""),
    ],
)
def test_check_names_what_would_stop_the_start(name: str, value: str) -> None:
    assert f"`{name}`" in TEXT
    result = subprocess.run(
        [sys.executable, "server.py", "--check"],
        cwd=ROOT,
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"{name}=")
