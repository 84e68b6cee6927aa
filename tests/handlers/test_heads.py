"""The limits of a request's head: its target, and each header."""

import json
import re

import pytest

from handlers.takeover import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from hub.auth.tokens import MAX_TOKEN_BYTES
from hub.protocol.connect_requests import MAX_STREAM_TOPICS, MAX_URL_TOPICS
from hub.settings import Settings
from tests.support.raw import HANDSHAKE, RawClient
from tests.support.server import Running

TOKEN = "x" * MAX_TOKEN_BYTES  # access is off: every token is accepted


async def ask(port: int, request: str) -> tuple[int, str, bytes]:
    """Send the head of a request; return the status, the head and the body of the answer."""
    client = await RawClient.dial(port)
    await client.send(f"{request}\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    head = (await client.read_head()).decode()
    # Not to the end: from Python 3.12 on, a server that refuses a head may reset the connection
    # behind its answer, while the rest of the head is on its way.
    length = re.search(r"Content-Length: (\d+)", head)
    body = b"" if length is None else await client.read_exactly(int(length[1]))
    client.close()
    return int(head.split()[1]), head, body


def target(size: int) -> str:
    return "GET /live?".ljust(size + 4, "x") + " HTTP/1.1"


def header(size: int) -> str:
    return f"GET /live HTTP/1.1\r\nName: {'x' * size}"


def longest_query(topics: int, positions: str) -> str:
    """Return a query with so many topics, the positions in them and a token, all encoded."""
    name = "%C3%BC" * (Settings().max_topic_bytes // 2)  # one byte less than allowed
    names = "&".join(f"topic={chr(ord('0') + number)}{name}" for number in range(topics))
    places = "%2C".join(["e" * 64 + "%3A" + "9" * 15] * topics)
    return f"{names}&{positions}={places}&access_token={TOKEN}"


async def test_the_longest_query_of_a_stream_is_accepted(server: Running) -> None:
    query = longest_query(MAX_STREAM_TOPICS, "last_event_id")
    assert (await ask(server.port, f"GET /events?{query} HTTP/1.1"))[0] == 200


async def test_the_longest_query_of_a_websocket_is_accepted(server: Running) -> None:
    _, _, rest = HANDSHAKE.partition(b"\r\n")
    query = longest_query(MAX_URL_TOPICS, "recover")
    client = await RawClient.dial(server.port)
    await client.send(f"GET /ws?{query} HTTP/1.1\r\n".encode() + rest)
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    client.close()


async def test_the_longest_token_is_accepted_in_each_header(server: Running) -> None:
    request = f"GET /stats HTTP/1.1\r\nAuthorization: Bearer {TOKEN}"
    assert (await ask(server.port, request))[0] == 200
    client = await RawClient.dial(server.port)
    offer = f"\r\nSec-WebSocket-Protocol: bearer, {TOKEN}\r\n\r\n".encode()
    await client.send(HANDSHAKE.replace(b"\r\n\r\n", offer))
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    client.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (target(MAX_TARGET_BYTES), 200),
        (target(MAX_TARGET_BYTES + 1), 414),
        (header(MAX_HEADER_BYTES - len("Name")), 200),  # aiohttp counts the name of some headers
        (header(MAX_HEADER_BYTES + 1), 431),
        (header(3 * MAX_TARGET_BYTES), 431),
    ],
    ids=["longest target", "longer target", "longest header", "longer header", "long header"],
)
async def test_a_longer_target_or_header_has_an_answer_of_its_own(
    server: Running, request_: str, status: int
) -> None:
    answered, head, body = await ask(server.port, request_)
    assert answered == status
    if status != 200:
        assert "Content-Type: application/json" in head
        assert list(json.loads(body)) == ["error"]
        assert b"xxx" not in body  # it may have a token


async def test_what_is_not_http_gets_plain_text(server: Running) -> None:
    answered, head, body = await ask(server.port, "GET /live HTTP/nine")
    assert (answered, body) == (400, b"The request is not valid HTTP")
    assert "Content-Type: text/plain" in head
