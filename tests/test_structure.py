"""The table of packages in docs/architecture.md, held against the imports of every module."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| `(\w+)` \| ([^|]*) \|([^|]*)\|([^|]*)\|")

# By package: the packages of ours, and the others, that it may import.
TABLE = {
    found[1]: (set(re.findall(r"`(\w+)`", found[3])), set(found[4].split()))
    for line in (ROOT / "docs/architecture.md").read_text().splitlines()
    if (found := ROW.fullmatch(line))
}
GROUND = {
    "hub/access.py",
    "hub/addresses.py",
    "hub/errors.py",
    "hub/ids.py",
    "hub/origins.py",
    "hub/reports.py",
    "hub/status.py",
    "hub/values.py",
    "hub/version.py",
}
SETTINGS = {"hub/setting_sources.py", "hub/setting_values.py", "hub/settings.py"}
# The parts of the standard library in the table's last column: for input and output, the clock, and
# imports that this test cannot see. The column also names every package of others.
NOTED = {
    "argparse",
    "asyncio",
    "concurrent",
    "datetime",
    "http.client",
    "http.server",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "resource",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
}
# Modules with imports that the rest of their package may not have.
MORE = {
    "handlers/process.py": {"os", "resource", "signal"},
    "handlers/sockets.py": {"resource", "select", "socket"},
}

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "server.py",
        "cli/**/*.py",
        "hub/**/*.py",
        "handlers/**/*.py",
        "workers/**/*.py",
    )
    for path in ROOT.glob(pattern)
)
OWN = {path.partition("/")[0].removesuffix(".py") for path in MODULES}
CLIENT = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("clients/python/**/*.py"))


def package_of(module: str) -> str:
    """Return the row of the table that a module belongs to; for no module, the argument."""
    if module not in MODULES:
        return module
    if module in GROUND:
        return "ground"
    if module in SETTINGS:
        return "settings"
    if module == "server.py":
        return Path(module).stem
    return Path(module).parent.name


def source_of(module: str) -> str:
    return (ROOT / module).read_text()


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names that a source imports, including those for types."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in OWN


def ours(source: str) -> set[str]:
    """Return the modules of this project that a source imports.

    An import of a whole package, which no row allows, is returned as it is written.
    """
    found = set()
    for name in filter(is_ours, imports(source)):
        paths = (f"{it.replace('.', '/')}.py" for it in (name, name.rpartition(".")[0]))
        found.add(next((path for path in paths if path in MODULES), name))
    return found


def others(source: str) -> set[str]:
    """Return the packages of others that a source imports, and the noted parts of the library."""
    found = set()
    for name in imports(source):
        root, _, rest = name.partition(".")
        for dotted in (root, f"{root}.{rest.partition('.')[0]}"):
            if dotted in NOTED:
                found.add(dotted)
        if root not in OWN | sys.stdlib_module_names:
            found.add(root)
    return found


def violations(module: str, source: str) -> set[str]:
    """Return the imports of a module's source that its row does not allow."""
    package = package_of(module)
    if package == "server":
        return ours(source) - set(MODULES)
    of_ours, of_others = TABLE[package]
    wrong = {it for it in ours(source) if package_of(it) not in of_ours | {package}}
    return wrong | (others(source) - of_others - MORE.get(module, set()))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_packages_of_its_row(module: str) -> None:
    assert violations(module, source_of(module)) == set()


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from hub.hub import Hub", "hub/hub.py"),
        ("from hub import hub", "hub/hub.py"),
        ("import hub.redis.broker", "hub/redis/broker.py"),
        ("from hub import redis", "hub.redis"),
        ("from hub.protocol import *", "hub.protocol.*"),
        ("import hub", "hub"),
        ("import handlers", "handlers"),
        ("import redis.asyncio", "redis"),
        ("import http.client", "http.client"),
        ("from http import client", "http.client"),
        ("from urllib import request", "urllib.request"),
        ("import importlib", "importlib"),
        ("import concurrent.futures", "concurrent"),
        ("from datetime import datetime", "datetime"),
        ("def f():\n    from pathlib import Path", "pathlib"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ssl", "ssl"),
    ],
)
def test_an_import_that_the_row_does_not_allow_is_found(source: str, wrong: str) -> None:
    assert violations("hub/protocol/notices.py", source) == {wrong}


def test_an_import_of_a_whole_package_is_found_in_the_composition_root() -> None:
    assert violations("server.py", "from hub import redis") == {"hub.redis"}


def test_every_import_in_the_table_is_used() -> None:
    for package, (of_ours, of_others) in TABLE.items():
        if package == "server":
            continue
        modules = [module for module in MODULES if package_of(module) == package]
        assert modules, package
        sources = list(map(source_of, modules))
        used = {package_of(it) for source in sources for it in ours(source)}
        assert of_ours - {package} <= used, package
        assert of_others <= {name for source in sources for name in others(source)}, package


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: ours(source_of(module)) for module in MODULES}).prepare()


def test_private_names_of_aiohttp_are_in_one_module() -> None:
    for module in MODULES:
        private = {name for name in imports(source_of(module)) if name.startswith("aiohttp._")}
        assert not private or module == "handlers/takeover.py"


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_depends_on_aiohttp_alone(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(source_of(module))}
    assert not roots & {"aiohttp_cors", "handlers", "hiredis", "hub", "orjson", "redis", "server"}
