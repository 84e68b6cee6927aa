"""The Python client as a package: what the archives hold, and how users install it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from broadcast_client import Client, connect

from hub.settings import Settings
from hub.values import Rule
from hub.version import VERSION
from tests.support import tokens
from tests.support.backstage import Backstage
from tests.support.eventually import eventually
from tests.support.markdown import blocks
from tests.support.process import ROOT
from tests.support.programs import without
from tests.support.server import Running, running

SOURCE = ROOT / "clients/python"
MODULES = {path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("broadcast_client/*.py")}
BLOCKS = blocks((SOURCE / "README.md").read_text())
COMMANDS = [line for block in BLOCKS if block.tag == "sh" for line in block.lines]
FORGE = "https://HOST/REPOSITORY"  # what the README says for the address of a repository
NAME = "websocket-broadcast-client"
OLDEST = "3.12.0"  # of aiohttp, that the package allows
PATIENCE = 300  # seconds for a command
REMEMBERING = Settings(history_rules={"": Rule(5, 60.0, 10_000_000)})

# What a user's program may do with the client, with types.
PROGRAM = """
import asyncio
import sys
from importlib.metadata import version

from broadcast_client import Event, Item, Lost, RefusedError, State, StateDetail, connect


def show(state: State, detail: StateDetail) -> None:
    print(state, detail.why or "-")


async def main(url: str) -> None:
    items: list[Item] = []
    async with connect(url, client_id="user", on_state=show) as client:
        await client.ready(timeout=20)
        client.subscribe("news", items.append)
        news = client.subscribe("news")
        await news.ready(timeout=20)
        ack = await client.publish("news", {"n": 1}, timeout=20)
        for result in await client.publish_batch([{"topic": "news", "payload": 2}]):
            if isinstance(result, RefusedError):
                raise result
        async for item in news:
            if isinstance(item, Lost):
                print(item.why, item.count)
            elif isinstance(item, Event):
                print(item.topic, item.payload)
                if item.payload == 2:
                    break
        page = await client.topics(prefix="n")
        print(ack["status"], page.topics, client.state, version("websocket-broadcast-client"))


