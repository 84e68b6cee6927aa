"""The first moment of a command: what it imports, and Ctrl-C meanwhile."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support.command import Result, environment, finish
from tests.support.patience import PATIENCE
from tests.support.process import ROOT

INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


async def result_of(folder: Path, *arguments: str) -> Result:
    """Run a command that finds the modules of a folder before all others."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "server.py", *arguments),
        cwd=ROOT,
        env=environment(PYTHONPATH=str(folder), HOST="127.0.0.1", PORT="0"),
        stdout=PIPE,
        stderr=PIPE,
    )
    return await finish(process)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("orjson", ["--version"]),  # among the first imports
        ("orjson", ["stats"]),
        ("select", ["publish", "news"]),  # of this command alone
        ("uvloop", []),  # of the server alone
        ("prometheus_client", ["serve"]),
    ],
)
async def test_ctrl_c_during_an_import_is_silent(
    module: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(INTERRUPT)
    assert await result_of(tmp_path, *arguments) == Result(130, "", "")


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["--check"], ["stats", "--help"], ["nonsense"]]
)
async def test_what_only_the_server_needs_is_not_imported(
    arguments: list[str], tmp_path: Path
) -> None:
    for module in ("aiohttp", "uvloop", "redis", "hiredis", "prometheus_client", "yaml"):
        (tmp_path / f"{module}.py").write_text(f"raise ImportError({module!r})\n")
    result = await result_of(tmp_path, *arguments)
    assert result.code == (2 if arguments == ["nonsense"] else 0)
    assert "ImportError" not in result.err


async def test_ctrl_c_is_ignored_if_the_caller_ignores_it(tmp_path: Path) -> None:
    (tmp_path / "orjson.py").write_text(INTERRUPT + "raise ImportError('went on')\n")
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'trap "" INT; exec "$0" server.py --version', sys.executable),
        cwd=ROOT,
        env=environment(PYTHONPATH=str(tmp_path)),
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        assert "went on" in (await finish(process)).err
