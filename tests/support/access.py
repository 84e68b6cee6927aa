"""A server with access control, and callers with and without credentials."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from hub.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.server import Running, running
from tests.support.tokens import KEY
from tests.support.tokens import settings as access_settings

BACK_END = {"X-API-Key": KEY}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serving(settings: Settings | None = None) -> AsyncIterator["Caller"]:
    async with (
        running(access_settings() if settings is None else settings) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
    ):
        yield Caller(server, session)


class Caller:
    """Requests and connections to one server."""

    def __init__(self, server: Running, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def disconnect(
        self, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        url = f"{self.server.url}/disconnect"
        headers = BACK_END if headers is None else headers
        async with self.session.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def connect(self, token: str = "", name: str = "") -> aiohttp.ClientWebSocketResponse:
        headers = bearer(token) if token else {}
        return await self.session.ws_connect(f"{self.server.ws}?client_id={name}", headers=headers)

    async def get(self, path: str, headers: dict[str, str]) -> int:
        async with self.session.get(f"{self.server.url}{path}", headers=headers) as answer:
            return answer.status


async def rest(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """Return the messages until the end of a connection, and its close code."""
    async with asyncio.timeout(PATIENCE):
        said = [message.json() async for message in socket]
    return [*said, socket.close_code]


async def is_open(socket: aiohttp.ClientWebSocketResponse) -> bool:
    await socket.send_json({"type": "ping"})
    return bool((await socket.receive_json(timeout=PATIENCE))["type"] == "pong")
