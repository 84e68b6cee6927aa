"""A server of another protocol with a mistake, which the load generator must detect.

Its arguments are the protocol, centrifugo, protobuf or nats, and the mistake, made at the third
event.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from aiohttp import WSMsgType, web

PROTOCOL, FAULT = sys.argv[1:]
EPOCH = "42"  # the epoch of every topic
MEMBERS: dict[str, list[web.WebSocketResponse]] = {}
HISTORY: dict[str, list[Any]] = {}
published = 0


def faulty() -> bool:
    """Return whether the event that is published now is the one with the mistake."""
    return published == 3


# --- Centrifugo: lines of JSON --------------------------------------------------------------------


async def on_command(ws: web.WebSocketResponse, command: dict[str, Any]) -> None:
    if not command:
        return  # the pong
    number = command.pop("id")
    ((kind, body),) = command.items()
    if kind == "connect":
        await ws.send_str(
            json.dumps({"id": number, "connect": {"ping": 25, "pong": True}}) + "\n{}"
        )
        return
    topic = body["channel"]
    result: dict[str, Any] = {}
    if kind == "subscribe":
        MEMBERS.setdefault(topic, []).append(ws)
        result = {"recoverable": True, "epoch": EPOCH}
        if body.get("recover"):
            result |= recovered(topic, body)
    elif kind == "unsubscribe":
        MEMBERS[topic].remove(ws)
    else:
        await publish(topic, body["data"])
    answer = {"id": number, kind: result}
    if kind == "publish" and faulty() and FAULT == "refusal":
        answer = {"id": number, "error": {"code": 103, "message": "permission denied"}}
    if kind != "publish" or not faulty() or FAULT != "silence":
        await ws.send_str(json.dumps(answer, separators=(",", ":")))


def recovered(topic: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what a subscribe adds to its answer to recover all events."""
    events = [{"data": data, "offset": n} for n, data in enumerate(HISTORY[topic], 1)]
    if FAULT == "short":
        del events[1]
    return {"recovered": body["epoch"] == EPOCH and FAULT != "lost", "publications": events}


async def publish(topic: str, data: Any) -> None:
    global published
    published += 1
    HISTORY.setdefault(topic, []).append(data)
    name = topic + "0" if faulty() and FAULT == "name" else topic
    kind = "message" if faulty() and FAULT == "kind" else "push"
    push = json.dumps({kind: {"channel": name, "pub": {"data": data}}}, separators=(",", ":"))
    if faulty() and FAULT == "joined":
        push += "\n{}"
    if faulty() and FAULT == "repeat":
        push += "\n" + push
    for member in MEMBERS.get(topic, ()):
        if not faulty() or FAULT != "lose":
            await member.send_str(push)


async def centrifugo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    async for said in ws:
        if said.type is WSMsgType.BINARY and "cf_protocol" in request.query:
            await on_protobuf(ws, said.data)
        elif said.type is WSMsgType.TEXT:
            for line in said.data.split("\n"):
                await on_command(ws, json.loads(line))
    return ws


async def post(request: web.Request) -> web.Response:
    body = json.loads(await request.read())
    await publish(body["channel"], body["data"])
    if faulty() and FAULT == "refusal":
        return web.json_response({"error": {"code": 103, "message": "permission denied"}})
    return web.json_response({"result": {}})


# --- Centrifugo: Protobuf -------------------------------------------------------------------------


SUBSCRIBE, UNSUBSCRIBE, PUBLISH = 5, 6, 7  # fields of a command; those of its result follow each


