"""docs/deployment.md: each of its commands is run or checked by a test."""

import re

from tests.support.markdown import blocks
from tests.support.process import ROOT

DOCUMENT = (ROOT / "docs/deployment.md").read_text()
# Sections whose commands a test follows.
FOLLOWED = {"systemd": "tests/installed/test_systemd.py"}


def test_every_command_is_followed() -> None:
    for title, text in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", DOCUMENT):
        if any(block.tag == "sh" for block in blocks(text)):
            assert f'"{title}")' in (ROOT / FOLLOWED[title]).read_text()
