"""Changes to the requests of schemathesis: rules that OpenAPI cannot express, and long waits."""

import re
from collections.abc import Iterator
from typing import Any

import requests
import schemathesis
from schemathesis import Case, HookContext

POSITION = r"(?:[0-9A-Za-z]{1,64}:[0-9]{1,15}|-)"
LIMIT = 255  # of characters in a schema, and of bytes in the server


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Drop a string whose characters are few enough, and whose bytes are too many.

    A schema counts characters.
    """
    parts = (case.path_parameters, case.query, case.body)
    return not any(
        len(text) <= LIMIT < len(text.encode(errors="replace"))
        for part in parts
        for text in strings(part)
    )


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from strings(child)


@schemathesis.hook("filter_case").apply_to(operation_id=["readEvents", "connect"])
def has_no_plain_topic(context: HookContext, case: Case) -> bool:
    """Drop a topic in place of the list of topics: in a query, it is a list of one."""
    topic = case.query.get("topic")
    return not isinstance(topic, str) or not 0 < len(topic) <= LIMIT


@schemathesis.hook("before_call").apply_to(operation_id="readHistory")
def agree(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Send both parts of a position or none, and no `wait` with `reverse`; do not wait for long.

    Parameters depend on each other, which a schema does not know.
    """
    query = case.query
    if is_number(query.get("wait"), 60):
        query["wait"] = 0.01
        if query.get("reverse") in (True, "true"):
            del query["wait"]
    if query.get("since_offset", "") == "":
        query.pop("since_epoch", None)
    if query.get("since_epoch", "") == "" and is_number(query.get("since_offset"), 10**15 - 1):
        del query["since_offset"]


def is_number(value: Any, maximum: int) -> bool:
    """Return whether a parameter is a number, or the text of one, from 0 to `maximum`."""
    if isinstance(value, bool):
        return False
    try:
        return 0 <= float(value) <= maximum
    except (TypeError, ValueError):
        return False


@schemathesis.hook("before_call").apply_to(operation_id=["readEvents", "connect"])
def place_in_each_topic(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Send as many positions as topics: a schema does not count them together."""
    topics = case.query.get("topic", [])
    count = len(topics) if isinstance(topics, list) else 1
    sources = (
        (case.query, "last_event_id"),
        (case.query, "recover"),
        (case.headers, "Last-Event-ID"),
    )
    for fields, name in sources:
        positions = fields.get(name)
        if isinstance(positions, str) and re.fullmatch(rf"{POSITION}(,{POSITION})*", positions):
            fields[name] = ",".join([positions.split(",")[0]] * count)


@schemathesis.hook("before_call").apply_to(operation_id="connect")
def leave_upgraded(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Close a connection that has become a WebSocket, so that no request is sent on it."""
    kwargs["hooks"] = {"response": close_upgraded}


def close_upgraded(response: requests.Response, *_: Any, **__: Any) -> None:
    if response.status_code == requests.codes.switching_protocols:
        response.raw.connection.close()
