"""Tokens for a server with access control, and its settings."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from aiohttp import ClientSession

from hub.settings import Settings, read_settings
from tests.support.server import Running

SECRET = "a secret of the tests with over 32 bytes"
KEY = "the-key-of-a-back-end"
BACK_END = {"Authorization": f"Bearer {KEY}"}  # the headers of its requests
SHORT = 20  # seconds: so soon the end of a token is announced at once
END = SHORT + 10  # seconds after which such a token has ended; a silent client is not cut yet
EVERYTHING = {"subscribe": ["#"], "publish": ["#"]}


def settings() -> Settings:
    return read_settings(
        {
            "JWT_SECRET": SECRET,
            "API_KEYS": f"app:{KEY}",
            "HISTORY_SIZE": "100",
            "ALLOWED_ORIGINS": "*",
        }
    )


def sign(life: float = 3_600, *, secret: str = SECRET, **claims: Any) -> str:
    """Return a token that expires in `life` seconds, with every right if no claims are given."""
    content = {"sub": "ann", "exp": int(time.time() + life), **(claims or EVERYTHING)}
    parts = [{"alg": "HS256", "typ": "JWT"}, content]
    text = b".".join(encode(json.dumps(part).encode()) for part in parts)
    mac = hmac.digest(secret.encode(), text, hashlib.sha256)
    return b".".join((text, encode(mac))).decode()


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


FOREIGN = sign(secret=SECRET[::-1])  # signed with another secret


async def publish(session: ClientSession, topic: str, payload: Any) -> None:
    """Publish over REST, with the session's credential."""
    async with session.post("/publish", json={"topic": topic, "payload": payload}) as answer:
        assert answer.status == 200, await answer.text()


async def disconnect(server: Running, body: dict[str, Any]) -> None:
    async with (
        ClientSession(headers=BACK_END) as session,
        session.post(f"{server.url}/disconnect", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
