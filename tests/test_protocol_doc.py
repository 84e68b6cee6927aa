"""docs/protocol.md and docs/rest.md, compared with the server: codes, examples and tables.

Every row of the tables of broken input and of REST is tested on a real server; a row without a
test fails, and so does a test without a row.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from handlers.routes import ROUTES
from handlers.takeover import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from hub.brokers import idempotency as once
from hub.brokers.history import History
from hub.brokers.memory import MemoryBroker
from hub.errors import CLOSES, ErrorCode, Refusal
from hub.event_stream import RETRY, preamble
from hub.long_poll import MAX_WAITING
from hub.origins import parse_origins
from hub.protocol import commands, validation
from hub.protocol import replies as outbound
from hub.protocol.connect_requests import MAX_STREAM_TOPICS, MAX_URL_TOPICS
from hub.protocol.notices import Reason
from hub.settings import Settings
from hub.values import Position, Rule
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame, mask
from tests.support.markdown import code, section, table
from tests.support.node import Node
from tests.support.process import ROOT
from tests.support.raw import RawClient, raw_client
from tests.support.server import Running, running

DOCUMENT = (ROOT / "docs/protocol.md").read_text()
CALLS = (ROOT / "docs/rest.md").read_text()
SOURCE = "".join(file.read_text() for file in sorted((ROOT / "hub").glob("**/*.py")))
LIMIT = Settings().max_message_bytes
LONGEST_TOPIC = Settings().max_topic_bytes


# --- Overviews ------------------------------------------------------------------------------------


def test_the_messages_of_the_overview_are_accepted() -> None:
    kinds = set()
    for row in table(DOCUMENT, "Overview"):
        command = commands.decode(code(row[0])[0].encode(), LONGEST_TOPIC)
        assert not isinstance(command, Refusal), command
        kinds.add(type(command))
    assert kinds == set(get_args(commands.Command))


def test_the_overview_names_every_kind_of_message_that_the_server_sends() -> None:
    sent = (
        outbound.encode_ack("", "t", ""),
        outbound.encode_event("t", "", None, ""),
        outbound.encode_error(Refusal(ErrorCode.INVALID_TOPIC, ""), ""),
        outbound.encode_pong("", ""),
        outbound.encode_info(None, "", "", "", ""),
    )
    kinds = {message.split(b'"')[3].decode() for message in sent}
    assert kinds <= set(code(section(DOCUMENT, "Overview")))


def test_the_table_of_calls_has_every_route_and_no_other() -> None:
    routes = {
        f"{route.method} {re.sub(r':[^}]*', '', route.path)}"
        for route in ROUTES
        if isinstance(route, web.RouteDef)
    }
    assert len(routes) == len(ROUTES)
    routes.remove("DELETE /topics/{name}/history")  # the call for a topic whose name ends so
    rows = table(CALLS, "Calls")
    assert {code(row[0])[0] for row in rows} == routes
    assert len(rows) == len(routes)


# --- Codes ----------------------------------------------------------------------------------------


def test_the_error_table_has_every_code_and_no_other() -> None:
    assert [row[0] for row in table(DOCUMENT, "Errors")] == [f"`{code}`" for code in ErrorCode]


def test_every_error_has_its_cause_and_remedy() -> None:
    assert [row for row in table(DOCUMENT, "Errors") if not all(row)] == []


def test_the_close_table_is_that_of_the_code() -> None:
    assert [row[:4] for row in table(DOCUMENT, "Close codes")] == [
        [str(close.code), f"`{close.reason}`", close.fault, "yes" if close.reconnect else "no"]
        for close in CLOSES
    ]


def test_every_close_has_its_cause() -> None:
    assert [row for row in table(DOCUMENT, "Close codes") if not all(row)] == []


def test_numbers_of_settings_are_their_defaults() -> None:
    figures = re.findall(r"`([A-Z_]+)` \(([\d,]+)(?: s)?()\)", DOCUMENT)
    figures += re.findall(r"()([\d,]+) bytes of UTF-8 \(`(MAX_TOPIC_BYTES)`\)", DOCUMENT)
    shown = {key or named: int(figure.replace(",", "")) for key, figure, named in figures}
    named = set(re.findall(r"`([A-Z_]{3,})`", DOCUMENT))
    assert shown == {
        key: value
        for key in named
        if type(value := getattr(Settings(), key.lower(), None)) in (int, float)
    }


def test_numbers_of_constants_are_right() -> None:
    assert f"Up to {MAX_STREAM_TOPICS} topics" in DOCUMENT
    assert f"up to {MAX_URL_TOPICS} topics" in DOCUMENT
    assert "given by `retry`: 1 to 5 seconds" in DOCUMENT
    assert RETRY == (1_000, 5_000)
    levels = re.findall(r"(\d+) levels", DOCUMENT)
    assert levels
    assert {int(level) for level in levels} == {validation.MAX_NESTING}
    assert f"non-empty string\nof at most {validation.MAX_CLIENT_ID_BYTES} bytes." in DOCUMENT
    assert f"`id` is any JSON of at most {validation.MAX_ID_BYTES} bytes" in DOCUMENT
    assert f"a string of 1 to {validation.MAX_KEY_BYTES} bytes" in DOCUMENT
    assert f"{MAX_WAITING:,} requests that wait" in DOCUMENT
    assert f"a path with a query of over {MAX_TARGET_BYTES:,} bytes" in DOCUMENT
    assert f"a header with a value of over {MAX_HEADER_BYTES:,} bytes" in DOCUMENT
    assert f"at most {once.LIMIT:,} keys, in at most {once.MAX_BYTES >> 20} MiB" in DOCUMENT


# --- Examples -------------------------------------------------------------------------------------

EXAMPLES = [
    json.loads(example)
    for example in re.findall(r"(?ms)^ *```json\n(.*?)^ *```$", DOCUMENT)  # one object each
]
STREAMS = re.findall(r"(?ms)^```text\n(.*?)^```$", DOCUMENT)
CLIENT_TYPES = {
    "subscribe": commands.Subscribe,
    "unsubscribe": commands.Unsubscribe,
    "publish": commands.Publish,
    "ping": commands.Ping,
    "auth": commands.Auth,
}
INFO_FIELDS = ("reconnect", "expires_at", "until")
FROM_CLIENTS = [example for example in EXAMPLES if example["type"] in CLIENT_TYPES]
FROM_THE_SERVER = [example for example in EXAMPLES if example["type"] not in CLIENT_TYPES]


def name(example: dict[str, Any]) -> str:
    return str(example["type"])


def test_there_is_an_example_of_every_message() -> None:
    assert {name(example) for example in FROM_CLIENTS} == set(CLIENT_TYPES)
    assert {name(example) for example in FROM_THE_SERVER} == {
        "ack",
        "event",
        "error",
        "pong",
        "info",
    }
    assert len(EXAMPLES) + len(STREAMS) == DOCUMENT.count("```") / 2, "a block is no example"


def test_the_example_of_a_stream_is_exact() -> None:
    epoch = "9f86d081884c7d65"
    broker = MemoryBroker(lambda: 0.0, {"": Rule(10, 60.0, 10_000)}, lambda: epoch)
    node = Node(broker=broker)
    node.subscribed("news")
    for _ in range(19):
        node.hub.publish("news", "m1", "hello", lambda _: None)
    node.tick()
    stream = node.stream("news", last_id=f"{epoch}:18")
    node.tick()
    sent = (preamble() + stream.transport.written).decode()
    (shown,) = STREAMS
    assert masked(sent) == masked(shown) + "\n"


def masked(stream: str) -> str:
    """Replace the parts that differ from run to run."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}Z|(?<=retry: )\d{4}", "", stream)


