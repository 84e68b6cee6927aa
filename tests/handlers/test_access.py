"""A missing right, over REST and WebSocket."""

from typing import Any

import aiohttp
import pytest

from hub.settings import Settings, read_settings
from tests.support.server import running

SETTINGS = read_settings(
    {
        "API_KEYS": "app:0123456789abcdef",
        "ANONYMOUS_SUBSCRIBE": "news/#",
        "HISTORY_SIZE": "10",
    }
)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/publish", {"topic": "news/a", "payload": 1}),
        ("POST", "/topics", {"name": "news/a"}),
        ("DELETE", "/topics/news/a", None),
        ("GET", "/topics/chat/history", None),
    ],
)
async def test_a_request_without_a_right_is_401(method: str, path: str, body: Any) -> None:
    async with (
        running(SETTINGS) as server,
        aiohttp.ClientSession(server.url) as session,
        session.request(method, path, json=body) as answer,
    ):
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await answer.json())["error"].startswith("A token is needed for ")


async def test_a_command_without_a_right_is_unauthorized() -> None:
    async with (
        running(SETTINGS) as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.ws}?client_id=ann") as client,
    ):
        await client.send_json({"type": "subscribe", "topic": "chat", "request_id": "r1"})
        refused = await client.receive_json()
        await client.send_json({"type": "subscribe", "topic": "news/a", "request_id": "r2"})
        accepted = await client.receive_json()
    assert (refused["type"], refused["request_id"]) == ("error", "r1")
    assert refused["error"] == {
        "code": "UNAUTHORIZED",
        "message": "A token is needed for subscribe on topic 'chat'",
    }
    assert (accepted["type"], accepted["request_id"]) == ("ack", "r2")


async def test_with_access_off_everything_is_allowed() -> None:
    async with (
        running(Settings()) as server,
        aiohttp.ClientSession(server.url) as session,
        session.post("/topics", json={"name": "chat"}) as answer,
    ):
        assert answer.status == 201
