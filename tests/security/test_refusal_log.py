"""The log of refusals: each once, with its reason and who, and without the credential."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession

from hub.access import compile_patterns
from hub.origins import parse_hosts, parse_origins
from tests.support.logs import fields, records, said
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, KEY, settings, sign
from tests.support.ways import WAYS, get, present, status, upgrade

READER = sign(subscribe=["t"])
NEEDED = "A token is needed for publish on topic 't'"
MISSING = "The token does not allow publish on topic 't'"


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines about refusals so far, and clear the log."""
    lines = [it for it in said(caplog) if "refused" in it]
    caplog.clear()
    return lines


@pytest.mark.parametrize("way", WAYS)
async def test_an_invalid_token_is_logged_once(caplog: pytest.LogCaptureFixture, way: str) -> None:
    caplog.set_level("INFO")
    async with running(settings()) as server:
        await present(server.port, way, FOREIGN.encode())
        await until(lambda: not server.hub.clients)
    lines = [it for it in said(caplog) if "listening" not in it]
    told = [it for it in lines if "Token is not valid: its signature is wrong" in it]
    assert len(told) == 1
    assert "address=127.0.0.1" in told[0]
    # After an invalid auth message the client stays, and asks for a topic.
    assert len(lines) == 1 + (way == "auth message")
    assert not any(part in line for part in FOREIGN.split(".") for line in lines)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, NEEDED),
        ({"Authorization": f"Bearer {READER}"}, MISSING),
        ({"X-API-Key": KEY[::-1]}, "The API key is not valid"),
        ({"Authorization": f"Bearer {KEY[::-1]}"}, "Token is not valid: it is not a JWT"),
    ],
)
@pytest.mark.parametrize("path", ["/publish", "/publish/batch"])
@pytest.mark.parametrize("free", [[], ["free"]], ids=["no right", "another right"])
async def test_a_refused_request_is_logged_once(
    caplog: pytest.LogCaptureFixture, headers: dict[str, str], says: str, path: str, free: list[str]
) -> None:
    if not free:  # it is refused before its body is read
        says = says.removesuffix(" on topic 't'")
    caplog.set_level("INFO")
    item = {"topic": "t", "payload": 1}
    async with (
        running(replace(settings(), anonymous_publish=compile_patterns(free))) as server,
        ClientSession(server.url, headers=headers) as session,
        session.post(path, json=item if path == "/publish" else {"items": [item]}) as answer,
    ):
        await answer.read()
    lines = [it for it in said(caplog) if "listening" not in it]
    assert len(lines) == 1
    assert says in lines[0]
    assert "address=127.0.0.1" in lines[0]
    assert KEY[::-1] not in lines[0]
    assert READER not in lines[0]


async def test_a_refused_command_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(settings()) as server, raw_client(server.port) as client:
        publish: dict[str, Any] = {"type": "publish", "topic": "t", "payload": 1}
        await client.say(publish)
        await client.hear()
        (line,) = refused(caplog)
        assert line.startswith("command refused: connection=1 address=127.0.0.1 peer=127.0.0.1:")
        assert line.endswith(f' client_id=raw reason=UNAUTHORIZED detail="{NEEDED}"')
        await client.say({"type": "auth", "token": READER})
        await client.hear()
        await client.say(publish)
        await client.hear()
        (line,) = refused(caplog)
        assert line.endswith(f' subject=ann client_id=raw reason=FORBIDDEN detail="{MISSING}"')
        await client.say({"type": "auth", "token": sign(sub="bob")})
        await client.hear()
        (line,) = refused(caplog)
        assert "another subject" in line


async def test_the_topic_of_a_refusal_cannot_forge_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    topic = "a\n2026-01-01 INFO server: all is well\r\n\x1b[2J"
    async with running(settings()) as server, raw_client(server.port) as client:
        for name in (topic, "x" * 255):
            await client.say({"type": "publish", "topic": name, "payload": 1})
            await client.hear()
        request = {"topic": topic, "payload": 1}
        async with ClientSession(server.url) as session:
            async with session.post("/publish", json=request) as answer:
                assert answer.status == 401
            async with session.delete(f"{server.url}/topics/a%0d%0aINFO") as answer:
                assert answer.status == 401
    lines = refused(caplog)
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert all(len(line) < 600 for line in lines)


async def test_other_origins_and_hosts_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    closed = replace(
        settings(),
        allowed_origins=parse_origins("https://app.example.com"),
        allowed_hosts=parse_hosts("127.0.0.1"),
    )
    async with running(closed) as server, ClientSession(server.url) as session:
        caplog.clear()
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            async with session.get("/topics", headers=headers) as answer:
                assert answer.status in (403, 421)
    assert [it.partition(" status=")[2] for it in said(caplog)] == [
        "403 reason=ORIGIN detail='This Origin is not in ALLOWED_ORIGINS'",
        "421 reason=HOST detail='This Host is not in ALLOWED_HOSTS'",
    ]


async def test_a_client_that_sent_no_token_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with running(settings()) as server, raw_client(server.port) as client:
        caplog.clear()
        server.visit_all(server.hub.clock() + 11)
        assert (await client.hear())[2] == "auth_timeout"
        client.half_close()
        await client.rest()
        await until(lambda: not server.hub.clients)
    assert [fields(it)["reason"] for it in records(caplog)] == ["auth_timeout"]


# --- Invalid credentials count --------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_guesses_of_a_credential_count_as_requests_of_their_address(
    monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    limited = replace(settings(), request_rate=3)
    async with running(limited) as server, ClientSession(server.url) as session:
        statuses = []
        for guess in range(6):
            headers = {header: f"Bearer guess-{guess}"}
            async with session.get("/stats", headers=headers) as answer:
                statuses.append(answer.status)
        assert statuses == [401] * 3 + [429] * 3
        headers = {"Authorization": f"Bearer {KEY}"}
        async with session.get("/stats", headers=headers) as answer:
            assert answer.status == 200  # a valid credential has a limit of its own


async def guesses(server: Running, request: bytes, count: int) -> list[str]:
    return [await status(server.port, request) for _ in range(count)]


@pytest.mark.parametrize(
    "request_",
    [
        upgrade(headers=[(b"Authorization", b"Bearer x")]),
        upgrade(b"/ws?access_token=x"),
        get(b"/events?topic=t", [(b"Authorization", b"Bearer x")]),
        get(b"/events?topic=t&access_token=x"),
    ],
)
async def test_guesses_of_a_token_count_as_connects_of_their_address(
    monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr("handlers.limits._now", lambda: 1_000.0)
    limited = replace(settings(), connect_rate_per_ip=3)
    async with running(limited) as server:
        statuses = await guesses(server, request_, 6)
        assert statuses[3:] == ["429"] * 3
        assert "429" not in statuses[:3]
        client = await RawClient.dial(server.port)
        await client.send(upgrade(headers=[(b"X-API-Key", KEY.encode())]))
        assert b" 429 " in await client.read_head()
        client.close()
