"""Idempotency keys with access on: a caller cannot use up the keys of others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from hub.settings import Settings, read_settings
from tests.security.conftest import OverRedis
from tests.support.access import bearer
from tests.support.redis import RedisServer
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, KEY, SECRET, sign

OPEN = {"ANONYMOUS_PUBLISH": "#", "ANONYMOUS_SUBSCRIBE": "#"}
SETTINGS = read_settings({"JWT_SECRET": SECRET, "API_KEYS": f"app:{KEY},other:{KEY[::-1]}", **OPEN})
ANN = bearer(sign())
# Different callers; the name of the first key is the subject of the first token.
CALLERS = [
    BACK_END,
    bearer(sign(sub="app", publish=["#"])),
    bearer(KEY[::-1]),
    ANN,
    {},
]


async def is_duplicate(
    session: ClientSession, server: Running, headers: dict[str, str], key: str = "order-1001"
) -> bool:
    body = {"topic": "orders", "payload": 1, "idempotency_key": key}
    async with session.post(f"{server.url}/publish", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        content: dict[str, Any] = await answer.json()
        return "duplicate" in content


async def create(session: ClientSession, server: Running) -> None:
    body = {"name": "orders"}
    async with session.post(f"{server.url}/topics", json=body, headers=BACK_END) as answer:
        assert answer.status == 201, await answer.text()


@asynccontextmanager
async def serving(
    settings: Settings, nodes: int
) -> AsyncIterator[tuple[ClientSession, list[Running]]]:
    """Run servers on which the topic "orders" exists."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(settings)) for _ in range(nodes)]
        session = await stack.enter_async_context(ClientSession())
        await create(session, servers[0])
        yield session, servers


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_key_counts_for_one_caller(
    redis: RedisServer, over_redis: OverRedis, nodes: int
) -> None:
    settings = SETTINGS if nodes == 1 else over_redis(SETTINGS, redis.port)
    async with serving(settings, nodes) as (session, servers):
        for longest in ("order-1001", "x" * 255, "\0" * 255):
            firsts = [await is_duplicate(session, servers[0], it, longest) for it in CALLERS]
            assert firsts == [False] * len(CALLERS)
            again = [await is_duplicate(session, servers[-1], it, longest) for it in CALLERS]
            assert again == [True] * len(CALLERS)


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_repetition_on_a_new_connection_with_a_new_token_is_a_duplicate(
    redis: RedisServer, over_redis: OverRedis, nodes: int
) -> None:
    settings = SETTINGS if nodes == 1 else over_redis(SETTINGS, redis.port)
    async with serving(settings, nodes) as (session, servers):
        acks = []
        for server, life in ((servers[0], 600), (servers[-1], 3_600)):
            token = sign(life)
            async with session.ws_connect(f"{server.ws}?access_token={token}") as socket:
                command = {"type": "publish", "topic": "orders", "payload": 1}
                await socket.send_json({**command, "idempotency_key": "k"})
                acks.append(await socket.receive_json())
        assert [it["type"] for it in acks] == ["ack", "ack"]
        assert ["duplicate" in it for it in acks] == [False, True]


async def test_with_access_off_all_callers_share_a_key() -> None:
    async with running(Settings()) as server, ClientSession() as session:
        await create(session, server)
        assert [await is_duplicate(session, server, it) for it in (ANN, {})] == [False, True]


async def test_a_key_cannot_be_made_to_be_that_of_another_caller() -> None:
    """No subject and key together are those of another subject and key."""
    async with running(SETTINGS) as server, ClientSession() as session:
        await create(session, server)
        pairs = [("a", "b:c"), ("a:b", "c"), ('a","b', "c"), ("a", 'b","c')]
        for subject, key in pairs:
            headers = bearer(sign(sub=subject, publish=["#"]))
            assert not await is_duplicate(session, server, headers, key)
