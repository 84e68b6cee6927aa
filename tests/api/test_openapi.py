"""api/openapi.yaml, compared with the application, the settings, the gate and docs/protocol.md."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from handlers.answers import BODY_TIMEOUT
from handlers.takeover import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from hub.access import MAX_SUBJECT_BYTES
from hub.bans import MAX_BANS
from hub.brokers.idempotency import REMEMBERED
from hub.long_poll import MAX_WAITING
from hub.protocol import connect_requests, http_requests, list_requests, validation
from hub.protocol.sse import parse_id
from hub.settings import Settings
from hub.version import VERSION
from server import build_app
from tests.support.description import OPENAPI, errors, follow, operations, texts, walk
from tests.test_gate import LISTS, NEED_ALL, NEED_RIGHTS, OPEN
from tests.test_protocol_doc import rest_rows

# Every keyword that is a limit or a default, by the end of its place.
NUMBERS = {
    "Topic/maxLength": Settings().max_topic_bytes,
    "IdempotencyKey/maxLength": validation.MAX_KEY_BYTES,
    "PublishToMany/properties/topics/maxItems": http_requests.MAX_ITEMS,
    "Batch/properties/items/maxItems": http_requests.MAX_ITEMS,
    "History/properties/events/maxItems": http_requests.MAX_ITEMS,
    "DisconnectSubject/properties/sub/maxLength": MAX_SUBJECT_BYTES,
    "DisconnectClientId/properties/client_id/maxLength": validation.MAX_CLIENT_ID_BYTES,
    "Seconds/maximum": http_requests.MAX_BAN,
    "listTopics limit/maximum": list_requests.MAX_LISTED,
    "listTopics limit/default": list_requests.MAX_LISTED,
    "listConnections sub/maxLength": MAX_SUBJECT_BYTES,
    "listConnections topic/maxLength": Settings().max_topic_bytes,
    "listConnections limit/maximum": list_requests.MAX_LISTED,
    "listConnections limit/default": list_requests.MAX_LISTED,
    "readHistory since_offset/maximum": 10**15 - 1,  # a test below tries it
    "readHistory limit/maximum": http_requests.MAX_ITEMS,
    "readHistory limit/default": http_requests.DEFAULT_PAGE,
    "readHistory reverse/default": False,
    "readHistory wait/maximum": http_requests.MAX_WAIT,
    "readHistory wait/default": 0,
    "connect client_id/maxLength": validation.MAX_CLIENT_ID_BYTES,
    "connect topic/maxItems": connect_requests.MAX_URL_TOPICS,
    "connect last_n/maximum": 10**9 - 1,
    "readEvents topic/maxItems": connect_requests.MAX_STREAM_TOPICS,
    "readEvents last_n/maximum": 10**9 - 1,
}
KEYWORDS = ("maxLength", "maxItems", "maximum", "default")

# Statuses that any operation has, which protocol.md lists once; and those that not all have.
EVERYWHERE = {400, 401, 403, 429, 500}
NOT_FOR_PROBES = {421}
WITH_A_BODY = {408, 413, 415}
# Redis can be out of reach for these, or too many large batches under way.
MAY_BE_UNAVAILABLE = {
    ("POST", "/publish"),
    ("POST", "/publish/batch"),
    ("POST", "/topics"),
    ("DELETE", "/topics/{name}"),
    ("DELETE", "/topics/{name}/history"),
    ("GET", "/topics/{name}/history"),
    ("POST", "/disconnect"),
}
PROBES = {"/live", "/ready", "/health", "/metrics"}


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(OPENAPI).validate()


def test_it_has_the_version_of_the_server() -> None:
    assert OPENAPI["info"]["version"] == VERSION


async def test_it_has_every_route_and_no_other() -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in build_app(Settings()).router.routes()
        if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
    }
    assert {(method, path) for method, path, _ in operations()} == routes


async def test_only_the_paths_of_connections_have_get_without_head() -> None:
    methods: dict[str, set[str]] = {}
    for route in build_app(Settings()).router.routes():
        if route.resource is not None:
            methods.setdefault(route.resource.canonical, set()).add(route.method)
    without = {path for path, them in methods.items() if "GET" in them and "HEAD" not in them}
    assert without == {"/ws", "/events"}


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    names = [it["operationId"] for _, _, it in operations()]
    assert len(names) == len(set(names))
    assert all(it["summary"] and it["tags"] for _, _, it in operations())
    tags = [tag["name"] for tag in OPENAPI["tags"]]
    assert {tag for _, _, it in operations() for tag in it["tags"]} == set(tags)


def test_every_component_is_used() -> None:
    used = {value for place, value in walk(OPENAPI) if place.endswith("/$ref")}
    schemes = {
        f"#/components/securitySchemes/{name}"
        for _, _, it in operations()
        for requirement in it.get("security", [])
        for name in requirement
    }
    assert used | schemes == {
        f"#/components/{kind}/{name}"
        for kind, them in OPENAPI["components"].items()
        for name in them
    }


# --- Numbers --------------------------------------------------------------------------------------


def numbers() -> dict[str, Any]:
    """Return all numbers of NUMBERS by the same names."""
    found = {
        place.removeprefix("/schemas/"): value
        for place, value in walk({"schemas": OPENAPI["components"]["schemas"]})
        if place.rpartition("/")[2] in KEYWORDS
    }
    for _, _, it in operations():
        for parameter in it["parameters"]:
            name = f"{it['operationId']} {parameter['name']}"
            found |= {
                f"{name}/{key}": value
                for key, value in parameter["schema"].items()
                if key in KEYWORDS
            }
    return found


def test_limits_and_defaults_are_those_of_the_code() -> None:
    assert numbers() == NUMBERS


def test_numbers_of_settings_in_the_text_are_their_defaults() -> None:
    text = texts(OPENAPI)
    shown = re.findall(r"`([A-Z_]+)` \(([\d,]+)(?: s)?\)", text)
    assert shown
    for key, figure in shown:
        assert int(figure.replace(",", "")) == getattr(Settings(), key.lower()), key
    named = set(re.findall(r"`([A-Z_]{3,})`", text)) - {"GET", "HEAD", "OPTIONS"}
    assert {key for key in named if not hasattr(Settings(), key.lower())} == set()


def test_numbers_of_constants_in_the_text_are_right() -> None:
    text = texts(OPENAPI)
    assert f"and {validation.MAX_ELEMENTS:,} JSON elements" in text
    assert f"at most {validation.MAX_NESTING} levels deep" in text
    assert f"and the body at most {http_requests.MAX_BATCH_BYTES:,}." in text
    assert f"At most {MAX_WAITING:,} requests wait" in text
    assert f"of over {MAX_TARGET_BYTES:,} bytes gets 414" in text
    assert f"with a value of over {MAX_HEADER_BYTES:,} bytes 431" in text
    assert f"At most {MAX_BANS:,} subjects" in text
    assert f"within {REMEMBERED / 60:g} minutes" in text
    assert f"within {BODY_TIMEOUT:g} s" in text
    assert f"the first {list_requests.MAX_LISTED:,}, which are listed" in text
    assert f"at most {http_requests.MAX_BAN / 86_400:g} days" in text


@pytest.mark.parametrize(
    ("query", "valid"),
    [
        ({"since_epoch": "e", "since_offset": str(10**15 - 1)}, True),
        ({"since_epoch": "e", "since_offset": str(10**15)}, False),
    ],
)
def test_the_largest_offset_is_accepted(query: dict[str, str], valid: bool) -> None:
    decoded = http_requests.decode_history_query(query)
    assert isinstance(decoded, http_requests.HistoryQuery) == valid


@pytest.mark.parametrize(("last_n", "valid"), [(10**9 - 1, True), (10**9, False)])
def test_the_largest_last_n_is_accepted(last_n: int, valid: bool) -> None:
    query = [("topic", "t"), ("last_n", str(last_n))]
    decoded = connect_requests.decode_stream_query(query, "", 255)
    assert isinstance(decoded, connect_requests.StreamQuery) == valid


@pytest.mark.parametrize(
    "event_id",
    ["-", "e:1", "e:1,-,f:2", "e", ":1", "e:", "e:1,", "e:-1", "é:1", "e:1234567890123456"],
)
def test_the_pattern_of_an_event_id_is_that_of_the_code(event_id: str) -> None:
    valid = parse_id(event_id, event_id.count(",") + 1) is not None
    schema = OPENAPI["components"]["schemas"]["EventId"]
    assert (errors(OPENAPI, schema, event_id) == []) == valid


# --- Rights and statuses --------------------------------------------------------------------------


def gate(route: tuple[str, str]) -> tuple[str, str]:
    """Return a route of the gate's tables as the description has it."""
    return route[0], route[1].replace(r"{name:[\s\S]+}", "{name}")


