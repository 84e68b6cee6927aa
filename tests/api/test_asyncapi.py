"""api/asyncapi.yaml, compared with the messages, codes and limits of the server."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hub.brokers.idempotency import REMEMBERED
from hub.errors import CLOSES, ErrorCode, Refusal
from hub.protocol import commands, validation
from hub.protocol.notices import Reason
from hub.sessions import WARNING
from hub.settings import Settings
from hub.version import VERSION
from tests.support.description import ASYNCAPI, OPENAPI, operation, texts, validator, walk
from tests.support.npm import NPM, needs_npm, node
from tests.support.patterns import write_out
from tests.support.process import ROOT
from tests.test_protocol_doc import CLIENT_TYPES, EXAMPLES

MESSAGES: dict[str, Any] = ASYNCAPI["components"]["messages"]
COMMANDS = {name for name in MESSAGES if name in CLIENT_TYPES}
LONGEST_TOPIC = Settings().max_topic_bytes
NUMBERS = {
    "Topic/maxLength": Settings().max_topic_bytes,
    "ClientId/maxLength": validation.MAX_CLIENT_ID_BYTES,
    "publish/payload/properties/idempotency_key/maxLength": validation.MAX_KEY_BYTES,
    # of a string; the quotes around it count
    "publish/payload/properties/message/properties/id/maxLength": validation.MAX_ID_BYTES - 2,
    "websocket/bindings/ws/query/properties/client_id/maxLength": validation.MAX_CLIENT_ID_BYTES,
}


@needs_npm
def test_it_is_valid_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    right, wrong = ROOT / "api/asyncapi.yaml", tmp_path / "wrong.yaml"
    pong = '"#/components/messages/pong"'
    assert pong in right.read_text()
    wrong.write_text(right.read_text().replace(pong, '"#/components/messages/pang"'))
    ran = node(NPM, "validate.js", str(right), str(wrong))
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert {line.split()[0] for line in ran.stdout.splitlines()} == {"wrong.yaml"}, ran.stdout


def test_it_has_the_version_of_the_server() -> None:
    assert ASYNCAPI["info"]["version"] == VERSION


# --- Names and numbers ----------------------------------------------------------------------------


def test_it_has_every_command_and_every_error_code() -> None:
    assert set(CLIENT_TYPES) == COMMANDS
    codes = ASYNCAPI["components"]["schemas"]["ErrorCode"]
    assert codes["enum"] == [it for it in ErrorCode if it is not ErrorCode.TOPIC_EXISTS]
    assert re.findall(r"`([A-Z_]{3,})`(?=[,:])", codes["description"]) == codes["enum"]


def test_it_has_every_reason_of_an_info() -> None:
    reasons = [
        it["payload"]["properties"]["reason"]["const"]
        for it in MESSAGES.values()
        if it["payload"]["properties"]["type"]["const"] == "info"
    ]
    assert sorted(reasons) == sorted(Reason)


def test_it_has_every_close() -> None:
    closes = ASYNCAPI["channels"]["websocket"]["x-closes"]
    assert closes == [it._asdict() for it in CLOSES]


def test_each_message_is_of_a_channel_and_of_an_operation() -> None:
    for name, channel in ASYNCAPI["channels"].items():
        sent = {
            it["$ref"].rpartition("/")[2]
            for task in ASYNCAPI["operations"].values()
            for part in (task, task.get("reply", {}))
            if part.get("channel", {}).get("$ref") == f"#/channels/{name}"
            for it in part["messages"]
        }
        assert sent == set(channel["messages"])
    assert set(MESSAGES) == {it for one in ASYNCAPI["channels"].values() for it in one["messages"]}


def test_limits_are_those_of_the_code() -> None:
    found = {
        re.sub(r"^/(components/(schemas|messages)|channels)/", "", place): value
        for place, value in walk(ASYNCAPI)
        if place.endswith("/maxLength")
    }
    assert found == NUMBERS
    query = {it["name"]: it["schema"] for it in operation("GET", "/events")["parameters"]}
    same = ASYNCAPI["operations"]["stream"]["bindings"]["http"]["query"]["properties"]
    assert same["topic"] == query["topic"]
    assert same["last_n"].items() >= query["last_n"].items()
    assert set(same) - {"access_token"} == set(query) - {"Last-Event-ID"}
    query = {it["name"]: it["schema"] for it in operation("GET", "/ws")["parameters"]}
    same = ASYNCAPI["channels"]["websocket"]["bindings"]["ws"]["query"]["properties"]
    assert same["topic"].items() >= query["topic"].items()
    assert same["last_n"].items() >= query["last_n"].items()
    assert set(same) - {"access_token"} == {name for name in query if name.islower()}


def test_numbers_of_settings_in_the_text_are_their_defaults() -> None:
    shown = re.findall(r"`([A-Z_]+)` \(([\d,]+)(?: s)?\)", texts(ASYNCAPI))
    assert shown
    for key, figure in shown:
        assert int(figure.replace(",", "")) == getattr(Settings(), key.lower()), key


def test_numbers_of_constants_in_the_text_are_right() -> None:
    text = texts(ASYNCAPI)
    assert f"more than {validation.MAX_ELEMENTS:,} elements" in text
    assert f"nested at most {validation.MAX_NESTING} levels deep" in text
    assert f"of at most {validation.MAX_ID_BYTES} bytes" in text
    assert f"within {REMEMBERED / 60:g} minutes" in text
    assert f"in {WARNING:g} s or less" in MESSAGES["tokenExpires"]["title"]


@pytest.mark.parametrize("name", ["Topic", "Payload", "Epoch", "Offset", "Time"])
def test_a_schema_is_that_of_the_other_description(name: str) -> None:
    assert ASYNCAPI["components"]["schemas"][name] == OPENAPI["components"]["schemas"][name]


def test_an_event_is_that_of_the_other_description() -> None:
    event = MESSAGES["event"]["payload"]
    with_history = OPENAPI["components"]["schemas"]["Event"]
    assert {*event["required"], "offset"} == set(with_history["required"])
    assert set(event["properties"]) == set(with_history["properties"])


# --- Messages -------------------------------------------------------------------------------------


def matching(message: Any, names: set[str], *, closed: bool = False) -> list[str]:
    """Return the names of the messages that a JSON value matches."""
    return sorted(name for name in names if payload_of(name, closed).is_valid(message))


@cache
def payload_of(name: str, closed: bool) -> Draft202012Validator:
    """Return what validates the payload of a message."""
    return validator(ASYNCAPI, MESSAGES[name]["payload"], closed=closed)


def name_of(message: dict[str, Any]) -> str:
    """Return the name that the description has for a message of the server."""
    kind = str(message["type"])
    if kind == "info":
        first, *rest = message["reason"].lower().split("_")
        return "".join([first, *(word.title() for word in rest)])
    return "authAck" if kind == "ack" and "topic" not in message else kind


@pytest.mark.parametrize(
    ("name", "payload"),
    [(name, it["payload"]) for name, message in MESSAGES.items() for it in message["examples"]],
)
def test_an_example_matches_its_message_alone(name: str, payload: Any) -> None:
    assert matching(payload, set(MESSAGES), closed=True) == [name]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda it: it["type"])
def test_an_example_of_the_protocol_matches_its_message_alone(example: dict[str, Any]) -> None:
    name = example["type"] if example["type"] in COMMANDS else name_of(example)
    assert matching(example, set(MESSAGES), closed=True) == [name]


VECTORS = json.loads((ROOT / "tests/vectors/websocket.json").read_text())


def conversations() -> Iterator[Any]:
    """Yield each command of the vectors that is JSON, with its answer."""
    for vector in VECTORS:
        waiting: dict[str, list[Any]] = {}
        for who, verb, what in vector["script"]:
            queue = waiting.setdefault(who, [])
            if verb.startswith("says"):
                queue.append(what if verb == "says" else None)
            elif verb == "hears" and what["type"] in ("ack", "error", "pong"):
                command = queue.pop(0) if queue else None  # none: the ack of a "subscribes"
                if command is not None:
                    yield pytest.param(command, what.get("error"), id=vector["name"])


def is_outside_of_schemas(command: Any, error: Any) -> bool:
    """Return whether a refused command has a form that is valid in another place.

    A schema knows nothing of nesting, of settings and of the name of a connection.
    """
    unnamed = error["code"] == "INVALID_CLIENT_ID" and "client_id" not in command
    return (
        unnamed
        or "nested" in error["message"]
        or "<10000 lists>" in str(command)
        or "at most 4 bytes" in error["message"]  # MAX_TOPIC_BYTES=4
    )


@pytest.mark.parametrize(("command", "error"), list(conversations()))
def test_a_command_of_a_vector_matches_unless_its_form_is_refused(
    command: Any, error: dict[str, Any] | None
) -> None:
    expected = [] if error and error["code"].startswith("INVALID_") else [command["type"]]
    if error and expected == [] and is_outside_of_schemas(command, error):
        expected = [command["type"]]
    else:
        command = json.loads(write_out(command))
    assert matching(command, COMMANDS) == expected


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(what, id=vector["name"])
        for vector in VECTORS
        for _, verb, what in vector["script"]
        if verb == "hears"
    ],
)
def test_a_message_of_the_server_in_a_vector_matches_its_message_alone(
    message: dict[str, Any],
) -> None:
    sent = {**message, "ts": "2026-11-24T10:00:00Z"}
    assert matching(sent, set(MESSAGES), closed=True) == [name_of(message)]


# For each key, values of which some are allowed. Numbers such as 1.0, which JSON Schema counts as
# whole, and limits in bytes are left out.
NAMES = st.sampled_from(["t", "x" * LONGEST_TOPIC, "x" * (LONGEST_TOPIC + 1), "", None, 1, ["t"]])
ANYTHING = st.sampled_from([None, True, 0, -1, 1.5, "", "text", [], {}, {"id": 1}])
OFFSETS = st.sampled_from([0, 7, -1, 1.5, "7", None, True])
CONTENT = st.fixed_dictionaries(
    {}, optional={"id": st.sampled_from([None, 1, "x" * 253, "x" * 254, {}]), "payload": ANYTHING}
)
POSITIONS = st.fixed_dictionaries({}, optional={"epoch": NAMES, "offset": OFFSETS})
SAID = st.fixed_dictionaries(
    {"type": st.sampled_from([*CLIENT_TYPES, "event", None])},
    optional={
        "topic": NAMES,
        "client_id": NAMES,
        "request_id": st.sampled_from(["r1", "", None, 7]),
        "message": st.one_of(CONTENT, ANYTHING),
        "payload": ANYTHING,
        "idempotency_key": NAMES,
        "recover": st.one_of(POSITIONS, ANYTHING),
        "last_n": OFFSETS,
        "token": NAMES,
        "colour": ANYTHING,
    },
)


@given(SAID)
@settings(max_examples=300)
def test_a_command_matches_a_message_if_and_only_if_the_server_accepts_its_form(
    said: dict[str, Any],
) -> None:
    decoded = commands.decode(json.dumps(said).encode(), LONGEST_TOPIC)
    expected = [] if isinstance(decoded, Refusal) else [said["type"]]
    assert matching(said, COMMANDS) == expected
