"""The Python client with a real server, through a proxy that cuts, stalls and delays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from broadcast_client import Client, Deleted, Event, Item, Lost, RefusedError, connect
from broadcast_client import _connection as connection

from hub.settings import Settings
from hub.values import Rule
from tests.support.double import PATIENCE
from tests.support.eventually import eventually
from tests.support.hurt import hurt
from tests.support.proxy import Proxy, proxy
from tests.support.server import Running, running

LARGE = Settings(history_rules={"": Rule(10_000, 60.0, 10_000_000)}, recovery_limit=10_000)
SMALL = Settings(history_rules={"": Rule(5, 60.0, 10_000_000)})
CUTS = 20  # so long a stream goes on
SOME = 100  # events of it at a time


pytestmark = pytest.mark.usefixtures("hasty")


class Scene:
    """A server, a proxy in front, and clients with and without the proxy."""

    def __init__(self, server: Running, way: Proxy) -> None:
        self.server = server
        self.way = way
        self.url = f"ws://127.0.0.1:{way.port}/ws"


@asynccontextmanager
async def scene(settings: Settings = LARGE) -> AsyncIterator[Scene]:
    async with (
        asyncio.timeout(3 * PATIENCE),
        running(settings) as server,
        proxy(server.port) as way,
    ):
        yield Scene(server, way)


async def publish_numbers(client: Client, numbers: range) -> list[dict[str, Any]]:
    """Publish numbers, a few at a time, and return the acks."""
    room = asyncio.Semaphore(20)

    async def publish(number: int) -> dict[str, Any]:
        try:
            return await client.publish("news", number)
        finally:
            room.release()

    publishing: list[asyncio.Task[dict[str, Any]]] = []
    for number in numbers:
        await room.acquire()
        publishing.append(asyncio.create_task(publish(number)))
        await asyncio.sleep(0)  # it is sent before the next
    return await asyncio.gather(*publishing)


def came(items: list[Item], payload: object) -> bool:
    """Return True if the newest event has this payload."""
    return bool(items) and getattr(items[-1], "payload", None) == payload


def holes(items: list[Item]) -> int:
    """Return the number of losses; fail on repetitions, disorder and unreported holes."""
    last, told, losses = -1, False, 0
    for item in items:
        if isinstance(item, Lost):
            told, losses = True, losses + 1
        elif isinstance(item, Event):
            assert item.payload > last, f"{item.payload} after {last}"
            assert item.payload == last + 1 or told, (
                f"{last + 1} to {item.payload - 1}: lost without a report"
            )
            last, told = item.payload, False
    return losses


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_event_arrives_once_and_in_order_despite_network_faults(seed: int) -> None:
    async with (
        scene() as it,
        connect(it.url) as publisher,
        connect(it.url) as reader,
    ):
        items: list[Item] = []
        also: list[Item] = []
        reader.subscribe("news", also.append)
        news = reader.subscribe("news", items.append)
        await news.ready()
        wounds: list[str] = []
        hurting = asyncio.create_task(hurt(it.way, seed, wounds, 0.03))
        answers: list[dict[str, Any]] = []
        while wounds.count("cut") < CUTS:
            answers += await publish_numbers(publisher, range(len(answers), len(answers) + SOME))
        hurting.cancel()
        await asyncio.wait([hurting])
        await publisher.publish("news", "end")
        await eventually(partial(came, items, "end"))
        await eventually(partial(came, also, "end"))

        assert also == items
        assert [getattr(item, "payload", item) for item in items] == [*range(len(answers)), "end"]
        # Each was carried out once: its place is its number, whatever was sent twice.
        assert [answer["offset"] for answer in answers] == list(range(1, len(answers) + 1))


async def test_losses_beyond_the_history_are_reported() -> None:
    async with (
        scene(SMALL) as it,
        connect(it.server.ws) as publisher,
        connect(it.url) as reader,
    ):
        items: list[Item] = []
        news = reader.subscribe("news", items.append)
        await news.ready()
        first = 0
        for away in (3, 12, 5, 6, 1):  # events that are published while it is cut
            it.way.shut = True
            it.way.cut()
            await eventually(lambda: not it.server.topics()["news"])
            await publish_numbers(publisher, range(first, first + away))
            it.way.shut = False
            await eventually(lambda: it.server.topics()["news"])
            await publisher.publish("news", first + away)
            first += away + 1
            await eventually(partial(came, items, first - 1))
        assert holes(items) == 2
        assert len(items) == first - 12 - 6 + 2


async def test_a_restart_begins_another_epoch_and_is_reported() -> None:
    async with scene() as it, connect(it.url) as client:
        news = client.subscribe("news")
        await client.publish("news", 1)
        assert (await anext(news)).topic == "news"
        before = news.position
        async with running(LARGE) as second:
            it.way.target = second.port
            it.way.cut()
            assert isinstance(await anext(news), Lost)
            await client.publish("news", 2)
            item = await anext(news)
            assert isinstance(item, Event)
            assert (item.payload, item.offset) == (2, 1)
            assert before is not None
            assert news.position is not None
            assert news.position.epoch != before.epoch
            it.way.cut()
            it.way.target = it.server.port


async def test_a_publish_whose_ack_was_lost_is_published_once() -> None:
    async with (
        scene() as it,
        connect(it.url) as publisher,
        connect(it.server.ws) as reader,
    ):
        news = reader.subscribe("news")
        await news.ready()
        await publisher.subscribe("other").ready()
        it.way.mute = True
        publishing = asyncio.create_task(publisher.publish("news", 1))
        assert (await anext(news)).payload == 1  # type: ignore[union-attr]
        it.way.mute = False
        it.way.cut()
        answer = await publishing
        assert (answer["duplicate"], answer["offset"]) == (True, 1)
        await publisher.publish("news", 2)
        assert (await anext(news)).payload == 2  # type: ignore[union-attr]


async def test_a_silent_connection_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT", 0.1)
    monkeypatch.setattr(connection, "CONNECT_WITHIN", 0.2)
    async with scene() as it, connect(it.url) as client:
        news = client.subscribe("news")
        await news.ready()
        it.way.silent = True
        await eventually(lambda: len(it.server.hub.clients) == 0)
        it.way.silent = False
        await client.publish("news", 1)
        assert (await anext(news)).payload == 1  # type: ignore[union-attr]


async def test_another_process_continues_from_a_saved_position() -> None:
    async with scene() as it:
        async with connect(it.url) as client:
            news = client.subscribe("news")
            for n in range(3):
                await client.publish("news", n)
            await anext(news)
            kept = news.position
        async with connect(it.url) as client:
            news = client.subscribe("news", recover=kept)
            assert [(await anext(news)).payload for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
        async with connect(it.url) as client:
            news = client.subscribe("news", last_n=2)
            assert [(await anext(news)).payload for _ in range(2)] == [1, 2]  # type: ignore[union-attr]


async def test_unsubscribe_and_deletion_end_a_subscription() -> None:
    async with scene() as it, connect(it.url) as client:
        news = client.subscribe("news")
        await news.ready()
        for n in range(20):  # each subscription gets its own, and all that was missed between
            await client.publish("news", n)
            assert (await anext(news)).payload == n  # type: ignore[union-attr]
            news.close()
            news = client.subscribe("news", recover=news.position)
        await news.ready()
        it.server.hub.broker.delete("news", lambda _: None)
        assert isinstance(await anext(news), Deleted)
        with pytest.raises(StopAsyncIteration):
            await anext(news)
        with pytest.raises(RefusedError, match="TOPIC_NOT_FOUND"):
            await client.publish("news", 1)


async def test_the_server_sees_one_subscription_until_the_last_one_leaves() -> None:
    async with scene() as it, connect(it.url) as client:
        one, two = client.subscribe("news"), client.subscribe("news")
        await two.ready()
        assert it.server.topics() == {"news": 1}
        one.close()
        await client.publish("news", 1)
        assert (await anext(two)).payload == 1  # type: ignore[union-attr]
        two.close()
        await eventually(lambda: it.server.topics() == {"news": 0})


async def test_a_publish_that_is_too_big_fails_alone() -> None:
    async with scene() as it, connect(it.url) as client:
        news = client.subscribe("news")
        publishing = [client.publish("news", payload) for payload in ("a", "x" * 70_000, "b")]
        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        assert [getattr(outcome, "code", "ok") for outcome in outcomes] == ["ok", "TOO_BIG", "ok"]
        assert [(await anext(news)).payload for _ in range(2)] == ["a", "b"]  # type: ignore[union-attr]


async def test_closing_the_client_while_publishing_ends_the_connection() -> None:
    async with scene() as it:
        async with connect(it.url) as client:
            await client.subscribe("news").ready()
            it.way.hold()
            publishing = asyncio.create_task(client.publish("news", 1))
            await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="CLOSED"):
            await publishing
        it.way.resume()
        await eventually(lambda: not it.server.hub.clients)


async def test_more_topics_than_the_message_rate_are_subscribed_at_its_pace() -> None:
    async with scene(Settings(message_rate=20)) as it, connect(it.url) as client:
        subscriptions = [client.subscribe(f"t{number}") for number in range(60)]
        for subscription in subscriptions:
            await subscription.ready()
        assert len(it.server.topics()) == 60
