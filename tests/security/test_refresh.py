"""A token with narrower rights on an open connection, while a publisher sends at full speed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.security.conftest import OverRedis
from tests.support.frames import TEXT, client_frame
from tests.support.proxy import proxy
from tests.support.raw import RawClient, until
from tests.support.redis import RedisServer
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, publish, settings, sign

WIDE = {"type": "auth", "token": sign(subscribe=["kept/#", "lost/#"], publish=["#"])}
NARROW = {"type": "auth", "token": sign(subscribe=["kept/+"], publish=["kept/+"])}
KEPT, LOST = "kept/a", "lost/a"


async def signed_in(server: Running, **options: Any) -> RawClient:
    client = await RawClient.connect(server.port, **options)
    await client.say(WIDE)
    assert (await client.hear())["sub"] == "ann"
    return client


async def say_together(client: RawClient, *messages: dict[str, Any]) -> None:
    """Send messages that the server reads at once."""
    await client.send(b"".join(client_frame(TEXT, json.dumps(it).encode()) for it in messages))


@asynccontextmanager
async def under_fire(server: Running, *topics: str) -> AsyncIterator[None]:
    """Publish numbers to all topics without a pause, and stop at the end of the block."""
    async with ClientSession(server.url, headers=BACK_END) as session:
        for topic in topics:
            async with session.post("/topics", json={"name": topic}) as answer:
                assert answer.status in (201, 409)
    publisher = await signed_in(server)
    acks = 0

    async def fire() -> None:
        nonlocal acks
        for number in range(1_000_000):
            commands = [{"type": "publish", "topic": it, "payload": number} for it in topics]
            await say_together(publisher, *commands)
            for _ in commands:
                assert (await publisher.hear())["type"] == "ack"
                acks += 1

    firing = asyncio.create_task(fire())
    try:
        await until(lambda: acks > len(topics) or firing.done())
        yield
    finally:
        firing.cancel()
        await asyncio.wait([firing])
        publisher.close()
    assert firing.cancelled(), firing.exception()


def check(heard: list[Any], topics: set[str]) -> None:
    """Check that events come between an ack of their subscribe and their FORBIDDEN info.

    The events of a topic are numbered without a hole from one to the other.
    """
    last: dict[str, int] = {}
    for it in heard:
        topic = it.get("topic", "")
        if it["type"] == "ack" and topic:
            topics.add(topic)
            last.pop(topic, None)
        elif it.get("reason") == "FORBIDDEN":
            topics.remove(topic)
        elif it["type"] == "event":
            assert topic in topics, f"an event of {topic} without a subscription"
            number = it["message"]["payload"]
            assert number == last.get(topic, number - 1) + 1, f"{topic}: {number} after {last}"
            last[topic] = number


async def subscribe(client: RawClient, *topics: str) -> list[Any]:
    """Subscribe to topics; return all messages up to the last ack, which events may precede."""
    commands = [{"type": "subscribe", "topic": it, "request_id": it} for it in topics]
    await say_together(client, *commands)
    return await hear_until(client, topics[-1])


async def hear_until(client: RawClient, request_id: str) -> list[Any]:
    """Return all messages up to the answer to a command."""
    heard = [await client.hear()]
    while heard[-1].get("request_id") != request_id:
        heard.append(await client.hear())
    return heard


async def hear_events(client: RawClient, topic: str, count: int) -> list[Any]:
    """Return all messages up to the next `count` events of a topic."""
    heard = []
    while count:
        heard.append(await client.hear())
        count -= heard[-1]["type"] == "event" and heard[-1]["topic"] == topic
    return heard


async def test_no_event_follows_the_info_that_its_topic_is_lost() -> None:
    async with running(settings()) as server, under_fire(server, KEPT, LOST):
        for _ in range(20):
            client = await signed_in(server)
            heard = await subscribe(client, KEPT, LOST)
            heard += await hear_events(client, LOST, 3)
            await client.say({**NARROW, "request_id": "narrow"})
            heard += await hear_until(client, "narrow")
            assert [it.get("topic") for it in heard if it.get("reason") == "FORBIDDEN"] == [LOST]
            heard += await hear_events(client, KEPT, 20)
            check(heard, set())
            client.close()


async def test_rights_that_change_all_the_time_lose_no_event_and_give_none_away() -> None:
    async with running(settings()) as server, under_fire(server, KEPT, LOST):
        client = await signed_in(server)
        heard = await subscribe(client, KEPT)
        for number in range(50):
            await say_together(
                client,
                WIDE,
                {"type": "subscribe", "topic": LOST},
                NARROW,
                {"type": "subscribe", "topic": LOST, "request_id": f"n{number}"},
            )
            heard += await hear_until(client, f"n{number}")
            assert heard[-1]["error"]["code"] == "FORBIDDEN"
        check(heard, set())
        assert sum(it.get("reason") == "FORBIDDEN" for it in heard) == 50
        client.close()


@pytest.mark.parametrize("backpressure", ["disconnect", "drop_oldest"])
async def test_a_congested_client_gets_no_event_after_the_info(backpressure: str) -> None:
    small = replace(settings(), backpressure=backpressure, max_queue_size=40)
    async with running(small) as server:
        client = await signed_in(server, receive_buffer=4_096)
        await client.subscribe(KEPT, LOST)
        publisher = await signed_in(server)
        async with ClientSession(server.url, headers=BACK_END) as session:
            for number in range(8 if backpressure == "disconnect" else 30):
                for topic in (KEPT, LOST):
                    await publish(session, topic, [number, "x" * 60_000])
        (ours,) = (it for it in server.hub.clients if it.topics)
        assert ours.state.value == "congested"
        await client.say({**NARROW, "request_id": "narrow"})
        await until(lambda: len(ours.topics) == 1)
        await publisher.say({"type": "subscribe", "topic": LOST})
        await publisher.hear()
        for topic in (LOST, KEPT):
            await publisher.say({"type": "publish", "topic": topic, "payload": ["last"]})
        heard = await hear_until(client, "narrow")
        while heard[-1].get("message", {}).get("payload") != ["last"]:
            heard.append(await client.hear())
        reasons = [it.get("reason") for it in heard]
        behind = heard[reasons.index("FORBIDDEN") :]
        assert [it["topic"] for it in behind if it["type"] == "event"] == [KEPT]
        assert [it["topic"] for it in behind if it.get("reason") == "GAP"] in ([], [KEPT])
        client.close()
        publisher.close()


async def test_a_recovery_of_a_lost_topic_ends() -> None:
    large = replace(settings(), history_bytes=10_000_000)
    async with running(large) as server:
        watcher = await signed_in(server)
        await watcher.subscribe(LOST)
        async with ClientSession(server.url, headers=BACK_END) as session:
            for number in range(100):
                await publish(session, LOST, [number, "x" * 60_000])
        history = server.hub.broker.history(LOST)
        assert history is not None
        client = await signed_in(server, receive_buffer=4_096)
        recover = {"epoch": history.position.epoch, "offset": 0}
        await client.say({"type": "subscribe", "topic": LOST, "recover": recover})
        assert (await client.hear())["recovered"]
        await client.say({**NARROW, "request_id": "narrow"})
        heard = await hear_until(client, "narrow")
        numbers = [it["message"]["payload"][0] for it in heard if it["type"] == "event"]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < 100
        assert heard[-2]["reason"] == "FORBIDDEN"
        client.close()
        watcher.close()


async def test_many_lost_topics_end_one_by_one() -> None:
    """2,500 topics take several turns of the loop, in which events arrive."""
    topics = [f"lost/{number}" for number in range(2_500)]
    fired = topics[::250]
    many = replace(settings(), max_subscriptions=3_000, history_size=0)
    async with running(many) as server:
        client = await signed_in(server)
        await say_together(client, *({"type": "subscribe", "topic": it} for it in topics))
        for _ in topics:
            assert (await client.hear())["type"] == "ack"
        watcher = await signed_in(server)
        await watcher.subscribe(*fired)
        async with under_fire(server, *fired):
            heard = await hear_events(client, fired[-1], 3)
            await client.say({**NARROW, "request_id": "narrow"})
            heard += await hear_until(client, "narrow")
            check(heard, set(topics))
            assert sum(it.get("reason") == "FORBIDDEN" for it in heard) == len(topics)
            await client.say({"type": "ping", "request_id": "last"})
            assert all(it["type"] == "pong" for it in await hear_until(client, "last"))
        client.close()
        watcher.close()


async def test_a_congested_client_may_lose_more_topics_than_its_queue_has_room_for() -> None:
    topics = [f"lost/{number}" for number in range(600)]
    async with running(settings()) as server:
        client = await signed_in(server, receive_buffer=4_096)
        await say_together(client, *({"type": "subscribe", "topic": it} for it in topics))
        for _ in topics:
            assert (await client.hear())["type"] == "ack"
        (ours,) = server.hub.clients
        async with ClientSession(server.url, headers=BACK_END) as session:
            while ours.state.value != "congested":
                await publish(session, topics[0], "x" * 60_000)
            await client.say({**NARROW, "request_id": "narrow"})
            await until(lambda: not ours.topics)
        heard = await hear_until(client, "narrow")
        lost = [it["topic"] for it in heard if it.get("reason") == "FORBIDDEN"]
        assert lost == topics
        client.close()


async def test_a_publisher_with_lost_rights_publishes_no_more() -> None:
    async with running(settings()) as server:
        watcher = await signed_in(server)
        await watcher.subscribe(LOST)
        client = await signed_in(server)
        commands = [{"type": "publish", "topic": LOST, "payload": it} for it in range(10)]
        await say_together(client, *commands[:5], NARROW, *commands[5:])
        kinds = [(await client.hear())["type"] for _ in range(11)]
        assert kinds == ["ack"] * 6 + ["error"] * 5
        assert [(await watcher.hear())["message"]["payload"] for _ in range(5)] == list(range(5))
        await watcher.say({"type": "ping"})
        assert (await watcher.hear())["type"] == "pong"
        client.close()
        watcher.close()


# --- Over Redis -----------------------------------------------------------------------------------


async def test_two_nodes_send_no_event_of_a_lost_topic(
    redis: RedisServer, over_redis: OverRedis
) -> None:
    both = over_redis(settings(), redis.port)
    async with running(both) as here, running(both) as there, under_fire(there, KEPT, LOST):
        watcher = await signed_in(here)  # the node stays subscribed to both topics
        await watcher.subscribe(LOST)
        for _ in range(10):
            client = await signed_in(here)
            heard = await subscribe(client, KEPT, LOST)
            heard += await hear_events(client, LOST, 3)
            await client.say({**NARROW, "request_id": "narrow"})
            heard += await hear_until(client, "narrow")
            heard += await hear_events(client, KEPT, 10)
            check(heard, set())
            client.close()
        watcher.close()


async def test_a_subscribe_under_way_is_ended_by_the_token_behind_it(
    redis: RedisServer, over_redis: OverRedis
) -> None:
    async with proxy(redis.port) as way:
        slow, direct = over_redis(settings(), way.port), over_redis(settings(), redis.port)
        async with running(slow) as here, running(direct) as there, under_fire(there, KEPT, LOST):
            for _ in range(5):
                client = await signed_in(here)
                heard = await subscribe(client, KEPT)
                way.hold()
                command = {"type": "subscribe", "topic": LOST}
                await say_together(client, command, NARROW, {**command, "request_id": "again"})
                await until(lambda: any(it.commands.awaiting for it in here.hub.clients))
                way.resume()
                heard += await hear_until(client, "again")
                assert heard[-1]["error"]["code"] == "FORBIDDEN"
                heard += await hear_events(client, KEPT, 10)
                check(heard, set())
                lost = [it for it in heard if it.get("topic") == LOST and it["type"] != "event"]
                assert [it["type"] for it in lost] == ["ack", "info"]
                client.close()