def number(value: int) -> bytes:
    """Return a number in seven bits a byte."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def field(key: int, value: bytes | int) -> bytes:
    """Return a field of a message."""
    if isinstance(value, int):
        return number(key << 3) + number(value)
    return number(key << 3 | 2) + number(len(value)) + value


def take_number(data: bytes) -> tuple[int, bytes]:
    """Return the number that data begins with, and the rest."""
    size = next(at for at, byte in enumerate(data, 1) if byte < 128)
    return sum((data[at] & 127) << 7 * at for at in range(size)), data[size:]


def fields(data: bytes) -> dict[int, Any]:
    """Return the fields of a message, which has each of them once."""
    found: dict[int, Any] = {}
    while data:
        tag, data = take_number(data)
        found[tag >> 3], data = take_number(data)
        if tag & 7:
            size = found[tag >> 3]
            found[tag >> 3], data = data[:size], data[size:]
    return found


async def on_protobuf(ws: web.WebSocketResponse, said: bytes) -> None:
    while said:
        size, said = take_number(said)
        command, said = fields(said[:size]), said[size:]
        if not command:
            continue  # the pong
        kind = max(command)
        request = fields(command[kind])
        result = field(kind + 1, b"")
        if kind == SUBSCRIBE:
            MEMBERS.setdefault(request[1].decode(), []).append(ws)
            result = field(kind + 1, protobuf_result(request))
        elif kind == UNSUBSCRIBE:
            MEMBERS[request[1].decode()].remove(ws)
        elif kind == PUBLISH:
            await publish_protobuf(request[1].decode(), request[2])
            if faulty() and FAULT == "refusal":
                result = field(2, field(2, b"permission denied"))
            if faulty() and FAULT == "silence":
                continue
        answer = field(1, command[1]) + result
        await ws.send_bytes(number(len(answer)) + answer)


def protobuf_result(request: dict[int, Any]) -> bytes:
    """Return the result of a subscribe, with all events if it recovers."""
    result = field(3, 1) + field(6, EPOCH.encode())
    if 3 in request and request.get(6) == EPOCH.encode():
        events = [field(4, data) + field(6, n) for n, data in enumerate(HISTORY["t0"], 1)]
        if FAULT == "short":
            del events[1]
        result += b"".join(field(7, event) for event in events)
        result += b"" if FAULT == "lost" else field(8, 1)
    return result


async def publish_protobuf(topic: str, data: bytes) -> None:
    global published
    published += 1
    HISTORY.setdefault(topic, []).append(data)
    name = topic + "0" if faulty() and FAULT == "name" else topic
    event = field(5 if faulty() and FAULT == "kind" else 4, field(4, data) + field(5, b"info"))
    push = field(4, field(2, name.encode()) + event)
    whole = number(len(push)) + push
    if faulty() and FAULT == "joined":
        whole += b"\0"
    if faulty() and FAULT == "repeat":
        whole *= 2
    if faulty() and FAULT == "cut":
        whole = whole[:-1]
    for member in MEMBERS.get(topic, ()):
        if not faulty() or FAULT != "lose":
            await member.send_bytes(whole)


# --- NATS: a stream of lines and messages ---------------------------------------------------------


def commands(said: bytes) -> Iterator[tuple[list[bytes], bytes]]:
    """Yield the words of each command, and the message of a PUB."""
    while said:
        line, _, said = said.partition(b"\r\n")
        words, message = line.split(b" "), b""
        if words[0] == b"PUB":
            size = int(words[2])
            message, said = said[:size], said[size + 2 :]
        yield words, message


async def nats(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    await ws.send_bytes(b'INFO {"server_id":"fake"} \r\nPING\r\n')
    greeted = False
    async for said in ws:
        if said.type is not WSMsgType.BINARY:
            raise AssertionError("not a binary frame")
        for words, message in commands(said.data):
            if words[0] == b"PING":
                await ws.send_bytes(b"PONG\r\n")
            elif words[0] == b"CONNECT":
                greeted = True
            elif words[0] == b"SUB" and greeted:
                assert words[2] == words[1][1:], "the id of a subscription is the topic's number"
                MEMBERS.setdefault(words[1].decode(), []).append(ws)
            elif words[0] == b"PUB" and greeted:
                await deliver(words[1], message)
    return ws


async def deliver(topic: bytes, message: bytes) -> None:
    global published
    published += 1
    frames = [b"MSG %b %b %d\r\n%b\r\n" % (topic, topic[1:], len(message), message)]
    if faulty():
        frames = list(misshapen(frames[0], topic, message))
    for member in MEMBERS.get(topic.decode(), ()):
        for frame in frames:
            if faulty() and FAULT == "text":
                await member.send_str(frame.decode())
            else:
                await member.send_bytes(frame)


def misshapen(whole: bytes, topic: bytes, message: bytes) -> Iterator[bytes]:
    """Yield the frames of an event; the first two cases are valid."""
    if FAULT == "split":
        yield from (bytes([it]) for it in whole)
    elif FAULT == "joined":
        yield b"PING\r\n" + whole + b"PING\r\n"
    elif FAULT == "repeat":
        yield whole * 2
    elif FAULT == "size":
        yield b"MSG %b %b %d\r\n%b\r\n" % (topic, topic[1:], len(message) - 1, message)
    elif FAULT == "name":
        yield whole.replace(b"MSG t", b"MSG u")
    elif FAULT == "number":
        yield whole.replace(b" %b " % topic[1:], b" 77 ", 1)
    elif FAULT == "kind":
        yield b"HMSG" + whole[3:]
    elif FAULT == "refusal":
        yield b"-ERR 'Permissions Violation'\r\n"
    elif FAULT != "lose":
        yield whole


app = web.Application()
app.add_routes(
    [
        web.get("/connection/websocket", centrifugo),
        web.post("/api/publish", post),
        web.get("/", nats),
    ]
)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
