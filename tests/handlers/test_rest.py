"""REST, row by row, and what every answer has: JSON, CORS, and 503 while the server drains."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from handlers.answers import completion
from hub.broker import LocalBroker
from hub.settings import Settings
from tests.support.patterns import mismatch, write_out
from tests.support.raw import RawClient, raw_client
from tests.support.server import Running, running

SCRIPTS = json.loads((Path(__file__).parents[1] / "vectors/rest.json").read_text())
ORIGIN = {"Origin": "https://app.example.com"}


@pytest_asyncio.fixture
async def session() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


async def request(port: int, call: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request over a plain socket: no client library may tidy up the path."""
    method, path = call.split(" ", 1)
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    client = await RawClient.dial(port)
    await client.send("\r\n".join([*lines, "", ""]).encode() + body)
    head = await client.read_head()
    answer = await client.read_to_end()
    client.close()
    return int(head.split()[1]), answer


@pytest.mark.parametrize("vector", SCRIPTS, ids=lambda vector: vector["name"])
async def test_rest(server: Running, vector: dict[str, Any]) -> None:
    listener: RawClient | None = None
    for step in vector["requests"]:
        if "subscribes" in step:
            listener = listener or await RawClient.connect(server.port)
            await listener.subscribe(step["subscribes"])
        elif "hears" in step:
            assert listener is not None
            assert mismatch(step["hears"], await listener.hear()) == ""
        else:
            body = write_out(step["body"]) if "body" in step else step.get("text", "")
            data = body.encode() or b"x" * step.get("fill", 0)
            status, answer = await request(server.port, step["call"], data, step.get("headers", {}))
            assert mismatch(step["answer"], json.loads(answer)) == "", step
            assert status == step["status"]
    if listener is not None:
        listener.close()


CALLS = [
    ("GET", "/"),
    ("GET", "/stats"),
    ("GET", "/health"),
    ("GET", "/topics"),
    ("POST", "/topics"),
    ("DELETE", "/topics/t"),
    ("POST", "/publish"),
    ("GET", "/ws"),
    ("GET", "/nowhere"),
    ("PATCH", "/stats"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_answer_has_cors_headers(
    server: Running, session: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with session.request(method, server.url + path, headers=ORIGIN, data=b"{") as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        if path != "/" and answer.status != 200:
            assert list(await answer.json()) == ["error"]


@pytest.mark.parametrize(("method", "path"), CALLS[:7])
async def test_every_route_answers_the_preflight(
    server: Running, session: aiohttp.ClientSession, method: str, path: str
) -> None:
    asks = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-anything",
    }
    async with session.options(server.url + path, headers=ORIGIN | asks) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert method in answer.headers["Access-Control-Allow-Methods"]
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert "x-anything" in allowed
        assert answer.headers["Vary"] == "Origin"


async def test_an_origin_that_is_not_allowed_gets_no_cors_headers(
    session: aiohttp.ClientSession,
) -> None:
    async with running(Settings(allowed_origins=frozenset({"https://app.example.com"}))) as server:
        for origin, allowed in ((ORIGIN["Origin"], True), ("https://evil.example", False)):
            for path in ("/stats", "/nowhere"):
                async with session.get(server.url + path, headers={"Origin": origin}) as answer:
                    assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
                    assert answer.headers["Vary"] == "Origin"


async def test_the_page_is_served_with_a_policy_of_its_own(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with session.get(server.url) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert (await answer.text()).lstrip().lower().startswith("<!doctype html>")


async def test_a_draining_server_answers_503_and_closes(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with raw_client(server.port):
        server.hub.drain(lambda: None)
        for path in ("/stats", "/ws", "/nowhere"):
            async with session.get(server.url + path, headers=ORIGIN) as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "5"
                assert answer.headers["Connection"] == "close"
                assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
                assert await answer.json() == {"error": "Server is shutting down"}


async def test_a_fault_of_the_server_is_a_500_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    server: Running,
    session: aiohttp.ClientSession,
) -> None:
    def fault(*_: Any) -> None:
        raise ZeroDivisionError("injected")

    monkeypatch.setattr(LocalBroker, "topics", fault)
    async with session.get(server.url + "/topics", headers=ORIGIN) as answer:
        assert answer.status == 500
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
        assert await answer.json() == {"error": "Internal server error"}
    assert [record.getMessage() for record in caplog.records] == ["GET /topics failed"]


async def test_a_completion_that_comes_after_its_request_was_cancelled_is_nobody_s() -> None:
    callbacks: list[Any] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await completion(callbacks.append)
    callbacks[0](())
