"""A double of the server, which sends only the messages that a test gives it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

PATIENCE = 30  # seconds for anything to come on a busy machine; only a failure takes them

Message = dict[str, Any]


class Peer:
    """The server's side of one connection."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.name = request.query["client_id"]
        self.headers = request.headers  # of its handshake
        self.authorization = request.headers.get("Authorization", "")
        self._socket = socket

    async def hear(self) -> Message:
        """Return the client's next message."""
        async with asyncio.timeout(PATIENCE):
            return dict(await self._socket.receive_json())

    async def say(self, kind: str, **fields: Any) -> None:
        await self._socket.send_json({"type": kind, "ts": "2026-01-01T00:00:00Z", **fields})

    async def ack(self, command: Message, **more: Any) -> None:
        """Acknowledge a command of the client."""
        known = {key: command[key] for key in ("request_id", "topic") if key in command}
        await self.say("ack", **known, status="ok", **more)

    async def refuse(self, command: Message, code: str, **more: Any) -> None:
        error = {"code": code, "message": "because", **more}
        await self.say("error", request_id=command["request_id"], error=error)

    async def event(self, topic: str, payload: Any, offset: int | None = None) -> None:
        place = {} if offset is None else {"offset": offset}
        await self.say("event", topic=topic, message={"id": "m", "payload": payload}, **place)

    async def info(self, topic: str, payload: Any, **more: Any) -> None:
        await self.say("info", topic=topic, message={"id": "info_1", "payload": payload}, **more)

    async def subscribed(self, **position: Any) -> Message:
        """Acknowledge the client's subscribe, and return the command."""
        command = await self.hear()
        assert command["type"] == "subscribe"
        await self.ack(command, **position)
        return command

    async def close(self, code: int, word: str = "") -> None:
        await self._socket.close(code=code, message=word.encode())

    async def left(self) -> bool:
        """Wait for the end of the connection; return True if the client sent a Close."""
        async with asyncio.timeout(PATIENCE):
            while (message := await self._socket.receive()).type is WSMsgType.TEXT:
                pass
        return message.type is WSMsgType.CLOSE


class Double:
    """A server that accepts WebSockets, one after another."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 101  # of the answer to the handshake; another one refuses it
        self.location = ""  # where a status of 3xx redirects to
        self.refused = 0
        self.refusals: asyncio.Queue[str] = asyncio.Queue()  # their Authorization headers
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._over = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def peer(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._peers.get()

    @property
    def unseen(self) -> int:
        """The number of connections that the test has not taken yet."""
        return self._peers.qsize()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.status != 101:
            self.refused += 1
            self.refusals.put_nowait(request.headers.get("Authorization", ""))
            headers = {"Location": self.location} if self.location else None
            return web.Response(status=self.status, headers=headers)
        socket = web.WebSocketResponse(autoclose=False, timeout=1)
        await socket.prepare(request)
        self._peers.put_nowait(Peer(socket, request))
        await self._over.wait()
        return socket

    def end(self) -> None:
        self._over.set()


@asynccontextmanager
async def double() -> AsyncIterator[Double]:
    made = Double()
    app = web.Application()
    app.router.add_get("/ws", made.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.end()
        await runner.cleanup()
