"""The end of a token at each moment in the life of a connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from hub.access import LEEWAY, compile_patterns
from tests.security.conftest import OverRedis
from tests.support.frames import PING, TEXT, client_frame
from tests.support.patience import PATIENCE
from tests.support.proxy import proxy
from tests.support.raw import RawClient, raw_client, until
from tests.support.redis import RedisServer
from tests.support.server import Running, running
from tests.support.sse import Listener
from tests.support.tokens import BACK_END, FOREIGN, disconnect, publish, settings, sign
from tests.support.ways import ACCEPTED, WAYS, bearer, get, present, subscribed, upgrade

LIFE = 1  # seconds; the token is accepted for 5 s more
EXPIRED = ("close", 3000, "token_expired")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    async with running(settings()) as server:
        yield server


def end_tokens(server: Running) -> None:
    """Visit the clients at a time at which tokens of LIFE have ended."""
    server.visit_all(server.hub.clock() + LIFE + 6)


async def signed_in(server: Running, life: float = LIFE, **options: Any) -> RawClient:
    """Return a client with a token."""
    client = await RawClient.connect(server.port, **options)
    await client.say({"type": "auth", "token": sign(life)})
    assert (await client.hear())["type"] == "ack"
    return client


@pytest.mark.parametrize("way", WAYS)
async def test_a_token_is_accepted_until_five_seconds_after_its_end(
    server: Running, way: str
) -> None:
    assert await present(server.port, way, sign(-3).encode()) == ACCEPTED
    assert await present(server.port, way, sign(-5).encode()) != ACCEPTED


async def test_the_end_is_announced_once_and_closes_the_connection(server: Running) -> None:
    client = await signed_in(server, life=3_600)
    now = server.hub.clock()
    heard: list[Any] = []
    for seconds in (3_570, 3_576, 3_577, 3_603):
        server.visit_all(now + seconds)
        await client.say({"type": "ping"})
        heard.append(await client.hear())
        while heard[-1] == (PING, b"") or heard[-1]["type"] != "pong":
            heard.append(await client.hear())
    server.visit_all(now + 3_606)
    infos = [it["reason"] for it in heard if isinstance(it, dict) and "reason" in it]
    assert infos == ["TOKEN_EXPIRES"]
    assert await client.hear() == EXPIRED
    client.close()


async def test_a_token_in_time_replaces_the_end(server: Running) -> None:
    client = await signed_in(server)
    await client.say({"type": "auth", "token": sign(3_600)})
    assert (await client.hear())["type"] == "ack"
    end_tokens(server)
    assert await subscribed(client) == ACCEPTED
    client.close()


async def test_an_invalid_token_does_not_move_the_end(server: Running) -> None:
    client = await signed_in(server)
    for token in (FOREIGN, sign(3_600, sub="bob")):
        await client.say({"type": "auth", "token": token})
        assert (await client.hear())["type"] == "error"
    end_tokens(server)
    assert await client.rest_until_close() == [EXPIRED]
    client.close()


async def test_nothing_is_handled_behind_the_end(server: Running) -> None:
    client = await signed_in(server)
    await client.subscribe("t")
    end_tokens(server)
    for kind in ("subscribe", "publish", "auth", "ping"):
        await client.say({"type": kind, "topic": "u", "payload": 1, "token": sign()})
    async with ClientSession(server.url, headers=BACK_END) as session:
        await publish(session, "t", "late")
    client.half_close()
    assert await client.rest() == [EXPIRED]
    assert server.topics() == {"t": 0}  # its history stays
    client.close()


async def test_a_congested_client_gets_what_was_queued_then_the_close(server: Running) -> None:
    client = await signed_in(server, receive_buffer=4_096)
    await client.subscribe("big")
    async with ClientSession(server.url, headers=BACK_END) as session:
        for number in range(12):
            await publish(session, "big", [number, "x" * 60_000])
        end_tokens(server)
        await publish(session, "big", "late")
    heard = await client.rest_until_close()
    assert [it["message"]["payload"][0] for it in heard[:-1]] == list(range(12))
    assert heard[-1] == EXPIRED
    client.close()


async def test_a_recovery_ends_with_the_token() -> None:
    large = replace(settings(), history_bytes=10_000_000)
    async with running(large) as server, ClientSession(server.url, headers=BACK_END) as session:
        async with session.post("/topics", json={"name": "t"}) as answer:
            assert answer.status == 201
        for number in range(100):
            await publish(session, "t", [number, "x" * 60_000])
        async with session.get("/topics/t/history?limit=1") as answer:
            epoch = (await answer.json())["epoch"]
        client = await signed_in(server, receive_buffer=4_096)
        recover = {"epoch": epoch, "offset": 0}
        await client.say({"type": "subscribe", "topic": "t", "recover": recover})
        assert (await client.hear())["recovered"]
        end_tokens(server)
        await publish(session, "t", ["late"])
        heard = await client.rest_until_close()
        numbers = [it["message"]["payload"][0] for it in heard[:-1]]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < 100
        assert heard[-1] == EXPIRED
        client.close()


async def test_a_publish_under_way_over_redis_is_finished_and_nothing_behind_it(
    redis: RedisServer, over_redis: OverRedis
) -> None:
    async with proxy(redis.port) as way, running(over_redis(settings(), way.port)) as server:
        watcher = await signed_in(server, life=3_600)
        await watcher.subscribe("t")
        client = await signed_in(server)
        way.hold()
        commands: list[dict[str, Any]] = [
            *({"type": "publish", "topic": "t", "payload": number} for number in range(3)),
            {"type": "subscribe", "topic": "u"},
            {"type": "publish", "topic": "t", "payload": "behind"},
        ]
        await client.send(b"".join(client_frame(TEXT, json.dumps(it).encode()) for it in commands))
        await until(lambda: any(it.commands.awaiting for it in server.hub.clients))
        end_tokens(server)
        assert await client.hear() == EXPIRED
        client.half_close()
        way.resume()
        heard = [await watcher.hear()]
        while heard[-1].get("message", {}).get("payload") != 2:
            heard.append(await watcher.hear())
        assert [it["message"]["payload"] for it in heard] == [0, 1, 2]
        assert await client.rest() == []
        assert await subscribed(watcher) == ACCEPTED  # and no event came before its ack
        assert "u" not in server.topics()
        client.close()
        watcher.close()


async def test_a_subscribe_under_way_over_redis_is_not_admitted_after_the_end(
    redis: RedisServer, over_redis: OverRedis
) -> None:
    async with proxy(redis.port) as way, running(over_redis(settings(), way.port)) as server:
        client = await signed_in(server)
        way.hold()
        await client.say({"type": "subscribe", "topic": "t"})
        await until(lambda: any(it.commands.awaiting for it in server.hub.clients))
        end_tokens(server)
        assert await client.hear() == EXPIRED
        way.resume()
        await until(lambda: "t" not in server.hub.topic_names())
        client.half_close()
        assert await client.rest() == []
        assert server.hub.subscriptions == 0
        client.close()


async def test_a_stream_ends_behind_an_info_and_the_next_request_is_401(server: Running) -> None:
    request = get(b"/events?topic=t", bearer(sign(LIFE).encode()))
    client = await RawClient.dial(server.port)
    await client.send(request)
    await client.read_until(b'"type":"ack"')
    end_tokens(server)
    stream = bytearray(await client.read_to_end())
    client.close()
    _, _, stream = stream.partition(b"\n\n")
    (said,) = Listener().take(stream)
    assert said.message["reason"] == "TOKEN_EXPIRED"
    assert server.hub.subscriptions == 0
    assert await present(server.port, "stream query", sign(-6).encode()) == "401"


async def test_a_congested_stream_gets_what_was_queued_then_the_info(server: Running) -> None:
    client = await RawClient.dial(server.port, receive_buffer=4_096)
    await client.send(get(b"/events?topic=big", bearer(sign(LIFE).encode())))
    await client.read_head()
    async with ClientSession(server.url, headers=BACK_END) as session:
        for number in range(12):
            await publish(session, "big", [number, "x" * 60_000])
        end_tokens(server)
        await publish(session, "big", "late")
    heard = [it.message for it in Listener().take(bytearray(await client.read_to_end()))]
    events = [it for it in heard if it["type"] == "event"]
    assert [it["message"]["payload"][0] for it in events] == list(range(12))
    assert heard[-1]["reason"] == "TOKEN_EXPIRED"
    client.close()


async def test_a_long_poll_ends_with_the_token(server: Running) -> None:
    async with (
        ClientSession(server.url, headers=BACK_END) as back_end,
        ClientSession(server.url) as session,
    ):
        async with back_end.post("/topics", json={"name": "t"}) as answer:
            assert answer.status == 201
        await publish(back_end, "t", "first")
        path = "/topics/t/history?wait=60"
        for life in (1.5, 5, 15):  # on a busy machine it may have ended before the request
            headers = {"Authorization": f"Bearer {sign(life - LEEWAY)}"}
            async with asyncio.timeout(PATIENCE), session.get(path, headers=headers) as answer:
                if answer.status == 200:
                    assert (await answer.json())["events"] == []
                    break
        else:
            raise AssertionError("no long poll has begun")
        await publish(back_end, "t", "late")
        async with session.get(path, headers=headers) as answer:
            assert answer.status == 401


async def test_a_long_poll_of_a_banned_subject_gets_no_event(server: Running) -> None:
    async with (
        ClientSession(server.url, headers=BACK_END) as back_end,
        ClientSession(server.url, headers={"Authorization": f"Bearer {sign()}"}) as session,
    ):
        async with back_end.post("/topics", json={"name": "t"}) as answer:
            assert answer.status == 201
        await publish(back_end, "t", "first")
        poll = asyncio.create_task(session.get("/topics/t/history?wait=60"))
        history = server.hub.broker.history("t")
        assert history is not None
        await until(lambda: bool(history.waiters))
        await disconnect(server, {"sub": "ann", "for": 60})
        await publish(back_end, "t", "late")
        async with asyncio.timeout(PATIENCE):
            answer = await poll
        assert answer.status == 403
        assert "late" not in await answer.text()


async def test_a_client_without_a_token_is_closed_after_auth_timeout(server: Running) -> None:
    async with raw_client(server.port) as client:
        now = server.hub.clock()
        server.visit_all(now + 9)
        for message in ({"type": "ping"}, {"type": "auth", "token": "x"}):
            await client.say(message)
            await client.hear()
        assert await subscribed(client) == "UNAUTHORIZED"
        server.visit_all(now + 10.5)
        assert await client.hear() == ("close", 3008, "auth_timeout")


async def test_a_client_that_may_read_without_a_token_may_stay(server: Running) -> None:
    free = replace(settings(), anonymous_subscribe=compile_patterns(["#"]))
    async with running(free) as server, raw_client(server.port) as client:
        server.visit_all(server.hub.clock() + 30)
        assert await subscribed(client) == ACCEPTED


async def test_a_handshake_whose_token_is_refused_is_ended(server: Running) -> None:
    """The client that does not answer the Close is cut, and counts until then alone."""
    client = await RawClient.dial(server.port)
    await client.send(upgrade(b"/ws?access_token=x"))
    await client.read_head()
    assert await client.hear() == ("close", 3000, "unauthorized")
    await client.say({"type": "subscribe", "topic": "t", "client_id": "a"})
    now = server.hub.clock()
    for seconds in (1, 12):
        server.visit_all(now + seconds)
    await until(lambda: not server.hub.clients)
    assert server.topics() == {}
    client.close()
