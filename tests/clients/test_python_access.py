"""The Python client with tokens and a real server: expiry, refusals, rights and bans."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from broadcast_client import Client, RefusedError, connect

from tests.support.double import PATIENCE
from tests.support.server import Running, running
from tests.support.tokens import (
    END,
    FOREIGN,
    KEY,
    SHORT,
    disconnect,
    settings,
    sign,
)

pytestmark = pytest.mark.usefixtures("hasty")


class Tokens:
    """A token function with given tokens; a missing one is an error of the function."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens)
        self.asked = asyncio.Event()  # set by each call

    async def __call__(self) -> str:
        self.asked.set()
        return self.left.pop(0)


async def announce(server: Running, tokens: Tokens) -> None:
    """Let the server announce the end of the token, until the client has asked for another."""
    tokens.asked.clear()
    server.visit_all(time.monotonic())
    async with asyncio.timeout(PATIENCE):
        await tokens.asked.wait()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Running, Client]]:
    """Yield a server and a back end that publishes."""
    async with (
        asyncio.timeout(3 * PATIENCE),
        running(settings()) as server,
        connect(server.ws, token=KEY) as back_end,
    ):
        yield server, back_end


def numbers(items: list[Any]) -> list[Any]:
    """Return the payloads of events; other items as they are."""
    return [getattr(item, "payload", item) for item in items]


async def test_a_token_is_replaced_without_losing_an_event() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT), sign())
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            before = set(server.hub.clients)
            await back_end.publish("news", 0)
            await announce(server, tokens)
            await back_end.publish("news", 1)
            await client.publish("news", 2)  # it is answered after the auth
            server.visit_all(time.monotonic() + END)
            await client.publish("news", 3)
            assert numbers([await anext(news) for _ in range(4)]) == [0, 1, 2, 3]
            assert set(server.hub.clients) == before


async def test_an_expired_token_is_replaced_by_a_reconnect_that_recovers() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT))
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            await announce(server, tokens)  # the function has no other token
            server.visit_all(time.monotonic() + END)
            await back_end.publish("news", 0)
            tokens.left.append(sign())
            await client.publish("news", 1)
            assert numbers([await anext(news) for _ in range(2)]) == [0, 1]


async def test_an_invalid_string_ends_the_client() -> None:
    async with serving() as (server, _), connect(server.ws, token=FOREIGN) as client:
        with pytest.raises(RefusedError, match="REFUSED: the token was refused"):
            await client.ended()


async def test_missing_rights_reject_commands() -> None:
    async with serving() as (server, back_end):
        async with connect(server.ws) as nobody:
            for waiting in (nobody.subscribe("news").ready(), nobody.publish("news", 1)):
                with pytest.raises(RefusedError, match=r"^UNAUTHORIZED"):
                    await waiting
        async with connect(server.ws, token=sign(subscribe=["news"])) as reader:
            await reader.subscribe("news").ready()
            for waiting in (reader.subscribe("other").ready(), reader.publish("news", 1)):
                with pytest.raises(RefusedError, match=r"^FORBIDDEN"):
                    await waiting
            await back_end.publish("news", 1)


async def test_narrower_rights_end_a_subscription() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT), sign(subscribe=["news"], publish=["news"]))
        async with connect(server.ws, token=tokens) as client:
            news, other = client.subscribe("news"), client.subscribe("other")
            await news.ready()
            await other.ready()
            await back_end.publish("other", 0)
            await announce(server, tokens)
            await client.publish("news", 1)
            assert numbers([await anext(other)]) == [0]
            with pytest.raises(RefusedError, match=r"^FORBIDDEN"):
                await anext(other)
            assert numbers([await anext(news)]) == [1]


async def test_a_disconnected_subject_comes_back_and_a_banned_one_ends() -> None:
    async with serving() as (server, _):
        tokens = Tokens(sign(), sign(), sign())
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            tokens.asked.clear()
            await disconnect(server, {"sub": "ann"})
            await tokens.asked.wait()
            await client.publish("news", 1)
            assert numbers([await anext(news)]) == [1]
            await disconnect(server, {"sub": "ann", "for": 60})
            with pytest.raises(RefusedError, match=r"REFUSED: .*3003"):
                await client.ended()
        async with connect(server.ws, token=sign()) as client:
            with pytest.raises(RefusedError, match="REFUSED: HTTP status 403"):
                await client.ended()
