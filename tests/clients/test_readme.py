"""The code of clients/README.md, which runs here."""

import os
import subprocess
import sys
from collections.abc import Iterator

import broadcast_client
import pytest
from playwright.sync_api import Page

from hub.errors import ErrorCode
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, needs_chromium
from tests.support.markdown import Block, blocks, code, table
from tests.support.process import ROOT
from tests.support.server import Running, running

README = (ROOT / "clients/README.md").read_text()
BLOCKS = blocks(README)
SHOWN_AT = "localhost:8080"  # where the README's server is; replaced by that of the test
CLIENT = (ROOT / "clients/js/client.js").read_text()
PYTHON = "".join(
    file.read_text() for file in (ROOT / "clients/python/broadcast_client").glob("*.py")
)


def of(tag: str) -> list[Block]:
    return [block for block in BLOCKS if block.tag == tag]


def output(server: Running, *command: str) -> str:
    """Run a command that must succeed, and return its output."""
    return subprocess.run(
        [part.replace(SHOWN_AT, f"127.0.0.1:{server.port}") for part in command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "clients/python"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * PATIENCE / 1000,
        check=True,
    ).stdout


@pytest.fixture
def here() -> Iterator[Running]:
    with Backstage() as backstage:
        yield backstage.enter(running(Settings()))


def test_every_block_is_run() -> None:
    # The last two, which are for Node and npm, are run by test_npm.py.
    assert [block.tag for block in BLOCKS] == ["python", "text", "js", "js", "js", "sh"]


def test_the_python_example_of_the_readme_prints_the_shown_output(here: Running) -> None:
    (python,), (shown,) = of("python"), of("text")
    printed = output(here, sys.executable, "-c", "\n".join(python.lines))
    assert printed == "\n".join(shown.lines) + "\n"


def test_the_tables_have_every_public_name() -> None:
    called = " ".join(row[0] for row in table(README, "Python"))
    for name in (*public(broadcast_client.Client), *public(broadcast_client.Subscription)):
        assert f".{name}" in called, name
    first, _, _ = README.partition("\n## ")
    codes = [code(row[0])[0] for row in table(f"\n## First\n{first}", "First")]
    assert not set(codes) & set(ErrorCode)
    for word in codes:
        assert f'RefusedError("{word}"' in CLIENT
        assert f'RefusedError("{word}"' in PYTHON


def public(kind: type) -> list[str]:
    return [name for name in vars(kind) if name[0] != "_"]


# --- In a browser ---------------------------------------------------------------------------------

in_browser = needs_chromium


@in_browser
@pytest.mark.parametrize(("place", "shown"), [(0, "{hello: world}"), (1, "event hello")])
def test_the_javascript_example_of_the_readme_works(
    page: Page, here: Running, place: int, shown: str
) -> None:
    script = "\n".join(of("js")[place].lines)
    script = script.replace(SHOWN_AT, f"127.0.0.1:{here.port}")
    said: list[str] = []
    page.on("console", lambda it: "favicon" in it.location["url"] or said.append(it.text))
    page.goto(f"{here.url}/health")  # a page of the loopback, whose content is replaced
    with page.expect_console_message(lambda it: it.text == shown):
        page.set_content(f'<script type="module">{script}</script>')
    assert said == [shown]
