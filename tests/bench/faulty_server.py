"""A server with one mistake, named by its argument, which the load generator must detect."""

import asyncio
import json
import os
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

FAULT = sys.argv[1]
MEMBERS: dict[str, list[ServerConnection]] = {}
HELD: dict[ServerConnection, bytes] = {}  # for "swap": an event that is sent after the next one
TEXT, FRAGMENT, LAST, BINARY, PONG, RESERVED = 0x81, 0x01, 0x80, 0x82, 0x8A, 0xC1
published = 0


def frame(first: int, data: bytes, mask: int = 0) -> bytes:
    """Return a frame of at most 65,535 bytes; it need not be valid."""
    size = bytes([mask | len(data)])
    if len(data) > 125:
        size = bytes([mask | 126]) + len(data).to_bytes(2, "big")
    return bytes([first]) + size + (bytes(4) if mask else b"") + data


def misshapen(event: bytes) -> bytes:
    """Return an event's frame, with the mistake if it is one of bytes."""
    half = len(event) // 2
    shapes = {
        # Two that are valid: a message larger than a library's buffer, and Go's way to end a text.
        "fragments": frame(FRAGMENT, event[:half]) + frame(0, b"") + frame(LAST, event[half:]),
        "newline": frame(TEXT, event + b"\n"),
        "repeat": frame(TEXT, event) * 2,
        "length": frame(TEXT, event.replace(b"xx", b"x", 1)),
        "bytes": frame(TEXT, event.replace(b"xx", b"xy", 1)),
        "name": frame(TEXT, event.replace(b'"topic": "t', b'"topic": "u')),
        "kind": frame(TEXT, event.replace(b'"event"', b'"other"')),
        "number": frame(TEXT, event.replace(b":0000", b":000_", 1)),
        "cut": frame(TEXT, event[:-2]),
        "chatter": frame(TEXT, b"hello"),
        "binary": frame(BINARY, event),
        "pong": frame(PONG, b""),
        "reserved": frame(RESERVED, event),
        "masked": frame(TEXT, event, mask=0x80),
        "stray": frame(LAST, event),
        "unfinished": frame(FRAGMENT, event[:half]) + frame(TEXT, event),
        "ping": frame(0x09, b"ping"),
    }
    return shapes.get(FAULT, frame(TEXT, event))


async def deliver(member: ServerConnection, event: bytes, members: list[ServerConnection]) -> None:
    """Send an event; with the mistake to the first subscriber of the third publish."""
    if member in HELD:
        member.transport.write(frame(TEXT, event) + HELD.pop(member))
        return
    if published != 3 or member is not members[0]:
        member.transport.write(frame(TEXT, event))
    elif FAULT == "swap":
        HELD[member] = frame(TEXT, event)
    elif FAULT == "close":
        await member.close(1011)
    elif FAULT != "lose":
        member.transport.write(misshapen(event))
    if FAULT == "misroute" and published == 3 and member is members[0]:
        everybody = [one for some in MEMBERS.values() for one in some]
        stranger = next(one for one in everybody if one not in members)
        stranger.transport.write(frame(TEXT, event))


def answers() -> int:
    """Return the number of answers to a command."""
    return {"silence": 0, "echo": 2}.get(FAULT, 1) if published == 3 else 1


async def handler(connection: ServerConnection) -> None:
    global published
    async for text in connection:
        command = json.loads(text)
        members = MEMBERS.setdefault(command["topic"], [])
        if command["type"] == "subscribe":
            members.append(connection)
        else:
            published += 1
            event = {"type": "event", "topic": command["topic"], "message": command["message"]}
            for member in members:
                await deliver(member, json.dumps(event).encode(), members)
        kind = "error" if FAULT == "refusal" and published == 3 else "ack"
        connection.transport.write(frame(TEXT, b'{"type":"%s"}' % kind.encode()) * answers())


def unproven(_: ServerConnection, __: Request, response: Response) -> Response:
    if FAULT == "proof":
        del response.headers["Sec-WebSocket-Accept"]
    return response


async def main() -> None:
    port = int(os.environ["PORT"])
    async with serve(handler, "127.0.0.1", port, compression=None, process_response=unproven):
        await asyncio.Future()


asyncio.run(main())