asyncio.run(main(sys.argv[1]))
"""
PRINTED = f"""connecting -
open -
news {{'n': 1}}
news 2
ok {{'news': 1}} open {VERSION}
closed -
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that must succeed, without the paths of this tree; return its output."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class Environment:
    """A virtual environment that has no package at first."""

    def __init__(self, folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        self.python = folder / "bin/python"
        self._pip = (sys.executable, "-m", "pip", "--python", str(self.python))

    def pip(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        return run(*self._pip, "--disable-pip-version-check", *arguments, cwd=cwd)

    def install(self, *arguments: str | Path, cwd: Path | None = None) -> None:
        """Install the client by these arguments of pip, in place of one that is there."""
        self.pip("uninstall", "--quiet", "--yes", NAME)
        self.pip("install", "--quiet", *arguments, cwd=cwd)

    def run_program(self, folder: Path, server: Running) -> str:
        """Run the user's program there, and return its output."""
        (folder / "program.py").write_text(PROGRAM)
        return run(self.python, "program.py", server.ws, cwd=folder)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the sdist; return their folder."""
    folder = tmp_path_factory.mktemp("archives")
    build = "-m", "build", "--no-isolation", "--outdir", folder, SOURCE
    run(sys.executable, *build)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the tests if there is no package registry, but not in CI."""
    folder = tmp_path_factory.mktemp("download")
    pip = sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)
    if subprocess.run([*pip, "aiosignal"], timeout=PATIENCE).returncode != 0:
        without("a package registry")


@pytest.fixture(scope="module")
def environment(
    registry: None, archives: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Make an environment with the wheel, and so with the newest packages that it needs."""
    made = Environment(tmp_path_factory.mktemp("environment") / "venv")
    made.pip("install", "--quiet", *archives.glob("*.whl"))
    return made


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a git repository that has this tree's client in the same place."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(SOURCE, folder / "clients/python", ignore=shutil.ignore_patterns("__pycache__"))
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "clients", cwd=folder)
    identity = "-c", "user.name=test", "-c", "user.email=test@example.com"
    run("git", *identity, "commit", "--quiet", "--message", "The client", cwd=folder)
    return folder


@pytest.fixture
def here() -> Iterator[Running]:
    with Backstage() as backstage:
        yield backstage.enter(running(Settings()))


def test_the_wheel_has_the_modules_and_the_mark_of_types_alone(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    assert wheel.name == f"websocket_broadcast_client-{VERSION}-py3-none-any.whl"
    about = f"websocket_broadcast_client-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{about}/METADATA").decode()
    expected = MODULES | {"broadcast_client/py.typed"}
    assert names == expected | {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    requirements = re.findall("(?m)^Requires-.*", metadata)
    assert requirements == ["Requires-Python: >=3.11", f"Requires-Dist: aiohttp<4,>={OLDEST[:-2]}"]
    assert (SOURCE / "README.md").read_text() in metadata


def test_the_sdist_has_what_the_wheel_is_built_from(archives: Path) -> None:
    (sdist,) = archives.glob("*.tar.gz")
    root = f"websocket_broadcast_client-{VERSION}"
    assert sdist.name == f"{root}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{root}/") for name in archive.getnames()}
    about = {"PKG-INFO", "README.md", "pyproject.toml"}
    assert names - {".gitignore"} == MODULES | {"broadcast_client/py.typed"} | about


def test_a_typed_program_runs_with_the_installed_wheel(
    archives: Path, environment: Environment, tmp_path: Path, here: Running
) -> None:
    environment.install(*archives.glob("*.whl"))
    assert environment.run_program(tmp_path, here) == PRINTED
    mypy = "-m", "mypy", "--strict", "--config-file=", "--python-executable", environment.python
    said = run(sys.executable, *mypy, "program.py", cwd=tmp_path)
    assert said == "Success: no issues found in 1 source file\n"


@pytest.mark.usefixtures("registry")
def test_the_sdist_works_with_the_oldest_aiohttp(
    archives: Path, tmp_path: Path, here: Running
) -> None:
    environment = Environment(tmp_path / "venv")
    environment.pip("install", "--quiet", f"aiohttp=={OLDEST}", *archives.glob("*.tar.gz"))
    assert environment.run_program(tmp_path, here) == PRINTED


@pytest.mark.parametrize("command", COMMANDS)
def test_the_client_is_installed_as_the_readme_says(
    command: str, environment: Environment, repository: Path, tmp_path: Path, here: Running
) -> None:
    pip, install, *arguments = shlex.split(command.replace(FORGE, f"file://{repository}"))
    assert (pip, install) == ("pip", "install")
    environment.install(*arguments, cwd=repository)
    assert environment.run_program(tmp_path, here) == PRINTED


def program(place: int, server: Running) -> tuple[str, ...]:
    """Return the command that runs a program of the README with a server."""
    code = "\n".join([block.lines for block in BLOCKS if block.tag == "python"][place])
    path = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    return sys.executable, "-uc", path + code.replace("localhost:8080", f"127.0.0.1:{server.port}")


def test_the_first_program_of_the_readme_prints_what_it_says(here: Running) -> None:
    assert run(*program(0, here)) == "{'hello': 'world'}\n"


async def subscribe(client: Client, topic: str) -> None:
    await client.subscribe(topic).ready()


def holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def test_the_second_program_of_the_readme_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = tmp_path / "position.json"
    with Backstage() as backstage:
        server = backstage.enter(running(REMEMBERING))
        client = backstage.enter(connect(server.ws))
        backstage.run(subscribe(client, "news"))
        for earlier, later in (([], "one"), (["two", "three"], "four"), ([], "five")):
            for payload in earlier:  # the program does not run
                backstage.run(client.publish("news", payload))
            with subprocess.Popen(
                program(1, server), cwd=tmp_path, stdout=subprocess.PIPE, text=True
            ) as process:
                try:
                    backstage.run(eventually(lambda: server.topics() == {"news": 2}))
                    ack = backstage.run(client.publish("news", later))
                    stored = json.dumps([ack["epoch"], ack["offset"]])
                    assert process.stdout is not None
                    for payload in (*earlier, later):
                        assert f"payload={payload!r}" in process.stdout.readline()
                    # The program prints an event before it writes the position.
                    backstage.run(eventually(partial(holds, file, stored)))
                finally:
                    process.terminate()


def test_the_third_program_of_the_readme_sends_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", tokens.sign())
    with Backstage() as backstage:
        server = backstage.enter(running(tokens.settings()))
        client = backstage.enter(connect(server.ws, token=tokens.KEY))
        backstage.run(subscribe(client, "chat/ann"))
        assert "'status': 'ok'" in run(*program(2, server))
