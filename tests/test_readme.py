"""The README: its commands are run as pasted, and its tables are compared with the code.

The tour is followed from top to bottom with a real server. The tag of a block tells its meaning:
`sh` is pasted into a shell, `json` is typed into the WebSocket client that the shell started, and
`text` is the output. No other tag is allowed, so that every command is run.
"""

import asyncio
import contextlib
import os
import re
import shlex
import subprocess
import tomllib
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import web

from handlers.routes import ROUTES
from hub.errors import ErrorCode, Refusal, SettingError
from hub.protocol import commands as inbound
from hub.protocol import replies as outbound
from hub.settings import SETTINGS, SWITCHES, Settings, read_settings
from tests.support.markdown import Block, blocks, code, prose, section, table
from tests.support.pasted import followed, localized, masked
from tests.support.process import ROOT, server_process

README = (ROOT / "README.md").read_text()
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "bench/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("**/*.md")),
)
CLIENTS = "clients/README.md"  # tests/clients/test_readme.py runs its blocks
PASTES_TARGETS = (
    "CONTRIBUTING.md",
    "bench/README.md",
    "docs/load-testing.md",
)  # documents whose commands are make's
COMMAND_LINE = "docs/command-line.md"  # tests/cli/test_document.py runs its blocks
RECIPES = "docs/security.md"  # tests/test_security_doc.py runs its blocks
# tests/metrics/test_operations_doc.py and tests/deploy/test_document.py run its blocks.
OPERATIONS = "docs/operations.md"
SECURE_IT = section(README, "Secure it")  # has a server of its own; the tour leaves it out

# Commands that are not run, with the reason; a test below checks that they exist.
NOT_RUN = {
    "make run": "serves until it is stopped: the tour's server takes its place",
    "make test": "is what runs this test",
    "curl -N 'localhost:8080/events?topic=news'": "tests/handlers/test_events.py runs and stops it",
    ".venv/bin/python server.py subscribe alerts builds": "tests/cli/test_follow.py stops one",
    "docker compose up": "needs an engine: tests/deploy checks the image and compose",
}

RUN_ELSEWHERE = {
    ".venv/bin/python bench/frame_reader.py": "tests/test_docs.py runs it",
    ".venv/bin/python bench/redis_reader.py": "tests/test_docs.py runs it",
    ".venv/bin/python bench/redis_load.py": "tests/test_docs.py runs it",
    ".venv/bin/python bench/history.py": "tests/test_docs.py runs it",
    ".venv/bin/python bench/accepting.py": "tests/bench/test_accepting.py runs it",
    ".venv/bin/python bench/logs.py": "tests/test_docs.py runs it",
    ".venv/bin/python bench/fairness.py": "tests/bench/test_fairness.py runs it",
    ".venv/bin/python bench/access.py": "tests/bench/test_access.py runs it",
    "python server.py": "is what the tour starts",
    "python server.py --check": "tests/cli/test_serve.py runs it",
    "python server.py token": "tests/cli/test_tokens.py runs it",
    "python server.py check-token": "tests/cli/test_tokens.py runs it",
}

PATIENCE = 20  # seconds for any output to appear


# --- Commands -------------------------------------------------------------------------------------


class Tour:
    """Pastes block after block into terminals, and compares the output."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._said: list[str] = []  # output of the last block's commands that was not compared yet
        self._client: Process | None = None  # the WebSocket client, once it is started
        # No proxy, no index and no news from pip: a tour of this machine only.
        self._environ = os.environ | {
            "NO_PROXY": "*",
            "BROADCAST_URL": f"127.0.0.1:{port}",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }

    async def __aenter__(self) -> "Tour":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the terminals."""
        if self._client is not None:
            with contextlib.suppress(ProcessLookupError):
                self._client.kill()
            await self._client.communicate()

    async def take(self, block: Block) -> None:
        """Handle a block as a reader does."""
        if block.tag == "sh":
            assert self._said == [], "the document does not show what the last commands say"
            for command in block.lines:
                if command not in NOT_RUN:
                    await self._run(command)
        elif block.tag == "json":
            for line in block.lines:
                self._type(line)
        else:
            await self._compare(block)

    async def _run(self, command: str) -> None:
        is_client = "-m websockets" in command
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", localized(command, self._port)),
            cwd=ROOT,
            env=self._environ,
            stdin=PIPE,
            stdout=PIPE,
            stderr=subprocess.STDOUT,
        )
        if is_client:
            self._client = process
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                greeting = (await process.stdout.readline()).decode()
            assert greeting.startswith("Connected to"), greeting
            return
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._said += said.decode().splitlines()

    def _type(self, line: str) -> None:
        assert self._client is not None, "nothing is there to type into"
        assert self._client.stdin is not None
        self._client.stdin.write(line.encode() + b"\n")

    async def _compare(self, block: Block) -> None:
        shown = [masked(line) for line in block.lines]
        if shown[0].startswith("< "):
            heard = [masked(await self._hear()) for _ in shown]
            # A publisher's event may come before or after its ack; all else is in order.
            assert answers(heard) == answers(shown)
            assert [line for line in heard if line not in answers(heard)] == [
                line for line in shown if line not in answers(shown)
            ]
        else:
            assert [masked(line) for line in self._said] == shown
            self._said = []

    async def _hear(self) -> str:
        """Return the next line of the WebSocket client, without its cursor movements."""
        assert self._client is not None
        assert self._client.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self._client.stdout.readline()).decode():
                if arrived := re.search(r"\x1b\[L(< .*)\n", line):
                    return arrived[1]
        return "the client has ended"

    async def leave(self) -> None:
        """Press Ctrl-D; fail if there is output that the document does not show."""
        assert self._said == []
        assert self._client is not None
        assert self._client.stdin is not None
        self._client.stdin.close()
        assert await self._hear() == "the client has ended"
        assert await self._client.wait() == 0


def answers(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r'< \{"type":"(ack|error|pong)"', line)]


async def test_the_tour_works_as_pasted() -> None:
    async with server_process() as server, Tour(server.port) as tour:
        for block in blocks(README.replace(SECURE_IT, "\n" * SECURE_IT.count("\n"))):
            try:
                await tour.take(block)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"README.md, block of line {block.place}: {error}") from error
        await tour.leave()


async def test_the_commands_that_secure_a_server_work_as_pasted(tmp_path: Path) -> None:
    async with followed(README, "Secure it", tmp_path / "secrets"):
        pass
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_tested(document: str) -> None:
    text = (ROOT / document).read_text()
    tags = {"sh", "json", "text"}
    if document == "docs/architecture.md":
        tags |= {"python"}  # tests/test_docs.py runs them
    if document == RECIPES:
        tags |= {"python", "js", "go"}
    assert [block for block in blocks(text) if block.tag not in tags or not block.lines] == []
    assert re.search(r"(?m)^(\t| {4,})\S", prose(text)) is None, "an indented block has no tag"
    assert not [
        line
        for block in blocks(text)
        for line in block.lines
        if block.tag == "sh" and line.endswith("\\")
    ], "each line of a shell block is one command"
    pasted = {"README.md", COMMAND_LINE, RECIPES, OPERATIONS, *PASTES_TARGETS}
    if document not in pasted:
        assert not [block for block in blocks(text) if block.tag == "sh"], "nobody runs them"


def inline_commands(document: str) -> Iterator[str]:
    """Yield the commands in running text, without assignments before them."""
    for span in code(prose((ROOT / document).read_text())):
        command = re.sub(r"^([A-Z_]+=\S+ )+", "", span)
        if re.match(r"(make|curl|docker|git|pip|python3?|pytest|\S+/bin/\S+) \S", command):
            yield command


@pytest.mark.parametrize("document", [*DOCUMENTS, CLIENTS])
def test_commands_in_running_text_are_checked_too(document: str) -> None:
    for command in inline_commands(document):
        assert command in NOT_RUN | RUN_ELSEWHERE or has_target(command), command


@pytest.mark.parametrize("document", PASTES_TARGETS)
def test_commands_of_other_documents_are_make_targets(document: str) -> None:
    text = (ROOT / document).read_text()
    commands = [line for block in blocks(text) if block.tag == "sh" for line in block.lines]
    assert commands
    for command in commands:
        assert has_target(command), command


def test_commands_that_are_not_run_exist() -> None:
    pasted = {line for block in blocks(README) if block.tag == "sh" for line in block.lines}
    assert set(NOT_RUN) <= pasted, "NOT_RUN names a command that the README has no more"
    assert has_target("make run")
    assert has_target("make test")
    assert (ROOT / "docker-compose.yml").is_file()


def has_target(command: str) -> bool:
    """Return whether make has the target of a `make …` command, without running it."""
    name, *arguments = shlex.split(command)
    if name != "make":
        return False
    result = subprocess.run(
        ["make", "-n", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # not as a child of the make that may run these tests
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return result.returncode == 0


# --- Tables ---------------------------------------------------------------------------------------


def test_every_setting_is_in_the_table_and_no_other() -> None:
    listed = [code(row[0])[0] for row in table(README, "Settings")]
    assert sorted(listed) == sorted(setting.name for setting in SETTINGS)


@pytest.mark.parametrize("row", table(README, "Settings"), ids=lambda row: row[0].strip("`"))
def test_a_setting_has_the_default_of_the_table(row: list[str]) -> None:
    key, default = code(row[0])[0], "".join(code(row[1]))
    assert read_settings({} if key in SWITCHES else {key: default}) == Settings()
    assert default or not getattr(Settings(), key.lower())


@pytest.mark.parametrize("key", ["BACKPRESSURE", "LOG_FORMAT", "LOG_LEVEL"])
def test_the_table_has_all_choices(key: str) -> None:
    (row,) = (row for row in table(README, "Settings") if row[0] == f"`{key}`")
    with pytest.raises(SettingError) as caught:
        read_settings({key: "anything else"})
    allowed = re.search(r"one of (.*) is allowed", str(caught.value))
    assert allowed is not None
    assert set(code(row[1]) + code(row[2])) == set(allowed[1].split(", "))


def test_the_table_of_calls_has_every_route_and_no_other() -> None:
    routes = {
        f"{route.method} {re.sub(r':[^}]*', '', route.path)}"
        for route in ROUTES
        if isinstance(route, web.RouteDef)
    }
    assert len(routes) == len(ROUTES)
    routes.remove("DELETE /topics/{name}/history")  # the call for a topic whose name ends so
    rows = table(README, "REST")
    assert {code(row[0])[0] for row in rows} == routes
    assert len(rows) == len(routes)


def test_the_messages_of_the_protocol_table_are_accepted() -> None:
    kinds = set()
    for row in table(README, "Protocol"):
        command = inbound.decode(code(row[0])[0].encode(), Settings().max_topic_bytes)
        assert not isinstance(command, Refusal), command
        kinds.add(type(command))
    assert kinds == set(get_args(inbound.Command))


def test_the_readme_names_every_kind_of_message_that_the_server_sends() -> None:
    sent = (
        outbound.encode_ack("", "t", ""),
        outbound.encode_event("t", "", None, ""),
        outbound.encode_error(Refusal(ErrorCode.INVALID_TOPIC, ""), ""),
        outbound.encode_pong("", ""),
        outbound.encode_info(None, "", "", "", ""),
    )
    section = README.partition("\n## Protocol\n")[2].partition("\n## ")[0]
    kinds = {message.split(b'"')[3].decode() for message in sent}
    assert kinds <= set(code(section))


# --- The rest -------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, CLIENTS])
def test_links_have_a_target(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)]+)\)", prose(text)):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        file = ROOT / document if path == "" else (ROOT / document).parent / path
        assert file.is_file(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{document} links to {target}"


def test_files_in_contributing_exist() -> None:
    spans = code(prose((ROOT / "CONTRIBUTING.md").read_text()))
    paths = [span for span in spans if re.fullmatch(r"[\w./-]*\w(/|/\w+|\.[a-z]+)", span)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_changelog_has_the_version_first() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"(?m)^## \[(.*?)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text())
    assert newest is not None
    assert newest[1] == version
    assert re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", newest[2])
