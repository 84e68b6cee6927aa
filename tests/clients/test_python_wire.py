"""The Python client, with a double that sends what the real server sends rarely."""

import asyncio
import base64
import hashlib
import logging
import pickle
import re
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from broadcast_client import (
    Client,
    Deleted,
    Event,
    Item,
    Lost,
    Position,
    RefusedError,
    Subscription,
    connect,
)
from broadcast_client import _connection as connection
from broadcast_client import _publishes as publishes
from broadcast_client import _subscription as subscription
from broadcast_client import _topics as topics

from tests.support.double import PATIENCE, Double, Peer, double
from tests.support.eventually import eventually

GONE = "Topic has been deleted"


pytestmark = pytest.mark.usefixtures("hasty")


@asynccontextmanager
async def meeting() -> AsyncIterator[tuple[Double, Client, Peer]]:
    """Yield a double, a client, and the double's side of the first connection."""
    async with double() as server, connect(server.url, client_id="ann") as client:
        yield server, client, await server.peer()


async def take(items: Subscription, count: int = 1) -> list[Item]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(items) for _ in range(count)]


async def payloads(items: Subscription, count: int) -> list[Any]:
    """Return the payloads of the next events, and the classes of other items."""
    return [it.payload if isinstance(it, Event) else type(it) for it in await take(items, count)]


async def refusal_of(waiting: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        async with asyncio.timeout(PATIENCE):
            await waiting
    return caught.value.code


def nested(levels: int) -> list[Any]:
    """Return a list nested in `levels` levels."""
    made: list[Any] = []
    for _ in range(levels - 1):
        made = [made]
    return made


def last(caplog: pytest.LogCaptureFixture, level: int) -> str:
    return [record.getMessage() for record in caplog.records if record.levelno == level][-1]


# --- Positions ------------------------------------------------------------------------------------


async def test_a_reconnect_recovers_from_the_position() -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        assert "recover" not in await peer.subscribed(epoch="a", offset=5)
        await news.ready()
        assert news.position == ("a", 5)
        await peer.event("news", "six", 6)
        assert await take(news) == [Event("news", "m", "six", "2026-01-01T00:00:00Z", 6)]
        assert news.position == ("a", 6)
        await peer.close(1001, "going_away")

        peer = await server.peer()
        assert peer.name == "ann"
        await peer.event("news", "of nobody", 7)
        command = await peer.subscribed(epoch="a", offset=7, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 6}
        await peer.event("news", "seven", 7)
        await peer.event("news", "eight", 8)
        assert await payloads(news, 2) == ["seven", "eight"]


async def test_repeated_events_are_dropped_within_an_epoch_only() -> None:
    async with meeting() as (_, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=1)
        for offset in (2, 3, 2, 3, 4):
            await peer.event("news", offset, offset)
        await peer.info("news", {"reason": "GAP", "epoch": "b", "offset": 1})
        await peer.event("news", "b2", 2)
        await peer.info("news", {"reason": "GAP", "dropped": 2, "epoch": "b", "offset": 4})
        await peer.event("news", "b3", 3)
        await peer.event("news", "b5", 5)
        await peer.info("news", {"reason": "GAP", "epoch": "b", "offset": 2})
        await peer.event("news", "b5", 5)
        await peer.event("news", "b6", 6)
        assert await payloads(news, 4) == [2, 3, 4, Lost]
        assert news.position == ("b", 1)
        assert await payloads(news, 1) == ["b2"]
        (lost,) = await take(news)
        assert isinstance(lost, Lost)
        assert lost.count == 2
        assert await payloads(news, 3) == ["b5", Lost, "b6"]


async def test_an_unreported_hole_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=0)
        await peer.event("news", 1, 1)
        await peer.event("news", 4, 4)
        first, lost, third = await take(news, 3)
        assert isinstance(lost, Lost)
        assert lost.count == 2
        assert [getattr(it, "payload", None) for it in (first, third)] == [1, 4]
        assert f"{server.url}: news: lost: 2 events" in last(caplog, logging.WARNING)


