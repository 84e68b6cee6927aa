"""The catalogue of log lines, held against every call in the code and the table in docs/logs.md."""

import ast
import logging
import re
from collections import defaultdict
from pathlib import Path

import pytest

from hub.access import ANONYMOUS
from hub.event_log import caller_fields, client_fields
from hub.logs import events
from hub.logs.events import CALLER, CLIENT, OFTEN, REQUEST, SELDOM, Event, Limit
from tests.support.node import Node
from tests.test_structure import MODULES, ROOT, imports, source_of

CATALOGUE = {name: it for name, it in vars(events).items() if isinstance(it, Event)}
WRITTEN_ELSEWHERE = {"IGNORED_FAULT", "LEFT_OUT"}  # by hub/logs/ itself
GROUPS = {"client_fields": CLIENT, "caller_fields": CALLER, "request_fields": REQUEST}
RATES: dict[Limit | None, str] = {OFTEN: "10 a second", SELDOM: "1 a minute", None: ""}
SHORT = {"*client*": CLIENT, "*request*": REQUEST}  # fields that the table abbreviates
ROW = re.compile(r"\| ([^|`]+) \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]+) \|")


def calls(module: str) -> list[tuple[str, set[str]]]:
    """Return the events that a module logs, each with the fields of the call."""
    found = []
    for node in ast.walk(ast.parse(source_of(module))):
        func = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and isinstance(func, ast.Attribute) and func.attr == "log":
            found.append((event_of(func.value), fields_of(node)))
    return found


def event_of(node: ast.expr) -> str:
    assert isinstance(node, ast.Attribute), ast.unparse(node)
    assert ast.unparse(node.value) == "events", ast.unparse(node)
    return node.attr


def fields_of(call: ast.Call) -> set[str]:
    fields: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg is not None:
            fields.add(keyword.arg)
        else:
            assert isinstance(keyword.value, ast.Call)
            fields.update(GROUPS[ast.unparse(keyword.value.func)])
    return fields


def test_every_call_is_of_an_event_and_has_its_fields() -> None:
    logged = defaultdict(set)
    for module in MODULES:
        if not module.startswith("hub/logs/"):
            for name, fields in calls(module):
                logged[name] |= fields
    assert logged.keys() | WRITTEN_ELSEWHERE == CATALOGUE.keys()
    for name, fields in logged.items():
        assert fields == set(CATALOGUE[name].fields), name


@pytest.mark.parametrize("source", ["log.log()", "events.log()", "it.events.FULL.log()"])
def test_a_call_of_anything_else_is_found(source: str) -> None:
    (call,) = [it for it in ast.walk(ast.parse(source)) if isinstance(it, ast.Call)]
    assert isinstance(call.func, ast.Attribute)
    with pytest.raises(AssertionError):
        event_of(call.func.value)


def test_of_the_server_only_the_package_of_the_log_imports_logging() -> None:
    users = {module for module in MODULES if "logging" in set(roots(module))}
    users.discard("cli/follow.py")  # it prints warnings of the client
    assert {Path(module).parent.as_posix() for module in users} == {"hub/logs"}


def roots(module: str) -> list[str]:
    return [name.partition(".")[0] for name in imports(source_of(module))]


def test_the_fields_about_clients_and_callers_are_those_of_the_catalogue() -> None:
    node = Node()
    assert tuple(client_fields(node.connect().client)) == CLIENT
    assert tuple(caller_fields(ANONYMOUS)) == CALLER


def test_the_table_of_lines_is_complete() -> None:
    rows = ROW.findall((ROOT / "docs/logs.md").read_text().partition("## Lines")[2])[1:]
    table = {event: (level, rate, fields) for event, level, rate, fields, _ in rows}
    assert len(table) == len(rows)
    level = {it: logging.getLevelName(it.level).lower() for it in CATALOGUE.values()}
    assert table == {
        it.name: (level[it], RATES[it.limit], abbreviated(it.fields)) for it in CATALOGUE.values()
    }


def test_the_abbreviations_of_the_table_are_explained() -> None:
    for name, fields in SHORT.items():
        assert f"- {name}: {shown(fields)}" in (ROOT / "docs/logs.md").read_text()


def abbreviated(fields: tuple[str, ...]) -> str:
    text = shown(fields)
    for name, group in SHORT.items():
        text = text.replace(shown(group), name)
    return text


def shown(fields: tuple[str, ...]) -> str:
    return " ".join(f"`{field}`" for field in fields)
