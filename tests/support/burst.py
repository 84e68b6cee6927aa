"""Bursts of publishes over REST, and the subscribers that read them."""

import io
import json
from typing import Any

import aiohttp

from tests.support.raw import RawClient

ITEMS = 1_000


def batch(topic: str) -> bytes:
    items = [{"topic": topic, "payload": f"{number:06}" + "x" * 4_000} for number in range(ITEMS)]
    return json.dumps({"items": items}).encode()


async def post(session: aiohttp.ClientSession, body: bytes) -> list[dict[str, Any]]:
    async with session.post("/publish/batch", data=io.BytesIO(body)) as response:
        assert response.status == 200
        return list((await response.json())["results"])


async def read(client: RawClient, count: int) -> list[Any]:
    """Return the numbers in the payloads of the next events, and other messages unchanged."""
    heard = [await client.hear() for _ in range(count)]
    return [int(it["message"]["payload"][:6]) if isinstance(it, dict) else it for it in heard]


async def subscribers(port: int, count: int, **options: Any) -> list[RawClient]:
    clients = [await RawClient.connect(port, **options) for _ in range(count)]
    for client in clients:
        await client.subscribe("t")
    return clients
