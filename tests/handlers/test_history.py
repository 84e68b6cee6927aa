"""`GET /topics/{name}/history`: pages of a history, and long polls for the next event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from aiohttp.client import URL

from hub.brokers.history import NOT_REMEMBERED
from hub.delivery.turns import AT_ONCE
from hub.settings import Settings
from hub.values import Rule
from tests.support.patience import PATIENCE
from tests.support.raw import until
from tests.support.server import Running, running

SETTINGS = Settings(history_rules={"": Rule(5, 60.0, 1_000_000), "off": Rule(0, 1.0, 1)})


class Caller:
    """A REST client."""

    def __init__(self, server: Running, session: ClientSession) -> None:
        self.server = server
        self._session = session

    async def make(self, topic: str, *payloads: Any) -> None:
        async with self._session.post("/topics", json={"name": topic}) as answer:
            assert answer.status == 201
        for payload in payloads:
            await self.publish(topic, payload)

    async def publish(self, topic: str, payload: Any) -> dict[str, Any]:
        body = {"topic": topic, "payload": payload}
        async with self._session.post("/publish", json=body) as answer:
            return dict(await answer.json())

    async def history(self, topic: str, **query: Any) -> tuple[int, Any]:
        params = {key: str(value) for key, value in query.items()}
        path = f"/topics/{quote(topic, safe='')}/history"
        async with self._session.get(path, params=params) as answer:
            return answer.status, await answer.json()

    async def payloads(self, topic: str, **query: Any) -> list[Any]:
        status, body = await self.history(topic, **query)
        assert status == 200, body
        return [event["message"]["payload"] for event in body["events"]]


@asynccontextmanager
async def caller() -> AsyncIterator[Caller]:
    async with running(SETTINGS) as server, ClientSession(server.url) as session:
        yield Caller(server, session)


async def test_pages_in_both_directions() -> None:
    async with caller() as it:
        await it.make("t", *range(7))
        status, body = await it.history("t")
        assert (status, body["topic"], body["offset"]) == (200, "t", 7)
        assert [event["offset"] for event in body["events"]] == [3, 4, 5, 6, 7]
        since = {"since_epoch": body["epoch"], "since_offset": 4}
        assert await it.payloads("t", **since) == [4, 5, 6]
        assert await it.payloads("t", **since, limit=2) == [4, 5]
        assert await it.payloads("t", reverse="true", limit=2) == [6, 5]
        assert await it.payloads("t", **since, reverse=1) == [2]
        assert await it.payloads("t", limit=0) == []


async def test_a_publish_answers_with_the_position_of_its_event() -> None:
    async with caller() as it:
        await it.make("t")
        told = await it.publish("t", "x")
        body = (await it.history("t"))[1]
        assert (told["epoch"], told["offset"]) == (body["epoch"], 1)
        await it.make("off")
        assert "offset" not in await it.publish("off", "x")


async def test_a_forgotten_position_is_410_with_the_current_position() -> None:
    async with caller() as it:
        await it.make("t", *range(7))
        epoch = (await it.history("t"))[1]["epoch"]
        for since in (("other", 7), (epoch, 8), (epoch, 1)):
            wish = {"since_epoch": since[0], "since_offset": since[1]}
            status, body = await it.history("t", **wish)
            assert (status, body["epoch"], body["offset"]) == (410, epoch, 7)
            assert "error" in body


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": "-1"}, "limit must be a whole number from 0 to 1000"),
        ({"limit": "1001"}, "limit must be a whole number from 0 to 1000"),
        ({"since_epoch": "a"}, "go together"),
        ({"since_offset": "1"}, "go together"),
        ({"since_epoch": "a", "since_offset": "x"}, "since_offset must be"),
        ({"reverse": "yes"}, "reverse must be true or false"),
        ({"wait": "61"}, "wait must be seconds, at most 60"),
        ({"wait": "nan"}, "wait must be seconds"),
        ({"wait": "9e999"}, "wait must be seconds"),
        ({"wait": "1", "reverse": "true"}, "wait and reverse do not go together"),
    ],
)
async def test_the_error_of_a_bad_query_names_the_allowed_values(
    query: dict[str, str], text: str
) -> None:
    async with caller() as it:
        await it.make("t")
        status, body = await it.history("t", **query)
        assert status == 400
        assert text in body["error"]


@pytest.mark.parametrize("wait", ["0", "0.0004", "1e-05", "5E-324", "0.00000000000000001"])
async def test_a_wait_is_any_number_of_json(wait: str) -> None:
    async with caller() as it:
        await it.make("t")
        assert await it.payloads("t", wait=wait) == []


async def test_a_query_that_is_not_utf8_is_refused(server: Running) -> None:
    url = URL(f"{server.url}/topics/t/history?since_epoch=%ff&since_offset=1", encoded=True)
    async with ClientSession() as session, session.get(url) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "The query is not UTF-8"})


async def test_an_unknown_topic_or_one_without_history_is_404() -> None:
    async with caller() as it:
        await it.make("off")
        for topic in ("off", "never"):
            status, body = await it.history(topic)
            assert (status, body["error"]) == (404, NOT_REMEMBERED.text)


async def test_a_long_poll_ends_with_the_history() -> None:
    settings = Settings(history_size=5, history_ttl=0.2)
    async with running(settings) as server, ClientSession(server.url) as session:
        it = Caller(server, session)
        async with session.ws_connect("/ws?client_id=me") as socket:
            await socket.send_json({"type": "subscribe", "topic": "t"})
            await socket.receive()
        waiting = asyncio.create_task(it.history("t", wait=30))
        async with asyncio.timeout(PATIENCE):
            while not waiting.done():
                await asyncio.sleep(0.05)  # its lifetime is one of the real clock
                server.hub.broker.sweep()  # as the server's own sweeper does
        assert (await waiting)[0] == 404


async def test_a_long_poll_ends_with_an_event_the_time_the_topic_or_the_server() -> None:
    async with caller() as it:
        await it.make("a/history", "old")
        await it.make("b")
        body = (await it.history("a/history"))[1]
        since = {"since_epoch": body["epoch"], "since_offset": 1}
        assert await it.payloads(
            "a/history", since_epoch=body["epoch"], since_offset=0, wait=9
        ) == ["old"]
        assert await it.payloads("a/history", **since, wait=0.05) == []
        waiting = [asyncio.create_task(it.history("a/history", **since, wait=30)) for _ in range(3)]
        waiting_for_b = asyncio.create_task(it.history("b", wait=30))
        broker = it.server.hub.broker
        await until(lambda: len(getattr(broker.history("a/history"), "waiters", ())) == 3)
        await until(lambda: bool(getattr(broker.history("b"), "waiters", ())))
        await it.publish("a/history", "new")
        for status, body in await asyncio.gather(*waiting):
            assert (status, [it["offset"] for it in body["events"]]) == (200, [2])
        broker.delete("b", lambda _: None)
        assert (await waiting_for_b)[0] == 404
        body = (await it.history("a/history"))[1]
        last = asyncio.create_task(it.history("a/history", wait=30))
        await until(lambda: bool(getattr(broker.history("a/history"), "waiters", ())))
        it.server.drain.begin()
        status, answer = await last
        assert (status, answer["events"]) == (200, [])
        assert it.server.drain.waiters == {}


async def test_an_event_wakes_a_few_of_many_polls_a_turn() -> None:
    polls = 10 * AT_ONCE
    async with caller() as it:
        await it.make("t")
        waiting = [asyncio.create_task(it.history("t", wait=30)) for _ in range(polls)]
        still = it.server.drain.waiters
        await until(lambda: len(still) == polls)
        for number in range(3):
            it.server.hub.publish("t", None, number, lambda _: None)
        left = [len(still)]
        while still:
            await asyncio.sleep(0)
            left.append(len(still))
        assert max(before - after for before, after in pairwise(left)) <= AT_ONCE
        for status, body in await asyncio.gather(*waiting):
            assert (status, len(body["events"])) == (200, 3)


async def test_a_long_poll_ends_when_its_client_disconnects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.long_poll._CONNECTED", 0.05)
    async with caller() as it:
        await it.make("t")
        broker, drain = it.server.hub.broker, it.server.drain
        waiting = asyncio.create_task(it.history("t", wait=30))
        await until(lambda: bool(drain.waiters))
        waiting.cancel()
        await asyncio.wait([waiting])
        while drain.waiters:
            await it.publish("off", 1)  # nothing that wakes it: it looks by itself
        assert not getattr(broker.history("t"), "waiters", ())
