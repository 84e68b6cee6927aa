"""Programs that tests run: where they are, and what a test does without them."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

IN_CI = "CI" in os.environ
# Packages of the test lock have programs, too; others are outside the PATH of most users.
PATH = os.pathsep.join(
    [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
        "/usr/sbin",
        "/usr/local/sbin",
        "/usr/local/go/bin",
    ]
)


def find(name: str) -> str:
    """Return the path of a program; skip the test if there is none, but fail it in CI."""
    return shutil.which(name, path=PATH) or without(name)


def without(what: str) -> NoReturn:
    """Skip the test, since this machine lacks something; fail it in CI, which must have all."""
    assert not IN_CI, f"CI lacks {what}"
    pytest.skip(f"this machine lacks {what}")


def needs(name: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test without a program, but not in CI, where it then fails."""
    return skip_unless(shutil.which(name, path=PATH), name)


def skip_unless(present: object, what: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if `present` is false, but not in CI."""
    return pytest.mark.skipif(not present and not IN_CI, reason=f"this machine lacks {what}")