@pytest.mark.parametrize("example", FROM_CLIENTS, ids=name)
def test_an_example_of_a_client_is_accepted(example: dict[str, Any]) -> None:
    command = commands.decode(json.dumps(example).encode(), LONGEST_TOPIC)
    assert type(command) is CLIENT_TYPES[example["type"]]


@pytest.mark.parametrize("example", FROM_THE_SERVER, ids=name)
def test_an_example_of_the_server_is_exact(example: dict[str, Any]) -> None:
    request_id, topic, ts = (example.get(key, "") for key in ("request_id", "topic", "ts"))
    message = example.get("message", {})
    if example["type"] == "ack" and not topic:
        sub, expires_at = (example.get(key, "") for key in ("sub", "expires_at"))
        sent = outbound.encode_auth_ack(request_id, ts, sub, expires_at)
    elif example["type"] == "ack":
        flags = ("degraded", "duplicate", "recovered")
        extras = {key: example[key] for key in flags if key in example}
        if "epoch" in example:
            extras["position"] = Position(example["epoch"], example["offset"])
        sent = outbound.encode_ack(request_id, topic, ts, **extras)
    elif example["type"] == "event":
        sent = outbound.encode_event(topic, message["id"], message["payload"], ts)
        if "offset" in example:
            history = History("", Rule(1, 1.0, 1_000), example["offset"] - 1)
            sent = history.append(sent, 0.0)
    elif example["type"] == "error":
        error = example["error"]
        refusal = Refusal(
            ErrorCode(error["code"]), error["message"], request_id, error.get("retry_after_ms", 0)
        )
        sent = outbound.encode_error(refusal, ts)
    elif example["type"] == "pong":
        sent = outbound.encode_pong(request_id, ts)
    else:
        reason = Reason(example["reason"])
        extras = {key: example[key] for key in INFO_FIELDS if key in example}
        sent = outbound.encode_info(
            topic or None, message["id"], message["payload"], reason, ts, extras
        )
    # Compared as text, since the order and the absence of keys matter.
    assert json.dumps(json.loads(sent)) == json.dumps(example)