@pytest.mark.parametrize(
    ("before", "ack"),
    [
        ({"epoch": "a", "offset": 3}, {"epoch": "b", "offset": 9, "recovered": False}),
        ({"epoch": "a", "offset": 3}, {"recovered": False}),
        ({}, {"epoch": "b", "offset": 9}),
        ({}, {}),
    ],
    ids=["another epoch", "no history any more", "a history now", "never a history"],
)
async def test_a_failed_recovery_is_reported(
    before: dict[str, Any], ack: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(**before)
        await news.ready()
        await peer.close(1001)
        peer = await server.peer()
        await peer.subscribed(**ack)
        publishing = asyncio.create_task(client.publish("news", 0))
        await peer.ack(await peer.hear())
        await publishing  # which is answered after the subscribe
        assert news.position == (("a", 3) if before else None), "nobody has taken the loss yet"
        offset = ack["offset"] + 1 if "offset" in ack else None
        await peer.event("news", "next", offset)
        assert await payloads(news, 2) == [Lost, "next"]
        assert "news: lost: what was published meanwhile" in last(caplog, logging.WARNING)
        assert news.position == (("b", 10) if "epoch" in ack else None)
        if offset is None:
            await peer.info("news", {"reason": "GAP", "dropped": 3})
            assert await payloads(news, 1) == [Lost]


@pytest.mark.parametrize(
    ("top", "first", "told"),
    [(53, 44, False), (60, 51, False), (61, 52, True)],
    ids=["they overlap", "they meet", "a hole between"],
)
async def test_last_n_is_requested_until_an_event_has_arrived(
    top: int, first: int, told: bool
) -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news", last_n=10)
        command = await peer.subscribed(epoch="a", offset=50)
        assert command["last_n"] == 10
        await news.ready()
        assert news.position is None
        await peer.close(1001)  # before any of the ten has come

        peer = await server.peer()
        command = await peer.subscribed(epoch="a", offset=top)
        assert command["last_n"] == 10
        assert "recover" not in command
        await peer.event("news", first, first)
        await peer.event("news", first + 1, first + 1)
        await peer.event("news", first + 1, first + 1)
        expected = [Lost] if told else []
        assert await payloads(news, len(expected) + 2) == [*expected, first, first + 1]
        assert news.position == ("a", first + 1)
        await peer.close(1001)
        command = await (await server.peer()).subscribed(epoch="a", offset=top, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": first + 1}


async def test_a_history_shorter_than_last_n_is_no_loss() -> None:
    async with meeting() as (_, client, peer):
        news, empty = client.subscribe("news", last_n=10), client.subscribe("empty", last_n=10)
        await peer.subscribed(epoch="a", offset=50)
        await peer.subscribed(epoch="a", offset=50)
        await peer.event("news", 48, 48)
        await peer.event("news", 50, 50)
        await peer.event("empty", 51, 51)  # all that came before it has expired
        assert await payloads(news, 3) == [48, Lost, 50]
        assert await payloads(empty, 1) == [51]


async def test_last_n_may_begin_with_a_gap() -> None:
    async with meeting() as (_, client, peer):
        news = client.subscribe("news", last_n=10)
        await peer.subscribed(epoch="a", offset=50)
        await peer.info("news", {"reason": "GAP", "epoch": "a", "offset": 48})
        for offset in (48, 49, 50, 51):
            await peer.event("news", offset, offset)
        assert await payloads(news, 1) == [Lost]
        assert news.position == ("a", 48)
        assert await payloads(news, 3) == [49, 50, 51]


async def test_last_n_of_another_epoch_follows_the_loss() -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news", last_n=2)
        await peer.subscribed(epoch="a", offset=50)
        await news.ready()
        await peer.close(1001)
        peer = await server.peer()
        await peer.subscribed(epoch="b", offset=9)
        await peer.event("news", 8, 8)
        await peer.event("news", 9, 9)
        assert await payloads(news, 3) == [Lost, 8, 9]


async def test_last_n_of_a_topic_without_events_is_complete_with_the_ack() -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news", last_n=2)
        await peer.subscribed(epoch="a", offset=0)
        await news.ready()
        assert news.position == ("a", 0)
        await peer.close(1001)
        peer = await server.peer()
        command = await peer.subscribed(epoch="a", offset=5, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 0}
        assert "last_n" not in command
        await peer.event("news", 1, 1)
        assert await payloads(news, 1) == [1]


async def test_last_n_is_not_requested_again_without_a_history() -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news", last_n=10)
        await peer.subscribed()
        await news.ready()
        await peer.close(1001)
        assert "last_n" not in await (await server.peer()).subscribed()
        assert await payloads(news, 1) == [Lost]


async def test_a_saved_position_is_recovered_or_reported() -> None:
    async with meeting() as (_, client, peer):
        kept = client.subscribe("kept", recover=Position("a", 7))
        lost = client.subscribe("lost", recover=Position("a", 7))
        command = await peer.subscribed(epoch="a", offset=8, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 7}
        await peer.event("kept", 8, 8)
        await peer.subscribed(epoch="b", offset=8, recovered=False)
        assert await payloads(kept, 1) == [8]
        assert await payloads(lost, 1) == [Lost]
        assert lost.position == ("b", 8)
        with pytest.raises(ValueError, match="not both"):
            client.subscribe("both", last_n=1, recover=Position("a", 7))


@pytest.mark.parametrize("wrong", ["abc", "ab", {"epoch": "a", "offset": 7}, ["a"], 7])
async def test_a_position_that_is_none_is_an_error(wrong: Any) -> None:
    async with meeting() as (_, client, _):
        with pytest.raises(TypeError, match="recover must be a position such as"):
            client.subscribe("news", recover=wrong)


async def test_a_callback_that_cannot_be_called_is_an_error() -> None:
    async with meeting() as (_, client, _):
        wrong: Any = {"last_n": 3}
        with pytest.raises(TypeError, match="callback must be a function of an item"):
            client.subscribe("news", wrong)


async def test_the_position_is_that_of_the_last_item_taken() -> None:
    async with meeting() as (_, client, peer):
        news, other = client.subscribe("news"), client.subscribe("other")
        await peer.subscribed(epoch="a", offset=0)
        await peer.subscribed()
        for offset in (1, 2, 3):
            await peer.event("news", offset, offset)
        await peer.event("other", "all have come")
        assert await payloads(other, 1) == ["all have come"]
        assert news.position == ("a", 0)
        await take(news)
        assert news.position == ("a", 1)


# --- Subscribing ----------------------------------------------------------------------------------


async def test_events_before_the_ack_belong_to_an_earlier_subscription() -> None:
    async with meeting() as (_, client, peer):
        old = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=1)
        await old.ready()
        old.close()
        new = client.subscribe("news", recover=old.position)
        with pytest.raises(StopAsyncIteration):
            await anext(old)
        await peer.event("news", "old", 2)
        await peer.info("news", GONE)
        assert (await peer.hear())["type"] == "unsubscribe"
        await peer.subscribed(epoch="a", offset=2, recovered=True)
        await peer.event("news", "again", 2)
        assert await payloads(new, 1) == ["again"]


@pytest.mark.parametrize("refused", [False, True])
async def test_an_answer_to_a_closed_subscription_is_not_for_a_new_one(refused: bool) -> None:
    async with meeting() as (_, client, peer):
        first = client.subscribe("first")
        await peer.subscribed()
        await first.ready()  # from here on the client knows that it is connected
        client.subscribe("news").close()
        new = client.subscribe("news")
        commands = [await peer.hear() for _ in range(3)]
        assert [it["type"] for it in commands] == ["subscribe", "unsubscribe", "subscribe"]
        if refused:
            await peer.refuse(commands[0], "INVALID_TOPIC")
        else:
            await peer.ack(commands[0], epoch="a", offset=1)
            await peer.event("news", "not yet", 2)
        await peer.ack(commands[2], epoch="a", offset=2)
        await peer.event("news", "now", 3)
        assert await payloads(new, 1) == ["now"]


async def test_a_temporary_refusal_is_retried_and_a_final_one_is_raised() -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=1)
        await news.ready()
        await peer.close(1001)
        peer = await server.peer()
        for _ in range(2):
            command = await peer.hear()
            assert command["recover"] == {"epoch": "a", "offset": 1}
            await peer.refuse(command, "UNAVAILABLE")
        await peer.subscribed(epoch="a", offset=1, recovered=True)
        await peer.event("news", "back", 2)
        assert await payloads(news, 1) == ["back"]
        await peer.close(1001)
        peer = await server.peer()
        await peer.refuse(await peer.hear(), "INVALID_TOPIC")
        assert await refusal_of(anext(news)) == "INVALID_TOPIC"
        client.subscribe("news")  # it may be tried again
        assert (await peer.hear())["topic"] == "news"


