"""A WebSocket client that reads and sends nothing, as `websocat` or a small device may."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets

from tests.support.server import Running


class PlainReader:
    """The messages of one connection."""

    def __init__(self, socket: "websockets.ClientConnection") -> None:
        self._socket = socket

    async def hear(self, count: int) -> list[dict[str, Any]]:
        """Return the next messages, without their times."""
        heard = [json.loads(await self._socket.recv()) for _ in range(count)]
        for message in heard:
            del message["ts"]
        return heard


@asynccontextmanager
async def plain_reader(server: Running, query: str, **options: Any) -> AsyncIterator[PlainReader]:
    """Connect to `/ws` with a query; `options` are those of `websockets.connect`."""
    async with websockets.connect(f"{server.ws}?{query}", **options) as socket:
        yield PlainReader(socket)
