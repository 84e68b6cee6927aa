"""The examples of api/openapi.yaml, sent to a real server, and the vectors of REST.

Every answer must match the schema of its status, and have no field that the schema does not name.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from hub.settings import Settings
from tests.support.description import (
    OPENAPI,
    answer_errors,
    errors,
    follow,
    operation,
    operations,
    walk,
)
from tests.support.patterns import write_out
from tests.support.process import ROOT
from tests.support.raw import raw_client
from tests.support.server import Running, running

# Parameters that are sent together, where this differs from one at a time. The position in the
# examples is of another server, so its events are not remembered.
TOGETHER = {
    "readHistory": [["since_epoch", "since_offset", "limit", "wait"], ["reverse"]],
    "connect": [["client_id"], ["topic", "recover", "last_n"], ["Sec-WebSocket-Protocol"]],
}
STATUSES = {("readHistory", "since_epoch"): 410}


def sends(described: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield the parameters, by name, and the body of each request with the examples."""
    required = [it["name"] for it in described["parameters"] if it.get("required")]
    optional = [[it["name"]] for it in described["parameters"] if "required" not in it]
    content = described.get("requestBody", {}).get("content", {})
    bodies = [
        it["value"] for it in content.get("application/json", {}).get("examples", {}).values()
    ]
    for body in bodies or [None]:
        yield required, body
    for names in TOGETHER.get(described["operationId"], optional):
        if names != ["Idempotency-Key"]:  # tests/handlers/test_idempotency.py
            yield [*required, *names], bodies[0] if bodies else None


EXAMPLES = [
    pytest.param(method, path, names, body, id=f"{described['operationId']}-{number}")
    for method, path, described in operations()
    for number, (names, body) in enumerate(sends(described))
]


@pytest_asyncio.fixture
async def busy() -> AsyncIterator[Running]:
    """A server with history and a subscriber of "news", to which one event was published."""
    async with (
        running(Settings(history_size=10)) as server,
        raw_client(server.port) as subscriber,
        ClientSession(server.url) as session,
    ):
        await subscriber.subscribe("news")
        body = {"topic": "news", "payload": "hello"}
        async with session.post("/publish", json=body) as answer:
            assert answer.status == 200
        yield server


def placed(
    path: str, described: dict[str, Any], names: list[str]
) -> tuple[str, list[tuple[str, str]], dict[str, str]]:
    """Return the path, the query and the headers of a request with these parameters."""
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    for it in described["parameters"]:
        if it["name"] not in names:
            continue
        value = it["example"]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if it["in"] == "path":
            path = path.replace(f"{{{it['name']}}}", quote(text, safe=""))
        elif it["in"] == "header":
            headers[it["name"]] = text
        else:
            values = value if isinstance(value, list) else [text]
            query += [(it["name"], one) for one in values]
    return path, query, headers


@pytest.mark.parametrize(("method", "path", "names", "body"), EXAMPLES)
async def test_an_example_of_a_request_has_a_described_answer(
    busy: Running, method: str, path: str, names: list[str], body: Any
) -> None:
    described = operation(method, path)
    name = described["operationId"]
    place, query, headers = placed(path, described, names)
    if name == "deleteTopicNamedHistory":
        await created(busy, "news/history")
    status = int(next(iter(described["responses"])))  # the first one is success
    status = STATUSES.get((name, next((it for it in names if (name, it) in STATUSES), "")), status)
    async with (
        ClientSession(busy.url) as session,
        session.request(method, place, params=query, headers=headers, json=body) as answer,
    ):
        assert answer.status == status
        if name == "readEvents":
            assert (await answer.content.readline()).startswith(b"retry: ")
        elif status != 101:
            given = await answer.read()
            assert answer_errors(described, status, answer.content_type, given) == []


async def created(server: Running, topic: str) -> None:
    async with (
        ClientSession(server.url) as session,
        session.post("/topics", json={"name": topic}) as answer,
    ):
        assert answer.status == 201


def contents() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield the place, the schema and the value of each example of a body or parameter."""
    for place, value in walk(OPENAPI):
        if isinstance(value, dict) and "schema" in value:
            for name, example in value.get("examples", {}).items():
                yield f"{place}/{name}", value["schema"], follow(OPENAPI, example)["value"]
            if "example" in value:
                yield place, value["schema"], value["example"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [pytest.param(schema, value, id=place) for place, schema, value in contents()],
)
def test_an_example_matches_its_schema(schema: dict[str, Any], value: Any) -> None:
    assert errors(OPENAPI, schema, value, closed=True) == []


# --- Vectors --------------------------------------------------------------------------------------

SCRIPTS = json.loads((ROOT / "tests/vectors/rest.json").read_text())
CALLS = [step for vector in SCRIPTS for step in vector["requests"] if "call" in step]
TEMPLATES = {
    (method, path): re.compile(re.escape(path).replace(r"\{name\}", ".+"))
    for method, path, _ in operations()
}
# Refusals of bodies that match the schema, which knows nothing of nesting.
TOO_DEEP = ("<251 lists>", "<10000 lists>")


def described_call(call: str) -> dict[str, Any] | None:
    """Return the operation that a vector calls; None if there is none."""
    method, _, target = call.partition(" ")
    path = target.partition("?")[0]
    for (verb, template), pattern in TEMPLATES.items():
        if verb == method and pattern.fullmatch(path):
            return operation(verb, template)
    return None


@pytest.mark.parametrize("step", CALLS, ids=lambda it: f"{it['status']} {it['call']}")
def test_the_answer_of_a_vector_is_described(step: dict[str, Any]) -> None:
    described = described_call(step["call"])
    if described is None:
        assert step["status"] in (404, 405)
        assert errors(OPENAPI, {"$ref": "#/components/schemas/Error"}, step["answer"]) == []
    else:
        body = json.dumps(step["answer"]).encode()
        assert answer_errors(described, step["status"], "application/json", body) == []


@pytest.mark.parametrize(
    "step", [it for it in CALLS if "body" in it], ids=lambda it: f"{it['status']} {it['call']}"
)
def test_the_body_of_a_vector_matches_its_schema_unless_it_is_refused(step: dict[str, Any]) -> None:
    described = described_call(step["call"])
    assert described is not None
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    valid = step["status"] != 400
    body = step["body"]
    if body.get("payload") in TOO_DEEP:
        assert not valid
        valid = True
    else:
        body = json.loads(write_out(body))
    assert (errors(OPENAPI, schema, body) == []) == valid