def test_roles_are_the_rights_that_the_gate_asks_for() -> None:
    roles = {
        (method, path): {
            role for alternative in it.get("security", []) for role in alternative.get("token", [])
        }
        for method, path, it in operations()
    }
    expected = {gate(it): {verb for verb, _ in asks.questions} for it, asks in NEED_RIGHTS.items()}
    expected |= {gate(it): {"manage"} for it in (*NEED_ALL, *LISTS)}
    expected |= {it: set() for it in OPEN}
    assert roles == expected


def test_credentials_are_optional_and_a_token_in_the_url_is_for_connections() -> None:
    for _, path, it in operations():
        alternatives = it.get("security", [])
        assert not alternatives or alternatives[0] == {}  # access may be off
        in_url = any("tokenInUrl" in alternative for alternative in alternatives)
        assert in_url == (path in ("/ws", "/events"))


def documented() -> dict[tuple[str, str], set[int]]:
    """Return the statuses of each call in docs/protocol.md that are not those of any call."""
    found: dict[tuple[str, str], set[int]] = {}
    for call, status, _ in rest_rows():
        if call != "any":
            method, _, path = call.partition(" ")
            found.setdefault((method, path), set()).add(status)
    found["DELETE", "/topics/{name}/history"] = found["DELETE", "/topics/{name}"]
    return found


def test_statuses_are_those_of_the_protocol() -> None:
    described = {
        (method, path): set(map(int, it["responses"])) for method, path, it in operations()
    }
    expected = documented()
    for method, path in expected:
        more = EVERYWHERE if path in PROBES else EVERYWHERE | NOT_FOR_PROBES
        if method == "POST":
            more = more | WITH_A_BODY
        if (method, path) in MAY_BE_UNAVAILABLE:
            more = more | {503}
        expected[method, path] |= more
    assert described == expected


def test_headers_that_say_what_to_do_are_described() -> None:
    for _, _, it in operations():
        for status, response in it["responses"].items():
            headers = follow(OPENAPI, response).get("headers", {})
            assert ("Retry-After" in headers) == (status in ("429", "503"))
            assert ("WWW-Authenticate" in headers) == (status == "401")