@pytest.mark.parametrize("example", FROM_THE_SERVER, ids=name)
def test_a_text_of_an_example_is_one_of_the_server(example: dict[str, Any]) -> None:
    sentence = example.get("error", example.get("message", {}))
    text = sentence.get("message") or sentence.get("payload", "")
    if isinstance(text, str):
        assert text.replace("news", "{topic}" if "'news'" in text else "news") in SOURCE


# --- Broken input ---------------------------------------------------------------------------------


def text(data: str | bytes) -> bytes:
    return client_frame(TEXT, data if isinstance(data, bytes) else data.encode())


def publish(payload: str) -> bytes:
    return text(f'{{"type":"publish","topic":"t","payload":{payload}}}')


def close(code: int, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, code.to_bytes(2, "big") + reason)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def padded(size: int) -> bytes:
    return b'{"type":"ping"' + b" " * (size - 15) + b"}"


FIRST_HALF = client_frame(TEXT, b'{"type":', fin=False)
SECOND_HALF = client_frame(CONTINUATION, b'"ping"}')

# The bytes for the first cell of each row; each has its own connection.
ARRIVALS = {
    "text that is not JSON, is empty, or starts with a byte order mark": [
        text("hello"),
        text(""),
        text(b'\xef\xbb\xbf{"type":"ping"}'),
    ],
    "`NaN`, `Infinity`, or a number that no double can hold": [
        publish("NaN"),
        publish("Infinity"),
        publish("-Infinity"),
        publish("1e400"),
        publish("9" * 400),
    ],
    'an escaped lone surrogate (`"\\ud800"`)': [publish('"\\ud800"'), publish('"\\udc00!"')],
    "JSON that is no object": [text("[]"), text("1"), text('"ping"'), text("null")],
    "a `request_id` that is no string": [
        text('{"type":"ping","request_id":1}'),
        text('{"type":"ping","request_id":null}'),
    ],
    "a `message` that is null or no object": [
        text('{"type":"publish","topic":"t","payload":1,"message":null}'),
        text('{"type":"publish","topic":"t","message":"hello"}'),
    ],
    "an `id` of over 255 bytes of JSON": [
        text('{"type":"publish","topic":"t","message":{"id":"%s"}}' % ("x" * 254)),
        text('{"type":"publish","topic":"t","message":{"id":[%s1]}}' % ("1," * 127)),
    ],
    "a payload nested over 250 levels": [publish(nested(251)), publish(nested(20_000))],
    "a binary message": [client_frame(BINARY, b'{"type":"ping"}'), client_frame(BINARY)],
    "a `type` that is missing, unknown or no string": [
        text("{}"),
        text('{"type":"PING"}'),
        text('{"type":["ping"]}'),
    ],
    "a `topic` that is no string": [
        text('{"type":"subscribe","topic":1}'),
        text('{"type":"publish","topic":{},"payload":1}'),
    ],
    "a `client_id` that is no string": [text('{"type":"subscribe","topic":"t","client_id":1}')],
    "a payload nested 250 levels": [publish(nested(250))],
    "an integer beyond 64 bits": [publish(str(2**64)), publish(str(-(2**63) - 1))],
    "an unknown key, or a key that comes twice": [
        text('{"type":"ping","colour":"red"}'),
        text('{"type":"pong","type":"ping"}'),
    ],
    "a message of exactly `MAX_MESSAGE_BYTES` (65,536)": [text(padded(LIMIT))],
    "a fragmented message, control frames between its fragments": [
        FIRST_HALF + SECOND_HALF,
        FIRST_HALF + client_frame(PONG, b"here") + SECOND_HALF,
    ],
    "a message over `MAX_MESSAGE_BYTES`": [
        text(padded(LIMIT + 1)),
        client_frame(TEXT, b" " * LIMIT, fin=False) + client_frame(CONTINUATION, b" "),
    ],
    "a text message that is not UTF-8": [text(b'{"type":"ping\xff"}'), text(b"\xed\xa0\x80")],
    "an unmasked frame": [client_frame(TEXT, b'{"type":"ping"}', masked=False)],
    "a reserved bit, or a reserved opcode": [
        *(client_frame(TEXT, b'{"type":"ping"}', rsv=bit) for bit in (1, 2, 4)),
        client_frame(3),
        client_frame(15),
    ],
    "a length in more bytes than it needs, or with the top bit set": [
        bytes.fromhex("81fe007d00000000"),
        bytes.fromhex("81ff000000000000ffff00000000"),
        bytes.fromhex("81ff800000000000000500000000"),
    ],
    "a fragment of no message, or a new message inside another": [
        SECOND_HALF,
        FIRST_HALF + text('{"type":"ping"}'),
    ],
    "a control frame in fragments, or of over 125 bytes": [
        client_frame(PING, fin=False),
        client_frame(PING, b" " * 126),
    ],
    "a Close with a code": [close(1000), close(1001, b"bye"), close(3000), close(4999)],
    "a Close without a code": [client_frame(CLOSE)],
    "a Close with a code that must not be sent, half a code, or a reason that is not UTF-8": [
        *map(close, (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
        client_frame(CLOSE, b"\x03"),
        close(1000, b"\xff"),
    ],
    "the end of your sending side, without a Close": [b""],
}


@pytest_asyncio.fixture
async def client(server: Running) -> AsyncIterator[RawClient]:
    """A connection with a name, subscribed to `t`."""
    async with raw_client(server.port) as raw:
        await raw.subscribe("t")
        yield raw


async def expect_alive(client: RawClient) -> None:
    await client.say({"type": "ping", "request_id": "alive"})
    while (heard := await client.hear())["type"] != "pong":
        assert heard["type"] == "event"
    assert heard["request_id"] == "alive"


async def expect(client: RawClient, reaction: str, sent: bytes) -> None:
    """Check that the client gets the reaction in the second cell of a row."""
    heard = await client.hear()
    if reaction == "end of the connection":
        assert heard is None
    elif reaction == "accepted":
        assert heard["type"] in ("ack", "event", "pong")
        await expect_alive(client)
    elif reaction.startswith("`"):
        assert heard["error"]["code"] == reaction.strip("`")
        assert "request_id" not in heard
        await expect_alive(client)
    else:
        code = 0  # of an empty Close
        if reaction == "Close with that code":
            code = int.from_bytes(mask(sent[6:8]))
        elif reaction != "Close without a code":
            code = int(reaction.removeprefix("Close "))
        assert heard[:2] == ("close", code)
        assert await client.hear() is None


def test_every_row_of_broken_input_is_tested() -> None:
    assert [row[0] for row in table(DOCUMENT, "Broken input")] == list(ARRIVALS)


@pytest.mark.parametrize(
    ("arrival", "reaction"),
    [
        pytest.param(arrival, row[1], id=f"{row[0]}-{place}")
        for row in table(DOCUMENT, "Broken input")
        for place, arrival in enumerate(ARRIVALS.get(row[0], []))
    ],
)
async def test_broken_input_has_the_reaction_of_the_table(
    client: RawClient, arrival: bytes, reaction: str
) -> None:
    await client.send(arrival)
    if not arrival:
        client.half_close()
    await expect(client, reaction, arrival)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (str(2**64 - 1), 2**64 - 1),
        (str(-(2**63)), -(2**63)),
        (str(2**64), 2.0**64),
        (str(10**30), 1e30),
    ],
)
async def test_integers_arrive_as_the_document_says(
    client: RawClient, sent: str, arrives: float
) -> None:
    await client.send(publish(sent))
    heard = [await client.hear(), await client.hear()]
    (event,) = (message for message in heard if message["type"] == "event")
    assert event["message"]["payload"] == arrives
    assert type(event["message"]["payload"]) is type(arrives)