async def test_subscribes_over_the_rate_are_repeated_one_at_a_time() -> None:
    async with meeting() as (_, client, peer):
        closed, *wanted = [client.subscribe(topic) for topic in "abcd"]
        for _ in range(4):
            await peer.refuse(await peer.hear(), "RATE_LIMITED", retry_after_ms=20)
        closed.close()
        assert (await peer.hear())["type"] == "unsubscribe"
        for subscription in wanted:
            command = await peer.hear()
            assert command["topic"] == subscription.topic
            await peer.ack(command)
            await subscription.ready()


async def test_a_publish_over_the_rate_is_refused_with_the_time_to_wait() -> None:
    async with meeting() as (_, client, peer):
        publishing = asyncio.create_task(client.publish("news", 1))
        await peer.refuse(await peer.hear(), "RATE_LIMITED", retry_after_ms=20)
        with pytest.raises(RefusedError) as caught:
            await publishing
        assert (caught.value.code, caught.value.retry_after_ms) == ("RATE_LIMITED", 20)


async def test_a_new_connection_replaces_the_subscribes_to_be_repeated() -> None:
    async with meeting() as (server, client, peer):
        subscriptions = [client.subscribe(topic) for topic in "ab"]
        for _ in subscriptions:
            await peer.refuse(await peer.hear(), "RATE_LIMITED", retry_after_ms=100)
        await peer.close(1013)
        peer = await server.peer()
        for subscription in subscriptions:
            command = await peer.hear()
            assert command["topic"] == subscription.topic
            await peer.ack(command)
        # A real pause: the client's timer is due before its end, and must not ask again.
        await asyncio.sleep(0.15)
        answer = asyncio.create_task(client.publish("news", 1))
        assert (await peer.hear())["type"] == "publish"
        answer.cancel()


