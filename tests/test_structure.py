"""The house rules of docs/design.md that a machine can hold: who imports whom."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| `(hub/[\w/]+\.py)` \|[^|]*\|(.*)\|")

# The table of docs/design.md is what is held: a row's first cell is a module, its last the imports.
TABLE = {
    cells[1]: set(cells[2].split())
    for line in (ROOT / "docs/design.md").read_text().splitlines()
    if (cells := ROW.fullmatch(line))
}
# Of the standard library, the parts that touch the world.
IMPURE = {
    "asyncio",
    "hiredis",
    "logging",
    "random",
    "os",
    "select",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}
NOTED = IMPURE | {
    "aiohttp",
    "aiohttp_cors",
    "handlers",
    "hub",
    "orjson",
    "redis",
    "server",
    "uvloop",
}
EDGE = {"aiohttp", "aiohttp_cors", "asyncio", "handlers", "hub", "logging"}

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("server.py", "hub/**/*.py", "handlers/**/*.py")
    for path in ROOT.glob(pattern)
)
CLIENT = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("clients/python/**/*.py"))


def imports(module: str) -> Iterator[str]:
    """What a module imports of the noted packages, for types too; of `hub` its modules."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module or ""]
            if node.module == "hub":
                names = [f"hub.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in NOTED)


def test_every_module_of_the_hub_imports_what_the_table_says() -> None:
    found = {
        module: {f"`{name}`" for name in imports(module)}
        for module in MODULES
        if module.startswith("hub/") and not module.endswith("/__init__.py")
    }
    assert found == TABLE


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("handlers/")])
def test_the_edge_imports_the_hub_and_http(module: str) -> None:
    allowed = EDGE | {"select", "socket"} if module == "handlers/sockets.py" else EDGE
    assert {name.split(".")[0] for name in imports(module)} <= allowed


def test_private_names_of_aiohttp_are_in_one_module() -> None:
    for module in MODULES:
        private = {name for name in imports(module) if name.startswith("aiohttp._")}
        assert not private or module == "handlers/takeover.py"


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_depends_on_aiohttp_alone(module: str) -> None:
    assert {name.split(".")[0] for name in imports(module)} & NOTED <= {*IMPURE, "aiohttp"}
