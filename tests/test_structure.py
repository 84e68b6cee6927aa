"""The house rules of docs/design.md that a machine can hold: who imports whom, and sizes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a module may import of the project, of third parties, and of the parts of the standard
# library that would make it impure.
IMPURE = {"asyncio", "logging", "os", "select", "signal", "socket", "threading", "time"}
MAY_IMPORT = {
    "hub/__init__.py": set(),
    "hub/errors.py": set(),
    "hub/settings.py": {"hub.errors"},
    "hub/inbound.py": {"hub.errors", "orjson"},
    "hub/outbound.py": {"hub.errors", "hub.inbound", "orjson"},
    "hub/frames.py": {"hub.errors"},
    "hub/stamps.py": {"time"},
    "hub/topic.py": {"hub.broker", "hub.client"},  # for types only
    "hub/outbox.py": {"hub.topic"},
    "hub/client.py": {"hub.errors", "hub.inbound", "hub.outbox", "hub.topic"},
    "hub/fanout.py": {"hub.client", "hub.outbox", "hub.topic"},
    "hub/broker.py": {"hub.errors"},
    "hub/keepalive.py": {"hub.client", "hub.frames", "hub.settings"},
    "hub/hub.py": {
        "hub",
        "hub.broker",
        "hub.client",
        "hub.errors",
        "hub.fanout",
        "hub.inbound",
        "hub.outbox",
        "hub.settings",
        "hub.stamps",
        "hub.topic",
    },
    "hub/commands.py": {
        "hub",
        "hub.broker",
        "hub.client",
        "hub.errors",
        "hub.frames",
        "hub.hub",
        "hub.inbound",
        "hub.settings",
    },
}
EDGE = {"asyncio", "logging", "aiohttp", "aiohttp_cors", "handlers", "hub"}

MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("h[ua]*/**/*.py")) + [
    "server.py"
]


def imports(module: str) -> Iterator[str]:
    """Every module that a module's text imports, wherever it does."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module or ""


def is_noted(name: str) -> bool:
    """Whether an import says something about a module's place: no plain standard library."""
    top = name.split(".")[0]
    return (
        top in IMPURE
        or top in {"aiohttp", "aiohttp_cors", "handlers", "hub", "orjson", "redis"}
        or (top in {"server", "uvloop"})
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_place_allows(module: str) -> None:
    found = {name for name in imports(module) if is_noted(name)}
    if module.startswith("hub/"):
        assert found <= MAY_IMPORT[module]
    elif module.startswith("handlers/"):
        assert {name.split(".")[0] for name in found} <= EDGE


def test_private_names_of_aiohttp_are_in_one_module() -> None:
    for module in MODULES:
        private = {name for name in imports(module) if name.startswith("aiohttp._")}
        assert not private or module == "handlers/takeover.py"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module: str) -> None:
    text = (ROOT / module).read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= 30, f"{module}: {node.name}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function, its docstring left out."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines
