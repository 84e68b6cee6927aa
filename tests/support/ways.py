"""Every way in which a credential gets to the server, over plain sockets."""

import json
from collections.abc import Iterable
from typing import Final

from tests.support.raw import HANDSHAKE, RawClient

TOPIC: Final = "t"  # which the credentials of the tests may subscribe to

# What a caller sees, by the way of its credential.
ACCEPTED: Final = "accepted"
REFUSED: Final = {
    "REST header": "401",
    "WebSocket header": "401",
    "stream header": "401",
    "stream query": "401",
    "WebSocket query": "3000 unauthorized",
    "subprotocol": "3000 unauthorized",
    "auth message": "UNAUTHORIZED",
}
WAYS: Final = tuple(REFUSED)

Headers = Iterable[tuple[bytes, bytes]]


def upgrade(target: bytes = b"/ws?client_id=raw", headers: Headers = ()) -> bytes:
    """Return a handshake for a target, with more headers."""
    _, _, rest = HANDSHAKE.partition(b"\r\n")
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"GET %b HTTP/1.1\r\n%b%b" % (target, lines, rest)


def get(target: bytes, headers: Headers = ()) -> bytes:
    """Return a GET request, after whose answer the server closes the connection."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"GET %b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%b\r\n" % (target, lines)


def bearer(token: bytes) -> Headers:
    return [(b"Authorization", b"Bearer " + token)]


async def present(port: int, way: str, token: bytes) -> str:
    """Present a token and ask for TOPIC; return ACCEPTED, a status, a Close, or an error code."""
    if way == "REST header":
        return await status(port, get(b"/topics/t/history", bearer(token)))
    if way == "stream header":
        return await status(port, get(b"/events?topic=t", bearer(token)))
    if way == "stream query":
        return await status(port, get(b"/events?topic=t&access_token=" + token))
    if way == "WebSocket header":
        return await status(port, upgrade(headers=bearer(token)))
    if way == "WebSocket query":
        return await status(port, upgrade(b"/ws?client_id=raw&access_token=" + token))
    if way == "subprotocol":
        offer = [(b"Sec-WebSocket-Protocol", b"bearer, " + token)]
        return await status(port, upgrade(headers=offer))
    client = await RawClient.connect(port)
    try:
        await client.say({"type": "auth", "token": token.decode()})
        return await subscribed(client)
    finally:
        client.close()


async def status(port: int, request: bytes) -> str:
    """Send a request; return ACCEPTED, a status, or what ends a WebSocket."""
    client = await RawClient.dial(port)
    try:
        await client.send(request)
        head = await client.read_head()
        code = head[9:12].decode()
        if code == "101":
            return await subscribed(client)
        # 404: the topic does not exist, which only callers with the right are told.
        return ACCEPTED if code in ("200", "404") else code
    finally:
        client.close()


async def subscribed(client: RawClient) -> str:
    """Subscribe to TOPIC; return ACCEPTED, or the first refusal."""
    await client.say({"type": "subscribe", "topic": TOPIC, "request_id": "end"})
    while True:
        heard = await client.hear()
        if isinstance(heard, tuple):
            return f"{heard[1]} {heard[2]}"
        assert heard is not None, "the connection was cut"
        if heard["type"] == "error":
            return str(heard["error"]["code"])
        if heard.get("request_id") == "end":
            assert heard["type"] == "ack", json.dumps(heard)
            return ACCEPTED