async def test_a_new_connection_replaces_a_pending_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        monkeypatch.setattr(topics, "pause", lambda _: 0.05)
        await peer.refuse(await peer.hear(), "UNAVAILABLE")
        await peer.close(1001)
        peer = await server.peer()
        first = await peer.hear()
        # A real pause: the client's timer is due before its end, and must not ask again.
        await asyncio.sleep(0.1)
        await peer.ack(first)
        await news.ready()
        answer = asyncio.create_task(client.publish("news", 1))
        assert (await peer.hear())["type"] == "publish"
        answer.cancel()


async def test_a_deleted_topic_ends_its_subscription_and_no_other() -> None:
    async with meeting() as (server, client, peer):
        news, other = client.subscribe("news"), client.subscribe("other")
        await peer.subscribed(epoch="a", offset=1)
        await peer.subscribed()
        await peer.info("news", "something new")  # infos may be added
        await peer.event("news", 2, 2)
        await peer.info("news", GONE)
        assert await payloads(news, 2) == [2, Deleted]
        with pytest.raises(StopAsyncIteration):
            await anext(news)
        await peer.close(1001)
        peer = await server.peer()
        assert (await peer.subscribed())["topic"] == "other"
        assert await payloads(other, 1) == [Lost]
        client.subscribe("news")
        assert (await peer.subscribed()) == {
            "type": "subscribe",
            "topic": "news",
            "request_id": "s4",
        }
        news.close()  # which is over: nobody is unsubscribed
        client.subscribe("third")
        assert (await peer.hear())["type"] == "subscribe"


async def test_ready_fails_for_a_subscription_closed_before_the_ack() -> None:
    async with meeting() as (_, client, peer):
        acked, closed, left = (client.subscribe(it) for it in ("acked", "closed", "left"))
        await peer.subscribed()
        await acked.ready()
        acked.close()
        await acked.ready()  # it was
        waiting = asyncio.create_task(closed.ready())
        closed.close()
        assert await refusal_of(waiting) == "CLOSED"
    assert await refusal_of(left.ready()) == "CLOSED"


# --- Several subscriptions of one topic -----------------------------------------------------------


async def test_the_subscriptions_of_a_topic_share_one_on_the_wire() -> None:
    async with meeting() as (server, client, peer):
        heard: list[Item] = []
        one, two = client.subscribe("news"), client.subscribe("news")
        await peer.subscribed(epoch="a", offset=5)
        await one.ready()
        await two.ready()
        three = client.subscribe("news", heard.append)
        await three.ready()  # at once
        assert one.position == two.position == three.position == ("a", 5)
        await peer.event("news", "six", 6)
        assert await payloads(one, 1) == ["six"]
        assert (one.position, two.position) == (("a", 6), ("a", 5)), "each has its own"
        await peer.close(1001)

        peer = await server.peer()
        command = await peer.subscribed(epoch="b", offset=1)
        assert command["recover"] == {"epoch": "a", "offset": 6}
        assert await payloads(one, 1) == [Lost]
        assert await payloads(two, 2) == ["six", Lost]
        one.close()
        await peer.event("news", "two", 2)
        assert await payloads(two, 1) == ["two"]
        await eventually(lambda: len(heard) == 3)
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        three.close()
        two.close()
        assert await peer.hear() == {"type": "unsubscribe", "topic": "news"}, "the first word since"
        client.subscribe("news")
        assert "recover" not in await peer.hear()


@pytest.mark.parametrize("acked", [True, False], ids=["acked", "asked"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [7]),
        ({"last_n": 2}, [Lost, 7]),
        ({"recover": ("a", 4)}, [Lost, 7]),
        ({"recover": ("z", 9)}, [Lost, 7]),
        ({"recover": ("a", 6)}, [7]),
        ({"recover": ("a", 7)}, []),
    ],
    ids=["nothing", "the newest", "behind", "another epoch", "nothing missing", "ahead"],
)
async def test_a_later_subscription_begins_at_the_current_position(
    options: dict[str, Any], expected: list[Any], acked: bool
) -> None:
    async with meeting() as (_, client, peer):
        first = client.subscribe("news", last_n=1)
        command = await peer.hear()
        if acked:
            await peer.ack(command, epoch="a", offset=6)
            await first.ready()
        later, same = client.subscribe("news", **options), client.subscribe("news", last_n=1)
        if not acked:
            await peer.ack(command, epoch="a", offset=6)
        await later.ready()
        assert later.position == (
            options.get("recover") if Lost in expected or "recover" in options else ("a", 6)
        )
        for offset in (6, 7, 8):
            await peer.event("news", offset, offset)
        assert await payloads(later, len(expected) + 1) == [*expected, 8]
        assert later.position == ("a", 8)
        assert await payloads(first, 3) == [6, 7, 8]
        expected = [Lost, 7, 8] if acked else [6, 7, 8]
        assert await payloads(same, 3) == expected


