"""`/ws?topic=…` on servers with a Redis: recovery on another server, outages, and slow answers."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.eventually import eventually
from tests.support.frames import TEXT, client_frame
from tests.support.plain_reader import plain_reader
from tests.support.proxy import proxy
from tests.support.raw import RawClient
from tests.support.redis import RedisServer, free_port
from tests.support.server import Running, running
from tests.support.ways import upgrade


def settings(address: str, prefix: str, **more: Any) -> Settings:
    where = parse_redis_address(address)
    return Settings(redis_addr=where, redis_prefix=prefix, history_size=10, **more)


async def publish(server: Running, topic: str, payload: Any) -> None:
    body = {"topic": topic, "payload": payload}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post("/publish", json=body) as answer,
    ):
        assert answer.status == 200


async def test_a_reader_recovers_on_another_server(address: str, prefix: str) -> None:
    async with (
        running(settings(address, prefix)) as here,
        running(settings(address, prefix)) as there,
    ):
        async with plain_reader(here, "topic=a&topic=b") as it:
            acks = await it.hear(2)
            assert [(ack["topic"], ack["offset"]) for ack in acks] == [("a", 0), ("b", 0)]
            await publish(there, "a", 1)
            (event,) = await it.hear(1)
            assert (event["message"]["payload"], event["offset"]) == (1, 1)
        await publish(there, "a", 2)
        await publish(there, "b", 3)
        positions = f"recover={acks[0]['epoch']}:1&recover={acks[1]['epoch']}:0"
        async with plain_reader(there, f"topic=a&topic=b&{positions}") as it:
            heard = await it.hear(4)
            told = [(ack["topic"], ack["recovered"]) for ack in heard if ack["type"] == "ack"]
            assert told == [("a", True), ("b", True)]
            events = [it["message"]["payload"] for it in heard if it["type"] == "event"]
            assert sorted(events) == [2, 3]
            await publish(here, "b", 4)
            (event,) = await it.hear(1)
            assert event["message"]["payload"] == 4


async def test_many_topics_are_acked_in_order(address: str, prefix: str) -> None:
    topics = [f"t{number}" for number in range(64)]
    async with running(settings(address, prefix)) as server:
        query = "&".join(f"topic={topic}" for topic in topics)
        async with plain_reader(server, query) as it:
            assert [ack["topic"] for ack in await it.hear(64)] == topics


async def test_a_topic_that_cannot_be_subscribed_gets_an_error() -> None:
    nobody = settings(f"127.0.0.1:{free_port()}", "p")
    async with (
        running(nobody) as server,
        plain_reader(server, "topic=a&topic=b&client_id=me") as it,
    ):
        heard = await it.hear(2)
        assert [(said["type"], said["error"]["code"]) for said in heard] == [
            ("error", "UNAVAILABLE")
        ] * 2
        assert len(server.hub.clients) == 1


@pytest.mark.parametrize("rate", [0, 1_000])
async def test_commands_wait_for_the_topics_of_the_url_and_reading_pauses(
    shared_redis: RedisServer, prefix: str, rate: int
) -> None:
    async with (
        proxy(shared_redis.port) as way,
        running(settings(f"127.0.0.1:{way.port}", prefix, message_rate=rate)) as server,
    ):
        way.hold()
        client = await RawClient.dial(server.port)
        said = {"type": "unsubscribe", "topic": "a", "client_id": "me", "request_id": "r1"}
        frame = client_frame(TEXT, json.dumps(said).encode())
        await client.send(upgrade(b"/ws?topic=a&topic=b") + frame)
        await client.read_head()
        await eventually(lambda: server.hub.clients)
        (connected,) = server.hub.clients
        await asyncio.sleep(0)
        transport: Any = connected.transport
        assert not transport.is_reading()
        way.resume()
        heard = [await client.hear() for _ in range(3)]
        assert [(it["topic"], it.get("request_id")) for it in heard] == [
            ("a", None),
            ("b", None),
            ("a", "r1"),
        ]
        await eventually(transport.is_reading)
        client.close()
