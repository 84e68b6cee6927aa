"""Check that the peers behave as the benchmark requires, before they are measured.

    .venv/bin/python bench/peers/check.py            every peer
    .venv/bin/python bench/peers/check.py bun ws     these peers

A peer is installed and started as by the runner. Two subscribers must get every message of a
publisher, once and in order, and every publish must be acknowledged. A publish to a topic without
subscribers must be refused. POST /publish must send an event, if the peer has it. One line is
printed for each peer: ok, missing (what to install), failed (with the reason) or not checked. After
an ok it lists parts of the contract that the peer lacks and the generator does not use.
"""

import asyncio
import contextlib
import http.client
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import Server, ours, peers, running

MESSAGES = 100
PATIENCE = 20.0  # seconds for the whole check of a peer
SILENCE = 0.3  # seconds in which a repeated message would have come
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

Body = dict[str, Any]


class WrongError(Exception):
    """The peer does not behave as required."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise WrongError(what)


class Client:
    """A client that speaks the contract's JSON."""

    path = "/ws?client_id=check"

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def greet(self) -> None:
        """Exchange the messages before the first command."""

    async def say(self, kind: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def hear(self) -> tuple[str, Body]:
        body: Body = json.loads(await self.connection.recv())
        return body["type"], body

    async def ask(self, kind: str, **fields: Any) -> tuple[str, Body]:
        await self.say(kind, **fields)
        return await self.hear()

    async def silent(self) -> bool:
        """Return True if no message arrives within SILENCE."""
        try:
            async with asyncio.timeout(SILENCE):
                await self.hear()
        except TimeoutError:
            return True
        return False


class SocketIoClient(Client):
    """A client that sends the same JSON in Engine.IO 4 and Socket.IO 5 packets."""

    path = "/socket.io/?EIO=4&transport=websocket"

    async def greet(self) -> None:
        opened = str(await self.connection.recv())
        require(opened.startswith('0{"sid":'), f"not an Engine.IO open packet: {opened[:80]}")
        await self.connection.send("40")
        joined = str(await self.connection.recv())
        require(joined.startswith('40{"sid":'), f"not a Socket.IO connect packet: {joined[:80]}")

    async def say(self, kind: str, **fields: Any) -> None:
        await self.connection.send("42" + json.dumps([kind, fields]))

    async def hear(self) -> tuple[str, Body]:
        while (text := str(await self.connection.recv())) == "2":
            await self.connection.send("3")
        require(text.startswith("42["), f"not a Socket.IO event packet: {text[:80]}")
        kind, body = json.loads(text[2:])
        return kind, body


@contextlib.asynccontextmanager
async def client(server: Server, port: int) -> Any:
    kind = SocketIoClient if server.protocol == "socketio" else Client
    uri = f"ws://127.0.0.1:{port}{kind.path}"
    # Unread messages must not delay the Close, or a wrong answer would be reported as a late one.
    options: Body = {"compression": None, "proxy": None, "max_queue": None, "close_timeout": 1}
    async with connect(uri, **options) as connection:
        made = kind(connection)
        await made.greet()
        yield made


def message(number: int) -> Body:
    return {
        "id": f"m{number}",
        "payload": {"number": number, "text": "übung ✓", "more": [None, 0.5]},
    }


async def check(server: Server, port: int) -> list[str]:
    """Check a running peer; return the parts of the contract that it lacks.

    Raises:
        WrongError: the peer does not behave as required.
    """
    lacks: list[str] = []
    async with client(server, port) as publisher:
        async with client(server, port) as first, client(server, port) as second:
            for subscriber in (first, second):
                await check_subscribe(subscriber)
            await check_fan_out(publisher, [first, second])
            if server.rest:
                await check_rest(port, [first, second])
            for one in (first, second, publisher):
                require(await one.silent(), "more than was sent")
        if server.protocol != "socketio":
            lacks += await check_refusal(publisher)
            lacks += await check_answers(publisher)
    return lacks


async def check_subscribe(subscriber: Client) -> None:
    kind, ack = await subscriber.ask("subscribe", topic="news", client_id="check")
    require(kind == "ack" and ack.get("topic") == "news", f"subscribe got {kind} {ack}")
    require(ack.get("status") == "ok" and TIME.fullmatch(ack.get("ts", "")), f"a poor ack: {ack}")


async def check_fan_out(publisher: Client, subscribers: list[Client]) -> None:
    for number in range(MESSAGES):
        await publisher.say("publish", topic="news", message=message(number))
    for number in range(MESSAGES):
        for subscriber in subscribers:
            kind, event = await subscriber.hear()
            require(kind == "event", f"event {number}: got {kind} {event}")
            require(event["message"] == message(number), f"event {number}: got {event}")
            require(event["topic"] == "news" and TIME.fullmatch(event["ts"]), f"got {event}")
    for number in range(MESSAGES):
        kind, ack = await publisher.hear()
        require(kind == "ack" and ack.get("topic") == "news", f"publish {number} got {kind} {ack}")


def post(port: int, body: Body) -> tuple[int, Body]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/publish", json.dumps(body))
        response = connection.getresponse()
        return response.status, json.load(response)


async def check_rest(port: int, subscribers: list[Client]) -> None:
    payload = message(0)["payload"]
    body = {"topic": "news", "payload": payload}
    status, answer = await asyncio.to_thread(post, port, body)
    require(status == 200 and answer.get("status") == "published", f"REST got {status} {answer}")
    for subscriber in subscribers:
        kind, event = await subscriber.hear()
        require(kind == "event" and event["message"]["payload"] == payload, f"REST sent {event}")


async def check_refusal(publisher: Client) -> list[str]:
    """Check refusals; the topic ends when the peer has seen its last subscriber disconnect."""
    kind = ""
    answer: Body = {}
    for _ in range(20):
        kind, answer = await publisher.ask("publish", topic="news", message=message(0))
        if kind == "error":
            break
        await asyncio.sleep(0.1)
    require(kind == "error", f"a topic outlived its subscribers: got {kind} {answer}")
    kind, answer = await publisher.ask("publish", topic="never", message=message(0))
    require(kind == "error" and "TOPIC_NOT_FOUND" in str(answer), f"no such topic got {answer}")
    error = answer.get("error")
    return [] if isinstance(error, dict) and error.get("code") else ["error.code"]


async def check_answers(publisher: Client) -> list[str]:
    lacks = []
    _, ack = await publisher.ask("subscribe", topic="t", client_id="check", request_id="r1")
    if ack.get("request_id") != "r1":
        lacks.append("request_id")
    try:
        async with asyncio.timeout(1):
            kind, _ = await publisher.ask("ping")
    except (TimeoutError, WebSocketException):
        kind = ""
    if kind != "pong":
        lacks.append("pong")
    return lacks


def verdict(server: Server) -> str:
    if server.missing:
        return f"missing ({server.missing})"
    if server.protocol not in ("json", "socketio"):
        return "not checked (its own protocol, which only the generator speaks)"
    try:
        with running(server) as (port, _):
            lacks = asyncio.run(asyncio.wait_for(check(server, port), PATIENCE))
    except TimeoutError:
        return f"failed (no answer in {PATIENCE:.0f} s)"
    except (
        WrongError,
        RuntimeError,
        OSError,
        WebSocketException,
        ValueError,
        LookupError,
    ) as error:
        return f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return f"ok (without {', '.join(lacks)})" if lacks else "ok"


def main() -> None:
    names = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):  # drop the progress of the installation
        servers = ([ours()] if "ours" in names else []) + peers(names or None)
    unknown = set(names) - {server.name for server in servers}
    if unknown:
        sys.exit(f"no such peer: {', '.join(sorted(unknown))}")
    failed = False
    for server in servers:
        line = verdict(server)
        failed |= line.startswith("failed")
        print(f"{server.name:12}{line}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