async def test_without_a_history_a_later_subscription_loses_only_a_position() -> None:
    async with meeting() as (_, client, peer):
        first = client.subscribe("news")
        await peer.subscribed()
        await first.ready()
        newest = client.subscribe("news", last_n=5)
        behind = client.subscribe("news", recover=("a", 1))
        await peer.event("news", "next")
        assert await payloads(newest, 1) == ["next"]
        assert await payloads(behind, 2) == [Lost, "next"]
        assert behind.position is None


async def test_a_loss_of_the_first_subscription_is_none_of_a_later_one() -> None:
    async with meeting() as (_, client, peer):
        first = client.subscribe("news", recover=("a", 1))
        second = client.subscribe("news")
        await peer.subscribed(epoch="b", offset=4, recovered=False)
        await peer.event("news", 5, 5)
        assert await payloads(first, 2) == [Lost, 5]
        assert await payloads(second, 1) == [5]


async def test_a_subscription_made_while_disconnected_gets_recovered_events() -> None:
    async with meeting() as (server, client, peer):
        first = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=5)
        await first.ready()
        server.status = 503
        await peer.close(1001)
        await eventually(lambda: server.refused)
        second = client.subscribe("news")
        await second.ready()
        server.status = 101
        peer = await server.peer()
        command = await peer.subscribed(epoch="a", offset=6, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 5}
        await peer.event("news", 6, 6)
        assert await payloads(first, 1) == await payloads(second, 1) == [6]


async def test_a_refusal_or_a_deletion_ends_every_subscription_of_the_topic() -> None:
    async with meeting() as (_, client, peer):
        refused = [client.subscribe("") for _ in range(2)]
        await peer.refuse(await peer.hear(), "INVALID_TOPIC")
        assert [await refusal_of(it.ready()) for it in refused] == ["INVALID_TOPIC"] * 2
        news = [client.subscribe("news") for _ in range(2)]
        await peer.subscribed()
        await peer.info("news", GONE)
        assert [await payloads(it, 1) for it in news] == [[Deleted]] * 2
        for it in (*refused, *news):
            it.close()  # which is over: nobody is unsubscribed
        client.subscribe("news")
        assert (await peer.hear())["type"] == "subscribe"


# --- Slow subscribers -----------------------------------------------------------------------------


async def test_a_slow_subscriber_loses_the_oldest_items_and_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscription, "BUFFER", 3)
    async with meeting() as (_, client, peer):
        slow, other = client.subscribe("slow"), client.subscribe("other")
        await peer.subscribed(epoch="a", offset=0)
        await peer.subscribed()
        for offset in range(1, 6):
            await peer.event("slow", offset, offset)
        publishing = asyncio.create_task(client.publish("other", 1))
        await peer.ack(await peer.hear())
        await peer.event("other", "hello")
        assert await payloads(other, 1) == ["hello"]
        assert (await publishing)["status"] == "ok"
        assert "more than 3" in last(caplog, logging.WARNING)

        (lost,) = await take(slow)
        assert isinstance(lost, Lost)
        assert lost.count == 2
        assert slow.position == ("a", 0), "what went can still be recovered"
        assert await payloads(slow, 3) == [3, 4, 5]


