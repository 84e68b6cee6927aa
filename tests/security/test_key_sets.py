"""A key set that is served over HTTP, is rotated, and fails in every way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from hub.logs import events
from hub.settings import Settings, read_settings
from tests.support.logs import said
from tests.support.patience import PATIENCE
from tests.support.raw import RawClient, raw_client
from tests.support.server import Running, running
from tests.support.ways import ACCEPTED, WAYS, present, subscribed

KEYS: Final = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("a", "b", "c")}


def document(*kids: str) -> bytes:
    keys = [
        {**ECAlgorithm.to_jwk(KEYS[kid].public_key(), as_dict=True), "kid": kid, "use": "sig"}
        for kid in kids
    ]
    return json.dumps({"keys": keys}).encode()


def signed(kid: str, named: str | None = None, **claims: Any) -> bytes:
    """Return a token that is signed by a key, and names another if `named` is given."""
    content = {"sub": "ann", "aud": "us", "iss": "them", "exp": int(time.time()) + 3_600}
    content |= {"subscribe": ["#"]} | claims
    return jwt.encode(content, KEYS[kid], "ES256", headers={"kid": named or kid}).encode()


class Issuer:
    """Serves a key set. State: what it answers, and the number of fetches."""

    def __init__(self) -> None:
        self.port = 0
        self.fetches = 0
        self.elsewhere = 0  # requests for where a redirect leads
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
        self.serve("a")

    def serve(self, *kids: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=document(*kids))

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        return await self.answer(request)

    async def redirected(self, _: web.Request) -> web.Response:
        self.elsewhere += 1
        return web.Response(body=document("b"))

    def settings(self) -> Settings:
        return read_settings(
            {
                "JWT_JWKS_URL": f"http://127.0.0.1:{self.port}/keys",
                "JWT_AUDIENCE": "us",
                "JWT_ISSUER": "them",
            }
        )


@asynccontextmanager
async def serving() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.add_routes([web.get("/keys", issuer.handle), web.get("/others", issuer.redirected)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.port = runner.addresses[0][1]
    try:
        yield issuer
    finally:
        await runner.cleanup()


async def error(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=document("b"))


async def redirect(_: web.Request) -> web.StreamResponse:
    return web.HTTPFound("/others")


async def large(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(80):
            await response.write(b" " * 65_536)
        await response.write(document("b"))
    except ConnectionError:
        pass  # the server has read enough
    return response


async def packed(_: web.Request) -> web.StreamResponse:
    """Return 5 MB that arrive as 5 KB."""
    response = web.Response(body=b" " * 5_000_000 + document("b"))
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def nonsense(_: web.Request) -> web.StreamResponse:
    return web.Response(text='{"keys": [1, {"kty": "EC"}, {"kty": "oct", "k": "AAAA"}]}')


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3_600)
    return web.Response(body=document("b"))


@pytest.mark.parametrize("failure", [error, redirect, large, packed, cut, nonsense, slow])
async def test_in_an_outage_the_keys_and_the_clients_stay(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    monkeypatch.setattr("hub.auth.jwks.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("hub.auth.jwks.FETCH_TIMEOUT", 0.2)
    async with serving() as issuer, running(issuer.settings()) as server:
        inside = await signed_in(server, "a")
        issuer.answer = failure
        fetches = issuer.fetches
        assert await present(server.port, "REST header", signed("b")) == "401"
        assert issuer.fetches > fetches
        assert issuer.elsewhere == 0
        assert await present(server.port, "REST header", signed("a")) == ACCEPTED
        assert await subscribed(inside) == ACCEPTED
        inside.close()
        (line,) = said(caplog, events.KEYS_NOT_FETCHED)
        assert line.endswith(" keys=1")
        issuer.serve("b")
        assert await present(server.port, "REST header", signed("b")) == ACCEPTED


async def signed_in(server: Running, kid: str) -> RawClient:
    client = await RawClient.connect(server.port)
    await client.say({"type": "auth", "token": signed(kid).decode()})
    assert (await client.hear())["sub"] == "ann"
    return client


async def test_a_rotation_lets_the_new_key_in_and_keeps_who_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.auth.jwks.MIN_INTERVAL", 0.0)
    async with serving() as issuer, running(issuer.settings()) as server:
        inside = await signed_in(server, "a")
        issuer.serve("b")
        for way in WAYS:
            assert await present(server.port, way, signed("b")) == ACCEPTED
        assert issuer.fetches == 2
        assert await subscribed(inside) == ACCEPTED
        # The old key is gone: its tokens open no connection, and do not renew one.
        await inside.say({"type": "auth", "token": signed("a").decode()})
        assert (await inside.hear())["error"]["code"] == "UNAUTHORIZED"
        await inside.say({"type": "auth", "token": signed("b").decode()})
        assert (await inside.hear())["type"] == "ack"
        assert await present(server.port, "REST header", signed("a")) == "401"
        inside.close()


async def test_a_flood_of_unknown_keys_fetches_once_in_30_seconds() -> None:
    async with serving() as issuer, running(issuer.settings()) as server:
        assert issuer.fetches == 1
        floods = (
            present(server.port, way, signed("b", f"unknown-{number}"))
            for way in WAYS
            for number in range(10)
        )
        assert ACCEPTED not in await asyncio.gather(*floods)
        assert issuer.fetches == 1
        assert await present(server.port, "REST header", signed("a")) == ACCEPTED


async def test_a_flood_while_the_issuer_is_slow_shares_a_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.auth.jwks.MIN_INTERVAL", 0.0)
    release = asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(body=document("a", "b"))

    async with serving() as issuer, running(issuer.settings()) as server:
        issuer.answer = late
        waiting = [
            asyncio.create_task(present(server.port, "REST header", signed("b"))) for _ in range(20)
        ]
        async with asyncio.timeout(PATIENCE):
            while issuer.fetches < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
        # Known keys do not wait, nor do other messages.
        assert await present(server.port, "REST header", signed("a")) == ACCEPTED
        async with raw_client(server.port) as client:
            await client.say({"type": "ping"})
            assert (await client.hear())["type"] == "pong"
        release.set()
        assert set(await asyncio.gather(*waiting)) == {ACCEPTED}
        assert issuer.fetches == 2


async def test_a_token_of_one_key_may_not_name_another() -> None:
    async with serving() as issuer:
        issuer.serve("a", "b")
        async with running(issuer.settings()) as server:
            for way in ("REST header", "subprotocol"):
                assert await present(server.port, way, signed("a", "b")) != ACCEPTED
            for claims in ({"aud": "others"}, {"iss": "me"}, {"aud": ["others"]}):
                token = signed("a", **claims)
                assert await present(server.port, "REST header", token) == "401"
            assert await present(server.port, "REST header", signed("a", aud=["x", "us"])) == (
                ACCEPTED
            )


async def test_the_server_starts_without_its_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.auth.jwks.MIN_INTERVAL", 0.0)
    async with serving() as issuer:
        issuer.answer = error
        async with running(issuer.settings()) as server:
            assert await present(server.port, "REST header", signed("a")) == "401"
            issuer.serve("a")
            assert await present(server.port, "REST header", signed("a")) == ACCEPTED
