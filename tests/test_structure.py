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
    "hub/values.py",
}
# The parts of the standard library in the table's last column: for input and output, and the clock.
# The column also names every package of others.
NOTED = {
    "argparse",
    "asyncio",
    "logging",
    "os",
    "random",
    "resource",
    "select",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}
# Modules with imports that the rest of their package may not have.
MORE = {"handlers/sockets.py": {"resource", "select", "socket"}}

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("cli.py", "server.py", "hub/**/*.py", "handlers/**/*.py")
    for path in ROOT.glob(pattern)
)
CLIENT = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("clients/python/**/*.py"))


def package_of(module: str) -> str:
    """Return the row of the table that a module belongs to."""
    if module in GROUND:
        return "ground"
    if module in ("cli.py", "server.py", "hub/settings.py"):
        return Path(module).stem
    return Path(module).parent.name


def imports(module: str) -> Iterator[str]:
    """Yield the dotted names that a module imports, including those for types."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """Return the modules of this project that a module imports."""
    found = set()
    for name in imports(module):
        for dotted in (name, name.rpartition(".")[0]):
            path = f"{dotted.replace('.', '/')}.py"
            if path in MODULES:
                found.add(path)
    return found


def others(module: str) -> set[str]:
    """Return the packages of others that a module imports, and the noted parts of the library."""
    roots = {name.split(".")[0] for name in imports(module)}
    own = {path.split("/")[0].removesuffix(".py") for path in MODULES}
    return roots - own - (sys.stdlib_module_names - NOTED)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_packages_of_its_row(module: str) -> None:
    package = package_of(module)
    if package == "server":
        return
    of_ours, of_others = TABLE[package]
    assert {package_of(it) for it in ours(module)} <= of_ours | {package}
    assert others(module) <= of_others | MORE.get(module, set())


def test_every_import_in_the_table_is_used() -> None:
    for package, (of_ours, of_others) in TABLE.items():
        if package == "server":
            continue
        modules = [module for module in MODULES if package_of(module) == package]
        assert modules, package
        used = {package_of(it) for module in modules for it in ours(module)}
        assert of_ours - {package} <= used, package
        assert of_others <= {name for module in modules for name in others(module)}, package


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: ours(module) for module in MODULES}).prepare()


def test_private_names_of_aiohttp_are_in_one_module() -> None:
    for module in MODULES:
        private = {name for name in imports(module) if name.startswith("aiohttp._")}
        assert not private or module == "handlers/takeover.py"


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_depends_on_aiohttp_alone(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)}
    assert not roots & {"aiohttp_cors", "handlers", "hiredis", "hub", "orjson", "redis", "server"}