async def test_a_burst_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "BUFFER", 100)
    async with meeting() as (_, client, peer):
        heard: asyncio.Queue[Item] = asyncio.Queue()
        news = client.subscribe("news", heard.put_nowait)
        await peer.subscribed()
        for n in range(500):  # they come in a few reads
            await peer.event("news", n)
        await peer.info("news", GONE)
        async with asyncio.timeout(PATIENCE):
            items = [await heard.get() for _ in range(501)]
        assert isinstance(items[-1], Deleted)
        assert [it.payload for it in items if isinstance(it, Event)] == list(range(500))
        with pytest.raises(StopAsyncIteration):
            await anext(news)


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_callback_may_await_and_fail(
    failure: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    heard: asyncio.Queue[Item] = asyncio.Queue()

    async def awaited(item: Item) -> None:
        await heard.put(item)
        if isinstance(item, Event) and item.payload == 1:
            raise failure  # of something that it has awaited

    async with meeting() as (_, client, peer):
        client.subscribe("news", awaited)
        await peer.subscribed()
        for n in (1, 2):
            await peer.event("news", n)
        async with asyncio.timeout(PATIENCE):
            items = [await heard.get() for _ in range(2)]
        assert [it.payload for it in items if isinstance(it, Event)] == [1, 2]
        assert "news: the callback failed; going on" in last(caplog, logging.ERROR)
        client.subscribe("")
        client.subscribe("bad", print)
        for _ in range(2):
            await peer.refuse(await peer.hear(), "INVALID_TOPIC")


# --- Publishing -----------------------------------------------------------------------------------


async def test_unanswered_publishes_are_repeated_in_order_with_their_keys() -> None:
    async with meeting() as (server, client, peer):
        first = asyncio.create_task(client.publish("news", {"n": 1}))
        command = await peer.hear()
        await peer.close(1013, "slow_consumer")
        peer = await server.peer()
        assert await peer.hear() == command
        second = asyncio.create_task(client.publish("news", 2, key="mine"))
        later = await peer.hear()
        assert later["idempotency_key"] == "mine"
        assert later["idempotency_key"] != command["idempotency_key"]
        await peer.ack(later)
        await peer.ack(command, duplicate=True, epoch="a", offset=1)
        assert (await second)["request_id"] == later["request_id"]
        assert (await first)["duplicate"] is True


async def test_a_refused_publish_is_raised_and_not_repeated() -> None:
    async with meeting() as (server, client, peer):
        publishing = asyncio.create_task(client.publish("nobody", 1))
        await peer.refuse(await peer.hear(), "TOPIC_NOT_FOUND")
        assert await refusal_of(publishing) == "TOPIC_NOT_FOUND"
        cancelled = asyncio.create_task(client.publish("news", 2))
        await peer.hear()
        cancelled.cancel()
        await peer.close(1001)
        peer = await server.peer()
        third = asyncio.create_task(client.publish("news", 3))
        command = await peer.hear()
        assert command["payload"] == 3
        await peer.ack(command)
        await third


async def test_invalid_payloads_fail_in_the_client() -> None:
    async with meeting() as (_, client, peer):
        too_deep = ([nested(251)], nested(5_000), {"[": nested(251)})
        wrong = (object(), float("nan"), "\ud800", {"\udfff": 1}, 10**309, [-(10**400)], *too_deep)
        for payload in wrong:
            with pytest.raises((TypeError, ValueError)):
                await client.publish("news", payload)
        with pytest.raises(ValueError, match="surrogates"):
            await client.publish("\ud800", 1)
        with pytest.raises(ValueError, match="surrogates"):
            await client.publish("news", 1, key="\ud800")
        # None of these has been sent; these are, as they are.
        for payload in ("ü", "\\ud800", 10**308, "9" * 400, '\\"[' * 300, nested(250), [[]] * 300):
            publishing = asyncio.create_task(client.publish("news", payload))
            command = await peer.hear()
            assert command["payload"] == payload
            await peer.ack(command)
            await publishing


async def test_an_invalid_topic_makes_no_subscription() -> None:
    async with meeting() as (server, client, peer):
        topics: tuple[Any, ...] = ("\ud800", b"news", ["news"])
        for topic in topics:
            with pytest.raises((TypeError, ValueError)):
                client.subscribe(topic)
        for position in (("\ud800", 1), ("a",), 5, (b"a", 1)):
            with pytest.raises((TypeError, ValueError)):
                client.subscribe("news", recover=position)  # type: ignore[arg-type]
        client.subscribe("news", recover=["a", 5])
        command = await peer.subscribed(epoch="a", offset=5, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 5}
        await peer.close(1001)
        assert (await (await server.peer()).hear())["topic"] == "news"


async def test_a_publish_older_than_its_key_has_an_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with meeting() as (server, client, peer):
        publishing = asyncio.create_task(client.publish("news", 1))
        await peer.hear()
        monkeypatch.setattr(publishes, "REPEATABLE", -1.0)
        await peer.close(1001)
        assert await refusal_of(publishing) == "UNKNOWN"
        peer = await server.peer()
        client.subscribe("news")
        assert (await peer.hear())["type"] == "subscribe"


async def test_pending_publishes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishes, "PENDING", 2)
    async with meeting() as (_, client, peer):
        waiting = [asyncio.create_task(client.publish("news", n)) for n in range(2)]
        commands = [await peer.hear() for _ in waiting]
        assert await refusal_of(client.publish("news", 2)) == "BUSY"
        for command in commands:
            await peer.ack(command)
        await asyncio.gather(*waiting)


async def test_after_close_1009_the_largest_message_is_given_up() -> None:
    async with meeting() as (server, client, peer):
        small = asyncio.create_task(client.publish("news", "x"))
        big = asyncio.create_task(client.publish("news", "x" * 100))
        for _ in range(2):
            await peer.hear()
        await peer.close(1009, "too_big")
        assert await refusal_of(big) == "TOO_BIG"
        peer = await server.peer()
        await peer.ack(await peer.hear())
        await small
        await peer.close(1009, "too_big")  # without a publish
        assert await refusal_of(client.ended()) == "REFUSED"


async def test_a_subscribe_may_be_too_big() -> None:
    async with meeting() as (server, client, peer):
        old = client.subscribe("old")
        await peer.ack(await peer.hear())
        await old.ready()
        new = client.subscribe("x" * 1_000)
        small = asyncio.create_task(client.publish("news", "x"))
        for _ in range(2):
            await peer.hear()
        await peer.close(1009, "too_big")
        assert await refusal_of(new.ready()) == "TOO_BIG"
        peer = await server.peer()
        assert (await peer.hear())["topic"] == "old"
        await peer.ack(await peer.hear())
        await small