async def test_messages_before_the_close_are_handled_and_none_after(client: RawClient) -> None:
    ping = text('{"type":"ping"}')
    await client.send(ping + client_frame(3) + ping)
    heard = await client.rest()
    assert [message["type"] for message in heard[:-1]] == ["pong"]
    assert heard[-1][:2] == ("close", 1002)


# --- REST -----------------------------------------------------------------------------------------

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
OUTSIDER = {"Origin": "https://elsewhere.example"}
Request = tuple[str, str, dict[str, Any]]  # method, path, other arguments of aiohttp's client


def post(path: str, body: str | bytes) -> Request:
    return ("POST", path, {"data": body})


def upgrade(path: str = "/ws", **headers: str) -> Request:
    changed = {key.replace("_", "-"): value for key, value in headers.items()}
    return ("GET", path, {"headers": UPGRADE | changed})


# A request for every row, to a server with a subscriber of "news" and the topic "made".
REQUESTS: dict[tuple[str, int], list[Request]] = {
    ("POST /publish", 200): [
        post("/publish", '{"topic":"news","payload":null}'),
        post("/publish", '{"topic":"news","message":"a synonym","colour":"red"}'),
    ],
    ("POST /publish", 400): [
        post("/publish", ""),
        post("/publish", "[]"),
        post("/publish", '{"payload":1}'),
        post("/publish", '{"topic":1,"payload":1}'),
        post("/publish", '{"topic":"news"}'),
        post("/publish", f'{{"topic":"news","payload":{nested(251)}}}'),
    ],
    ("POST /publish", 404): [post("/publish", '{"topic":"nowhere","payload":1}')],
    ("POST /publish/batch", 200): [
        post("/publish/batch", '{"items":[{"topic":"news","payload":1},{"topic":"nowhere"}]}'),
        post("/publish", '{"topics":["news","nowhere"],"payload":1}'),
    ],
    ("POST /publish/batch", 400): [
        post("/publish/batch", ""),
        post("/publish/batch", "{}"),
        post("/publish/batch", '{"items":[]}'),
        post("/publish/batch", '{"items":{}}'),
        post("/publish/batch", json.dumps({"items": [1] * 1_001})),
        post("/publish", '{"topics":[],"payload":1}'),
        post("/publish", '{"topics":["news"],"topic":"news","payload":1}'),
    ],
    ("GET /stats", 200): [("GET", "/stats", {})],
    ("GET /topics", 200): [("GET", "/topics", {}), ("GET", "/topics?prefix=&after=&limit=9", {})],
    ("GET /topics", 400): [("GET", "/topics?limit=0", {}), ("GET", "/topics?after=%ff", {})],
    ("POST /topics", 201): [post("/topics", '{"name":"fresh"}')],
    ("POST /topics", 400): [post("/topics", "{"), post("/topics", '{"name":""}')],
    ("POST /topics", 409): [
        post("/topics", '{"name":"news"}'),
        post("/topics", '{"name":"made"}'),
    ],
    ("GET /topics/{name}/history", 200): [
        ("GET", "/topics/made/history", {}),
        ("GET", "/topics/made/history?limit=1&reverse=true&wait=0", {}),
    ],
    ("GET /topics/{name}/history", 400): [
        ("GET", "/topics/made/history?limit=1001", {}),
        ("GET", "/topics/made/history?since_offset=1", {}),
    ],
    ("GET /topics/{name}/history", 404): [
        ("GET", "/topics/nowhere/history", {}),
        ("GET", "/topics/news/history", {}),
    ],
    ("GET /topics/{name}/history", 410): [
        ("GET", "/topics/made/history?since_epoch=other&since_offset=0", {}),
    ],
    ("DELETE /topics/{name}", 200): [("DELETE", "/topics/made", {})],
    ("DELETE /topics/{name}", 400): [("DELETE", "/topics/%ff", {})],
    ("DELETE /topics/{name}", 404): [("DELETE", "/topics/nowhere", {})],
    ("GET /nodes", 200): [("GET", "/nodes", {})],
    ("GET /connections", 200): [
        ("GET", "/connections", {}),
        ("GET", "/connections?sub=ann&topic=news&after=9f86d081884c7d65-17&limit=9", {}),
    ],
    ("GET /connections", 400): [
        ("GET", "/connections?limit=1001", {}),
        ("GET", "/connections?after=17", {}),
        ("GET", "/connections?sub=" + "x" * 256, {}),
    ],
    ("POST /disconnect", 200): [
        post("/disconnect", '{"sub":"ann"}'),
        post("/disconnect", '{"sub":"ann","for":0}'),
    ],
    ("POST /disconnect", 400): [
        post("/disconnect", "[]"),
        post("/disconnect", "{}"),
        post("/disconnect", '{"sub":"ann","client_id":"phone"}'),
        post("/disconnect", '{"sub":"ann","for":2678401}'),
        post("/disconnect", '{"client_id":"phone","for":1}'),
    ],
    ("GET /metrics", 200): [("GET", "/metrics", {})],
    ("GET /health", 200): [("GET", "/health", {})],
    ("GET /", 200): [("GET", "/", {})],
    ("GET /console/{name}", 200): [("GET", "/console/app.js", {})],
    ("GET /console/{name}", 304): [("GET", "/console/app.js", {"headers": {"If-None-Match": "*"}})],
    ("GET /console/{name}", 404): [("GET", "/console/nothing.js", {})],
    ("GET /client.js", 200): [("GET", "/client.js", {})],
    ("GET /client.js", 304): [("GET", "/client.js", {"headers": {"If-None-Match": "*"}})],
    ("GET /openapi.json", 200): [("GET", "/openapi.json", {})],
    ("GET /openapi.json", 304): [("GET", "/openapi.json", {"headers": {"If-None-Match": "*"}})],
    ("GET /asyncapi.json", 200): [("GET", "/asyncapi.json", {})],
    ("GET /asyncapi.json", 304): [("GET", "/asyncapi.json", {"headers": {"If-None-Match": "*"}})],
    ("GET /ws", 101): [
        upgrade(),
        upgrade("/ws?topic=news&topic=alerts&recover=9f86d081884c7d65:17,-&last_n=10"),
    ],
    ("GET /ws", 400): [
        upgrade(Sec_WebSocket_Key="short"),
        upgrade("/ws?client_id=" + "x" * (validation.MAX_CLIENT_ID_BYTES + 1)),
        upgrade("/ws?client_id=%ff"),
        upgrade("/ws?topic="),
        upgrade("/ws?topic=news&topic=news"),
        upgrade("/ws?topic=" + "&topic=".join(map(str, range(MAX_URL_TOPICS + 1)))),
        upgrade("/ws?topic=news&recover=a:1,b:2"),
        upgrade("/ws?topic=news&last_n=some"),
    ],
    ("GET /ws", 426): [("GET", "/ws", {}), upgrade(Sec_WebSocket_Version="12")],
    ("GET /events", 200): [("GET", "/events?topic=news&topic=alerts", {})],
    ("GET /events", 400): [
        ("GET", "/events", {}),
        ("GET", "/events?topic=", {}),
        ("GET", "/events?topic=news&topic=news", {}),
        ("GET", "/events?topic=" + "&topic=".join(map(str, range(MAX_STREAM_TOPICS + 1))), {}),
        ("GET", "/events?topic=news&last_n=some", {}),
        ("GET", "/events?topic=news", {"headers": {"Last-Event-ID": "a:1,b:2"}}),
    ],
    ("any", 204): [("OPTIONS", "/topics", {})],
    ("any", 403): [
        upgrade(**OUTSIDER),
        ("POST", "/topics", {"data": '{"name":"theirs"}', "headers": OUTSIDER}),
        ("GET", "/nowhere", {"headers": OUTSIDER}),
    ],
    ("any", 404): [("GET", "/nowhere", {}), ("DELETE", "/topics/", {})],
    ("any", 405): [("PUT", "/topics", {}), ("POST", "/ws", {})],
    ("any", 421): [("GET", "/stats", {"headers": {"Host": "elsewhere.example"}})],
    ("any", 414): [("GET", "/stats?".ljust(MAX_TARGET_BYTES + 1, "x"), {})],
    ("any", 431): [("GET", "/stats", {"headers": {"Name": "x" * (MAX_HEADER_BYTES + 1)}})],
    ("any", 413): [post("/publish", b" " * (LIMIT + 1)), post("/topics", b" " * (LIMIT + 1))],
    ("GET /health", 503): [("GET", "/health", {})],
    ("GET /live", 200): [("GET", "/live", {})],
    ("GET /ready", 200): [("GET", "/ready", {})],
    ("GET /ready", 503): [("GET", "/ready", {})],
    ("GET /ws", 503): [upgrade()],
    ("GET /events", 503): [("GET", "/events?topic=news", {})],
}
# tests/handlers tests these, which need a fault, a clock, another header or a smaller limit;
# tests/redis tests the last one, tests/security those of limits, and tests/test_access_doc.py those
# of credentials.
NOT_TRIED = {
    ("POST /topics", 503),
    ("GET /topics/{name}/history", 503),
    ("POST /disconnect", 503),
    ("any", 400),
    ("any", 401),
    ("any", 500),
    ("any", 408),
    ("any", 415),
    ("any", 429),
    ("any", 503),
}


