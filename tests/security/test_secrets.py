"""No secret is in anything that a server prints or answers, whatever is done to it."""

import asyncio
import base64
import re
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from handlers.routes import ROUTES
from hub.auth.tokens import Verifier
from hub.service import Service
from hub.settings import read_settings
from tests.support.frames import TEXT, client_frame
from tests.support.process import server_process
from tests.support.raw import RawClient, raw_client
from tests.support.redis import redis_server
from tests.support.server import running
from tests.support.tokens import sign
from tests.support.ways import Headers, bearer, get, upgrade

MARK = "m4rk3d"  # in each secret
JWT_SECRET = f"{MARK}-a-secret-that-signs-all-tokens"
API_KEY = f"{MARK}-an-api-key-of-a-back-end"
PASSWORD = f"{MARK}-of-redis"
ENVIRON = {
    "JWT_SECRET": JWT_SECRET,
    "API_KEYS": f"app:{API_KEY}",
    "JWT_JWKS_URL": f"http://127.0.0.1:1/keys?secret={MARK}",
    "JWT_AUDIENCE": "tests",
    "JWT_ISSUER": "tests",
    "LOG_LEVEL": "debug",
    "HISTORY_SIZE": "10",
}


def token(life: float = 3_600, **claims: Any) -> bytes:
    claims = claims or {"subscribe": ["#"], "publish": ["#"], "manage": ["#"]}
    return sign(life, secret=JWT_SECRET, aud="tests", iss="tests", **claims).encode()


# The signature of each token is a mark, too.
TOKENS = {
    "valid": token(),
    "expired": token(-60),
    "without rights": token(sub="bob", subscribe=[]),
    "too narrow": token(sub="cy", subscribe=["a"]),
    "of another secret": sign(secret=MARK * 6).encode(),
    "no JWT": MARK.encode(),
    "not UTF-8": MARK.encode() + b"\xff",
    "with a control character": MARK.encode() + b"\x01",
    "too long": MARK.encode() * 2_000,
    "an API key": API_KEY.encode(),
    "a wrong API key": API_KEY.encode() + b"x",
}
MARKS = [
    MARK.encode(),
    base64.b64encode(MARK.encode())[:8],
    *(it.rpartition(b".")[2] for it in TOKENS.values() if it.count(b".") == 2),
]
BODIES = {
    "/publish": b'{"topic":"t","payload":1}',
    "/publish/batch": b'{"items":[{"topic":"t","payload":1}]}',
    "/topics": b'{"name":"t"}',
}


def requests(tokens: Iterable[bytes]) -> list[bytes]:
    """Return requests to every route and to none, with each token in each place."""
    made = []
    for text in tokens:
        credentials: list[Headers] = [
            bearer(text),
            [(b"X-API-Key", text)],
            [(b"Authorization", b"Basic " + text)],
            [(b"Sec-WebSocket-Protocol", b"bearer, " + text)],
            [(b"Cookie", b"token=" + text)],
        ]
        for headers in credentials:
            for route in ROUTES:
                path = route.path.replace(r"{name:[\s\S]+}", "t")
                made.append(request(route.method, path, headers))
            made.append(upgrade(headers=headers))
            made.append(request("GET", "/none", headers))
            made.append(request("PATCH", "/topics", headers))
            made.append(request("GET", "/topics?limit=x", headers))
            made.append(request("GET", "/events?topic=t&topic=t", headers))
        for path in (b"/ws", b"/events?topic=t", b"/stats", b"/topics", b"/topics/t/history"):
            target = path + (b"&" if b"?" in path else b"?") + b"access_token=" + text
            made += [get(target), upgrade(target), upgrade(target, bearer(text))]
    return made


def request(method: str, path: str, headers: Headers) -> bytes:
    body = BODIES.get(path, b"") if method == "POST" else b""
    lines = [*headers, (b"Content-Length", str(len(body)).encode())]
    return get(path.encode(), lines).replace(b"GET", method.encode(), 1) + body