async def test_the_send_queue_is_bounded_and_many_topics_block_no_publish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with meeting() as (_, client, peer):
        for number in range(1_001):
            client.subscribe(f"t{number}")
        publishing = asyncio.create_task(client.publish("news", 1))
        commands = [await peer.hear() for _ in range(1_002)]
        await peer.ack(commands[-1])
        await publishing
        monkeypatch.setattr(connection, "UNSENT", 10)
        for _ in range(5):  # a subscribe and an unsubscribe each
            client.subscribe("again").close()
        with pytest.raises(RefusedError, match="BUSY: 10 messages wait to be sent"):
            client.subscribe("again")


async def test_a_publish_without_an_answer_in_time_is_not_sent_again() -> None:
    async with meeting() as (server, client, peer):
        await client.ready()  # so the publish is sent at once
        with pytest.raises(RefusedError, match="may have been carried out") as caught:
            await client.publish("news", 1, timeout=0.05)
        assert caught.value.code == "TIMEOUT"
        assert (await peer.hear())["type"] == "publish"
        await peer.close(1001)
        peer = await server.peer()
        client.subscribe("news")
        assert (await peer.hear())["type"] == "subscribe"


async def test_a_publish_that_was_never_sent_says_so() -> None:
    async with double() as server:
        server.status = 503
        async with connect(server.url) as client:
            with pytest.raises(RefusedError, match=r"TIMEOUT.*the publish was not sent"):
                await client.publish("news", 1, timeout=0.05)


async def test_a_subscription_that_is_not_acked_in_time_goes_on() -> None:
    async with meeting() as (_, client, peer):
        news = client.subscribe("news")
        with pytest.raises(RefusedError, match=r"TIMEOUT.*'news' within 0\.02 s"):
            await news.ready(timeout=0.02)
        await peer.subscribed()
        await news.ready(timeout=PATIENCE)