def rest_rows() -> list[tuple[str, int, str]]:
    """Return the call, status and answer of each row; an empty first cell repeats the last."""
    rows = []
    call = ""
    for first, status, answer in table(DOCUMENT, "REST"):
        call = first.strip("`") or call
        rows.append((call, int(status), answer))
    return rows


def test_every_row_of_rest_is_tested() -> None:
    tried = [(call, status) for call, status, _ in rest_rows()]
    assert len(tried) == len(set(tried))
    assert set(tried) == set(REQUESTS) | NOT_TRIED


@pytest_asyncio.fixture
async def populated() -> AsyncIterator[Running]:
    """A server that refuses other origins, with a subscriber of "news" and the topic "made"."""
    settings = Settings(
        allowed_origins=parse_origins("https://app.example"),
        allowed_hosts=frozenset({"127.0.0.1", "test"}),
        history_rules={"made": Rule(10, 60.0, 10_000)},
    )
    async with (
        running(settings) as server,
        raw_client(server.port) as subscriber,
        ClientSession(server.url) as session,
    ):
        await subscriber.subscribe("news")
        async with session.post("/topics", json={"name": "made"}) as made:
            assert made.status == 201
        yield server


@pytest.mark.parametrize(
    ("request_", "status", "answer"),
    [
        pytest.param(request, status, answer, id=f"{call} {status} {place}")
        for call, status, answer in rest_rows()
        for place, request in enumerate(REQUESTS.get((call, status), []))
    ],
)
async def test_a_call_has_the_status_and_answer_of_the_table(
    populated: Running, request_: Request, status: int, answer: str
) -> None:
    method, path, more = request_
    if status == 503:
        populated.drain.begin()
    async with (
        ClientSession(populated.url) as session,
        session.request(method, path, **more) as response,
    ):
        assert response.status == status
        if status >= 400:
            extras = {("/ready", 503): ["checks"]}.get((path, status), [])
            extras = ["epoch", "offset"] if status == 410 else extras
            assert list(await response.json()) == ["error", *extras]
        elif answer.startswith("`{"):
            example = json.loads(answer[1 : answer.index("}`") + 1])
            body = await response.json()
            assert list(body) == list(example)
            assert list(map(type, body.values())) == list(map(type, example.values()))
        promised = re.search(r"`(Allow|Retry-After)`", answer)
        assert promised is None or promised[1] in response.headers


async def test_cors_is_for_allowed_origins(populated: Running) -> None:
    friend = {"Origin": "https://app.example"}
    preflight = {"Access-Control-Request-Method": "POST"}
    allowed = "Access-Control-Allow-Origin"
    async with ClientSession(populated.url) as session:
        for method, path, headers in (
            ("GET", "/stats", friend),
            ("GET", "/nowhere", friend),
            ("OPTIONS", "/publish", friend | preflight),
        ):
            async with session.request(method, path, headers=headers) as response:
                assert response.headers[allowed] == friend["Origin"]
        async with session.get("/stats", headers=OUTSIDER) as response:
            assert response.status == 403
            assert allowed not in response.headers
