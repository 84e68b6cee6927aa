"""The descriptions in api/, and the schemas in them."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.support.process import ROOT

OPENAPI: dict[str, Any] = yaml.safe_load((ROOT / "api/openapi.yaml").read_text())
ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "api/asyncapi.yaml").read_text())
METHODS = ("get", "post", "delete")


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value in a document with its place, such as `/info/title`."""
    yield place, value
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from walk(child, f"{place}/{key}")


def texts(document: dict[str, Any]) -> str:
    """Return all descriptions and summaries of a document, each in one line."""
    return "\n".join(
        " ".join(value.split())
        for place, value in walk(document)
        if place.endswith(("/description", "/summary")) and isinstance(value, str)
    )


def follow(document: dict[str, Any], value: Any) -> Any:
    """Return what a reference refers to; another value as it is."""
    while isinstance(value, dict) and "$ref" in value:
        target: Any = document
        for key in value["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        value = target
    return value


def validator(
    document: dict[str, Any], schema: Any, *, closed: bool = False
) -> Draft202012Validator:
    """Return what validates values by a schema of a document.

    Args:
        document: it has the components to which the schema refers.
        schema: the schema.
        closed: whether objects may have only the properties that the schema names.
    """
    whole = {"components": document["components"], "allOf": [schema]}
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(_closed(whole) if closed else whole, format_checker=checker)


def errors(document: dict[str, Any], schema: Any, value: Any, *, closed: bool = False) -> list[str]:
    """Return why a value does not match a schema; an empty list if it does. See `validator`."""
    found = validator(document, schema, closed=closed).iter_errors(value)
    return [f"{json.dumps(list(it.path))}: {it.message}" for it in found]


def _closed(value: Any) -> Any:
    """Return a copy of schemas in which no object allows properties that have no name."""
    value = deepcopy(value)
    for _, it in walk(value):
        if isinstance(it, dict) and isinstance(it.get("properties"), dict):
            it.setdefault("additionalProperties", False)
    return value


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the operation of each operation of OPENAPI."""
    for path, item in OPENAPI["paths"].items():
        for method in METHODS:
            if method in item:
                shared = item.get("parameters", [])
                own = item[method].get("parameters", [])
                parameters = [follow(OPENAPI, it) for it in [*shared, *own]]
                yield method.upper(), path, {**item[method], "parameters": parameters}


def operation(method: str, path: str) -> dict[str, Any]:
    """Return one operation of OPENAPI."""
    (found,) = (it for verb, where, it in operations() if (verb, where) == (method, path))
    return found


def answer_errors(described: dict[str, Any], status: int, kind: str, body: bytes) -> list[str]:
    """Return why an answer of this content type is not one that an operation describes."""
    if str(status) not in described["responses"]:
        return [f"status {status} is not described"]
    response = follow(OPENAPI, described["responses"][str(status)])
    if "content" not in response:
        return [f"a body: {body!r}"] if body else []
    if kind not in response["content"]:
        return [f"content type {kind} is not described"]
    content = response["content"][kind]
    value = json.loads(body) if kind == "application/json" else body.decode()
    return errors(OPENAPI, content["schema"], value, closed=True)