# --- Refused for good -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [1002, 1007, 1008, 3003, 400, 403])
async def test_a_final_refusal_ends_the_client_and_is_reported(
    how: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with meeting() as (server, client, peer):
        news, never = client.subscribe("news"), client.subscribe("never")
        await peer.subscribed()
        await peer.event("news", 1)
        publishing = asyncio.create_task(client.publish("news", 2))
        for _ in range(2):
            await peer.hear()
        if how > 1000:
            await peer.close(how, "word")
        else:
            server.status = how
            await peer.close(1001)
        assert await refusal_of(publishing) == "REFUSED"
        assert await payloads(news, 1) == [1]
        waiting = (anext(news), never.ready(), client.ended(), client.publish("news", 3))
        assert [await refusal_of(it) for it in waiting] == ["REFUSED"] * 4
        with pytest.raises(RefusedError):
            client.subscribe("other")
        assert str(how) in last(caplog, logging.ERROR)
        assert (server.unseen, server.refused) == (0, 0 if how > 1000 else 1)


@pytest.mark.parametrize("how", [1001, 1011, 1013, 3000, 3008, 4999, 429, 503])
async def test_the_client_reconnects_after_any_other_close_or_status(how: int) -> None:
    async with meeting() as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed()
        if how > 1000:
            await peer.close(how, "word")
        else:
            server.status = how
            await peer.close(1001)
            async with asyncio.timeout(PATIENCE):
                for _ in range(2):
                    await server.refusals.get()
            server.status = 101
        peer = await server.peer()
        await peer.subscribed()
        assert await payloads(news, 1) == [Lost]


async def test_after_a_shutdown_the_client_reconnects_within_the_given_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        spans.append((low, high))
        return 0

    monkeypatch.setattr(connection.random, "uniform", uniform)
    goodbye = {"id": "shutdown_1", "payload": "Server is shutting down."}
    span = {"min_ms": 1_500, "max_ms": 30_000}
    async with meeting() as (server, _, peer):
        await peer.say("info", reason="SHUTDOWN", message=goodbye, reconnect=span)
        await peer.close(1001, "going_away")
        peer = await server.peer()
        await peer.say("info", message=goodbye)  # from a server that gives none
        await peer.close(1001, "going_away")
        await server.peer()
    assert spans == [(1.5, 30.0), (0, 0.02)]


@pytest.mark.parametrize(
    "deleted", [{"payload": "in other words", "reason": "TOPIC_DELETED"}, {"payload": GONE}]
)
@pytest.mark.parametrize("gap", [{"payload": {}, "reason": "GAP"}, {"payload": {"reason": "GAP"}}])
async def test_infos_are_recognised_by_their_reason(
    deleted: dict[str, Any], gap: dict[str, Any]
) -> None:
    async with meeting() as (_, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=1)
        await peer.info("news", "something new")
        await peer.say("info", topic="news", reason="NEW")
        await peer.say("info", reason="NEW")
        await peer.info("news", GONE, reason="NEW")
        await peer.info("news", **gap)
        await peer.event("news", 2, 2)
        await peer.info("news", **deleted)
        assert await payloads(news, 3) == [Lost, 2, Deleted]


@pytest.mark.parametrize("said", ["no JSON", "[]", '{"request_id": "x"}'])
async def test_another_kind_of_server_is_given_up(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with meeting() as (_, client, peer):
        await peer._socket.send_str(said)
        assert await refusal_of(client.ended()) == "REFUSED"
        assert "a fault of this client" in last(caplog, logging.ERROR)


async def test_errors_without_a_request_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with meeting() as (_, client, peer):
        await peer.say("error", error={"code": "SLOW_CONSUMER", "message": "too slow"})
        news = client.subscribe("news")
        await peer.subscribed()
        await news.ready()
        assert "SLOW_CONSUMER" in last(caplog, logging.WARNING)


# --- Connections that hang, and the end -----------------------------------------------------------


@asynccontextmanager
async def hanging() -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Accept connections and answer nothing; yield the URL, and what happens to connections."""
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait("came")
        try:
            await reader.read(-1)  # up to the end, which is the client's
        finally:
            writer.close()
        seen.put_nowait("left")

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE), server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", seen


async def test_a_connect_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_WITHIN", 0.05)
    async with hanging() as (url, seen), connect(url):
        said = [await seen.get() for _ in range(4)]
    assert sorted(said) == ["came", "came", "left", "left"]


async def test_a_connect_that_hangs_does_not_delay_the_end() -> None:
    async with hanging() as (url, seen):
        async with connect(url):
            assert await seen.get() == "came"
        assert await seen.get() == "left"


@pytest.mark.parametrize("state", ["open", "publishing", "waiting", "slow callback"])
async def test_closing_the_client_leaves_nothing_behind(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with double() as server:
        before = asyncio.all_tasks()
        waiting: list[asyncio.Task[Any]] = []
        async with connect(server.url) as client:
            peer = await server.peer()
            iterating = client.subscribe("news")
            await peer.subscribed()
            waiting.append(asyncio.create_task(anext(iterating)))  # type: ignore[arg-type]
            if state == "publishing":
                waiting.append(asyncio.create_task(client.publish("news", 1)))
                assert (await peer.hear())["type"] == "publish"
            elif state == "waiting":
                monkeypatch.setattr(connection, "FIRST", 1_000_000.0)
                monkeypatch.setattr(connection, "LONGEST", 1_000_000.0)
                await peer.close(1001)
            elif state == "slow callback":
                called = asyncio.Event()

                async def never(_: Item) -> None:
                    called.set()
                    await asyncio.Event().wait()

                client.subscribe("slow", never)
                await peer.subscribed()
                await peer.event("slow", 1)
                await called.wait()
        if state != "waiting":
            assert await peer.left()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(outcomes[0], StopAsyncIteration | RuntimeError)
        assert [it.code for it in outcomes[1:] if isinstance(it, RefusedError)] == (
            ["CLOSED"] if state == "publishing" else []
        )
        await client.ended()
        assert await refusal_of(client.publish("news", 1)) == "CLOSED"
        del waiting
        left = {repr(it) for it in asyncio.all_tasks() - before}
        assert {it for it in left if "RequestHandler" not in it} == set(), "not the double's"


async def test_a_server_that_reads_nothing_does_not_delay_the_end() -> None:
    ends: list[asyncio.Transport] = []

    class Clogged(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            ends.append(cast(asyncio.Transport, transport))

        def data_received(self, data: bytes) -> None:
            ends[-1].write(upgrade(data))
            ends[-1].pause_reading()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # soon full
    server = await asyncio.get_running_loop().create_server(Clogged, sock=listener)
    async with asyncio.timeout(PATIENCE), server:
        async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws") as client:
            publishing = [
                asyncio.create_task(client.publish("news", "x" * 100_000)) for _ in range(80)
            ]
            await client.ready()
            (connected,) = client._connection._sockets
            # The kernel's buffer is full, so the client's Close cannot be sent.
            await eventually(lambda: not select.select([], [connected], [], 0)[1])
        await eventually(lambda: connected.fileno() == -1)  # it is closed
        ends[-1].abort()
        assert {await refusal_of(it) for it in publishing} == {"CLOSED"}


def upgrade(request: bytes) -> bytes:
    """Return the answer to a handshake."""
    found = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    assert found is not None
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
    )


def test_the_pause_is_random_within_a_span_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        spans.append((low, high))
        return low

    monkeypatch.undo()
    record: Callable[[float, float], float] = uniform
    monkeypatch.setattr(connection.random, "uniform", record)
    assert [connection.pause(attempt) for attempt in (0, 1, 2, 100_000)] == [0, 0, 0, 0]
    assert spans == [(0, 0.5), (0, 1.0), (0, 2.0), (0, 20.0)]


def test_an_error_survives_the_way_to_another_process() -> None:
    error = RefusedError("RATE_LIMITED", "too fast", 2_000)
    for same in (error, pickle.loads(pickle.dumps(error)), error.copy()):
        assert (same.code, same.text, same.retry_after_ms) == ("RATE_LIMITED", "too fast", 2_000)
        assert str(same) == "RATE_LIMITED: too fast"
