"""The access log: one line for each HTTP request, without secrets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from hub.addresses import parse_networks
from hub.logs import events
from hub.settings import Settings
from tests.support.logs import fields, records
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, KEY, settings, sign
from tests.support.ways import bearer, get, present, upgrade

AGENT = {"User-Agent": "test/1"}


class Log:
    """The access log of a server in this process."""

    def __init__(self, caplog: pytest.LogCaptureFixture, server: Running) -> None:
        self._caplog = caplog
        self.server = server

    async def line(self, **expected: object) -> dict[str, Any]:
        """Wait for the one line so far, compare some of its fields, and forget it."""
        await until(lambda: bool(records(self._caplog, events.HTTP_REQUEST)))
        (record,) = records(self._caplog, events.HTTP_REQUEST)
        assert record.name == "access"
        self._caplog.clear()
        found = fields(record)
        assert {name: found.get(name) for name in expected} == expected
        assert float(str(found["seconds"])) >= 0
        return found


@asynccontextmanager
async def logged(
    caplog: pytest.LogCaptureFixture, *, secured: bool = False, **changes: Any
) -> AsyncIterator[Log]:
    """Run a server with an access log, and with access on if `secured`."""
    caplog.set_level("INFO", "access")
    base = settings() if secured else Settings()
    async with running(replace(base, access_log=True, **changes)) as server:
        yield Log(caplog, server)


async def test_a_request_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog) as log, aiohttp.ClientSession(headers=AGENT) as session:
        async with session.get(f"{log.server.url}/stats?access_token=secret&x=1") as answer:
            size = len(await answer.read())
        found = await log.line(method="GET", path="/stats", status=200)
        assert size < int(found["bytes"]) < size + 300
        assert found["address"] == "127.0.0.1"
        assert found["user_agent"] == "test/1"
        assert "secret" not in str(found)
        assert "connection" not in found


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing%0Ahere", 404),
        ("PATCH", "/topics", 405),
        ("POST", "/publish", 400),
        ("OPTIONS", "/topics", 200),
        ("GET", "/ws", 426),
        ("GET", "/events", 400),
        ("HEAD", "/live", 200),
    ],
)
async def test_an_error_is_one_line(
    caplog: pytest.LogCaptureFixture, method: str, path: str, status: int
) -> None:
    preflight = "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
    async with logged(caplog) as log:
        client = await RawClient.dial(log.server.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n{preflight}\r\n"
        await client.send(head.encode())
        assert f" {status} ".encode() in await client.read_head()
        client.close()
        await log.line(method=method, path=path, status=status)


async def test_a_websocket_is_one_line_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog) as log:
        async with raw_client(log.server.port) as client:
            await client.subscribe("t")
            assert records(caplog, events.HTTP_REQUEST) == []
            client.half_close()
            await client.rest()
        found = await log.line(method="GET", path="/ws", status=101, connection=1, reason="left")
        assert int(found["bytes"]) > 100


async def test_a_stream_is_one_line_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog) as log:
        client = await RawClient.dial(log.server.port)
        await client.send(get(b"/events?topic=t"))
        await client.read_until(b"\n\n")
        assert records(caplog, events.HTTP_REQUEST) == []
        client.reset()
        await log.line(method="GET", path="/events", status=200, connection=1, reason="lost")


@pytest.mark.parametrize("way", ["WebSocket header", "WebSocket query", "stream query"])
async def test_a_refused_credential_is_one_line(caplog: pytest.LogCaptureFixture, way: str) -> None:
    async with logged(caplog, secured=True) as log:
        await present(log.server.port, way, FOREIGN.encode())
        found = await log.line(status=101 if way == "WebSocket query" else 401)
        assert found.get("reason") == ("unauthorized" if way == "WebSocket query" else None)
        assert not any(part in str(found) for part in FOREIGN.split("."))


async def test_the_line_has_the_subject_or_the_name_of_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with logged(caplog, secured=True) as log:
        for credential, who in ((KEY, {"key_name": "app"}), (sign(sub="bob"), {"subject": "bob"})):
            client = await RawClient.dial(log.server.port)
            await client.send(get(b"/stats", bearer(credential.encode())))
            await client.read_to_end()
            client.close()
            found = await log.line(status=200, **who)
            assert credential not in str(found)


async def test_the_line_of_a_websocket_has_the_subject_that_it_got_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with logged(caplog, secured=True) as log, raw_client(log.server.port) as client:
        await client.say({"type": "auth", "token": sign(sub="bob", publish=["#"])})
        assert (await client.hear())["type"] == "ack"
        client.half_close()
        await client.rest()
        await log.line(status=101, subject="bob")


async def test_the_address_is_that_behind_the_proxies(caplog: pytest.LogCaptureFixture) -> None:
    proxies = parse_networks("127.0.0.1")
    forwarded = [(b"X-Forwarded-For", b"203.0.113.1")]
    async with logged(caplog, trusted_proxies=proxies) as log:
        client = await RawClient.dial(log.server.port)
        await client.send(get(b"/live", forwarded))
        await client.read_to_end()
        await log.line(path="/live", address="203.0.113.1")
        upgraded = await RawClient.dial(log.server.port)
        await upgraded.send(upgrade(headers=forwarded))
        await upgraded.read_head()
        upgraded.reset()
        await log.line(path="/ws", address="203.0.113.1")
        client.close()


async def test_a_request_whose_client_goes_away_is_499(caplog: pytest.LogCaptureFixture) -> None:
    body = b"POST /publish HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{"
    poll = get(b"/topics/t/history?wait=60")
    async with logged(caplog, history_size=5) as log, raw_client(log.server.port) as subscriber:
        await subscriber.subscribe("t")
        for sent in (body, poll):
            client = await RawClient.dial(log.server.port)
            await client.send(sent)
            await until(lambda: is_busy(log.server))
            client.reset()
            await until(lambda: not log.server.requests)
            if sent is poll:
                await subscriber.say({"type": "publish", "topic": "t", "payload": 1})
            await log.line(status=499)


def is_busy(server: Running) -> bool:
    """Return whether a request is in progress."""
    return any(getattr(it, "_current_request", None) for it in server.requests)


async def test_malformed_http_is_a_line_without_a_path(caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog) as log:
        client = await RawClient.dial(log.server.port)
        await client.send(b"GET /?access_token=secret HTTP/1.1\r\nbroken\r\n\r\n")
        await client.read_to_end()
        client.close()
        found = await log.line(status=400, address="127.0.0.1")
        assert found.keys() == {"status", "address", "seconds"}


async def test_without_the_setting_there_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with running(Settings()) as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/live") as answer:
            await answer.read()
        async with raw_client(server.port) as client:
            client.half_close()
            await client.rest()
        await until(lambda: not server.hub.clients)
    assert records(caplog, events.HTTP_REQUEST) == []