async def answers(port: int, tokens: Iterable[bytes] = TOKENS.values()) -> bytes:
    """Return everything that a server answers."""
    heard = bytearray()
    for said in requests(tokens):
        client = await RawClient.dial(port)
        try:
            await client.send(said)
            if b"\r\nUpgrade:" in said or b"GET /events" in said:
                client.half_close()
            heard += await client.read_to_end()
        except ConnectionError:
            pass  # reset behind an answer, because the request was too long
        finally:
            client.close()
    client = await RawClient.connect(port)
    for text in (*TOKENS.values(), TOKENS["valid"], TOKENS["too narrow"]):
        for command in (
            {"type": "auth", "token": text.decode(errors="replace")},
            {"type": "subscribe", "topic": "t"},
            {"type": "publish", "topic": "t", "payload": 1},
            {"type": text.decode(errors="replace")},
        ):
            try:
                await client.send(client_frame(TEXT, orjson.dumps(command)))
            except ConnectionError:
                pass  # closed after three invalid tokens
    try:
        client.half_close()
        heard += await client.read_to_end()
    except OSError:
        pass
    client.close()
    return bytes(heard)


def marks_in(printed: bytes) -> list[bytes]:
    """Return the surroundings of each mark."""
    found = []
    for mark in MARKS:
        place = printed.find(mark)
        if place >= 0:
            found.append(printed[max(0, place - 200) : place + 200])
    return found


@pytest.mark.parametrize("logs", [{}, {"LOG_FORMAT": "json", "ACCESS_LOG": "true"}])
async def test_no_answer_and_no_line_of_the_log_has_a_secret(
    capfd: pytest.CaptureFixture[str], logs: dict[str, str]
) -> None:
    with redis_server() as redis:
        with redis.client() as client:
            client.config_set("requirepass", PASSWORD)
        address = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}"
        async with server_process(**ENVIRON, **logs, REDIS_ADDR=address) as server:
            reading = asyncio.create_task(server.read_log())
            heard = await answers(server.port)
            client_ = await RawClient.dial(server.port)
            await client_.send(get(b"/stats", [(b"X-API-Key", API_KEY.encode())]))
            stats = await client_.read_to_end()
            client_.close()
            server.terminate()
            await reading
            assert await server.exit_code() == 0
    assert b'"nodes":1' in stats  # Redis has accepted the password
    printed = capfd.readouterr()
    log = "".join(server.log)
    assert "Token is not valid" in log
    assert re.search(r"status(=|\": )401\b", log)
    for text in (heard, stats, log.encode(), printed.out.encode(), printed.err.encode()):
        assert marks_in(text) == []
    assert heard.count(b"HTTP/1.1 401 ") > 100


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("JWT_SECRET", MARK),
        ("API_KEYS", f"app:{MARK}"),
        ("API_KEYS", f"{MARK} {API_KEY}"),
        ("JWT_PUBLIC_KEY", f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----"),
        ("JWT_JWKS_URL", f"http://example.com/{MARK}"),
        ("REDIS_ADDR", f"redis://:{MARK}@:{MARK}/"),
    ],
)
def test_a_wrong_secret_stops_the_start_without_being_shown(change: str, value: str) -> None:
    with pytest.raises(ValueError, match=change) as caught:
        read_settings({**ENVIRON, change: value})
    assert MARK not in str(caught.value)


async def test_a_wrong_password_of_redis_is_not_shown() -> None:
    with redis_server() as locked:
        with locked.client() as client:
            client.config_set("requirepass", PASSWORD)
        for wrong in (f"{MARK}:{PASSWORD}x@",):
            address = f"redis://{wrong}127.0.0.1:{locked.port}"
            async with server_process(**ENVIRON, REDIS_ADDR=address) as server:
                server.terminate()
                await server.exit_code()
                log = "".join(server.log)
                assert "Redis" in log
                assert MARK not in log


async def test_an_internal_error_shows_no_secret(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of the test")

    async with running(read_settings(ENVIRON)) as server:
        for name in ("topics", "history", "publish", "subscribe", "create", "check_stream"):
            monkeypatch.setattr(Service, name, fail)
        heard = await answers(server.port, [TOKENS["valid"]])
    monkeypatch.setattr(Verifier, "verify", fail)
    async with running(read_settings(ENVIRON)) as server, raw_client(server.port) as broken:
        await broken.say({"type": "auth", "token": TOKENS["valid"].decode()})
        assert await broken.hear() == ("close", 1011, "internal_error")
    assert heard.count(b"HTTP/1.1 500 ") > 3
    assert "a fault of the test" in caplog.text
    assert marks_in(heard) == []
    assert marks_in(caplog.text.encode()) == []
