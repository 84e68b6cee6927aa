"""README.md: its programs run together as pasted, and its commands are right."""

import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, chromium, needs_chromium
from tests.support.dockerfile import FINAL
from tests.support.markdown import blocks, prose, section
from tests.support.pasted import SHOWN_AT, localized
from tests.support.process import ROOT
from tests.support.programs import needs
from tests.support.server import Running, running

README = (ROOT / "README.md").read_text()
RUN_IT = section(README, "Run it")
COMMANDS = [line for block in blocks(README) if block.tag == "sh" for line in block.lines]
MAKE, BUILD, RUN, PYTHON, LISTEN, *ASK = COMMANDS


def program(tag: str) -> str:
    """Return the one block with a tag."""
    (block,) = [block for block in blocks(README) if block.tag == tag]
    return "\n".join(block.lines) + "\n"


class Terminal:
    """A command that goes on, whose output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, text: str) -> None:
        """Read lines up to one that has a text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if text in line:
                return
        pytest.fail(f"the command ended without {text!r}")


@contextmanager
def terminal(command: str, port: int, folder: Path) -> Iterator[Terminal]:
    """Run a command of the README in a folder, until the end of the block."""
    environ = os.environ | {
        "NO_PROXY": "*",
        "PYTHONPATH": str(ROOT / "clients/python"),
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        shlex.split(localized(command, port)),
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        guard = threading.Timer(PATIENCE / 1000, process.kill)
        guard.start()
        try:
            yield Terminal(process)
        finally:
            guard.cancel()
            process.kill()


@needs("curl")
@needs_chromium
def test_the_page_the_program_and_curl_work_together(tmp_path: Path) -> None:
    assignment, _, python = PYTHON.partition(" ")
    assert assignment == "PYTHONPATH=clients/python"
    with Backstage() as backstage, chromium() as browser:
        server: Running = backstage.enter(running(Settings()))
        here = f"127.0.0.1:{server.port}"
        (tmp_path / "hello.html").write_text(program("html").replace(SHOWN_AT, here))
        (tmp_path / "hello.py").write_text(program("python").replace(SHOWN_AT, here))
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        with terminal(LISTEN, server.port, tmp_path) as curl:
            curl.wait_for('"ack"')
            page.goto((tmp_path / "hello.html").as_uri())
            page.get_by_role("button").click()
            curl.wait_for('{"from":"a browser"}')
            with terminal(python, server.port, tmp_path) as printed:
                printed.wait_for("{'from': 'Python'}")
                curl.wait_for('{"from":"Python"}')
                published, stats = (asked(line, server.port) for line in ASK)
                printed.wait_for("{'from': 'curl'}")
                curl.wait_for('{"from":"curl"}')
        for sender in ("a browser", "Python", "curl"):
            expect(page.locator("body")).to_contain_text(f'{{"from":"{sender}"}}')
    assert '"receivers":3}' in published
    assert stats == '{"total_clients":3,"total_topics":1,"topics":{"news":3}}\n'


def asked(command: str, port: int) -> str:
    """Return the output of a curl command that must succeed."""
    return subprocess.run(
        shlex.split(localized(command, port)),
        env=os.environ | {"NO_PROXY": "*"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE / 1000,
        check=True,
    ).stdout


def test_each_program_has_ten_lines() -> None:
    for tag in ("html", "python"):
        assert len([line for line in program(tag).splitlines() if line]) <= 10
    assert len([LISTEN, *ASK]) <= 10


def test_each_program_has_a_name() -> None:
    assert "Save this as `hello.html`" in RUN_IT
    assert "Save this as `hello.py`" in RUN_IT


def test_make_run_is_the_one_command() -> None:
    assert MAKE == "make run"


def test_the_image_that_is_built_is_run_on_the_servers_port() -> None:
    *build, tag, folder = shlex.split(BUILD)
    *run, ports, image = shlex.split(RUN)
    assert build == ["docker", "build", "--tag"]
    assert run == ["docker", "run", "--rm", "--publish"]
    assert (ROOT / folder / "Dockerfile").is_file()
    assert tag == image
    assert ports == f"{SHOWN_AT.partition(':')[2]}:{FINAL.one('EXPOSE')}"
    assert f"http://{SHOWN_AT}/" in RUN_IT


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200
    before, _, _ = README.partition("\n## ")
    assert len([line for line in before.splitlines() if line.startswith("- ")]) == 6
    assert "badge" not in prose(README)
