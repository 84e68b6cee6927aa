"""The Python client's HTTP calls: `publish_batch`, `history` and `topics`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from broadcast_client import Client, Event, History, Position, RefusedError, TopicPage, connect
from broadcast_client import _http as http

from hub.settings import Settings
from hub.values import Rule
from tests.support import python_client, tokens
from tests.support.double import PATIENCE
from tests.support.eventually import eventually
from tests.support.proxy import proxy
from tests.support.server import Running, running

REMEMBERING = Settings(history_rules={"": Rule(5, 60.0, 10_000_000)})
SECRET = "secret"


pytestmark = pytest.mark.usefixtures("hasty")


async def error_of(waiting: Any) -> RefusedError:
    error = await python_client.error_of(waiting)
    assert SECRET not in repr(error)
    return error


@asynccontextmanager
async def met(settings: Settings = REMEMBERING) -> AsyncIterator[tuple[Running, Client]]:
    async with running(settings) as server, connect(server.ws) as client:
        yield server, client


class Script:
    """A server that answers each HTTP call as a test says, at a path of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: asyncio.Queue[tuple[web.BaseRequest, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[web.Response] = asyncio.Queue()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/push/ws"

    async def serve(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/push/ws":
            return web.Response(status=503)
        body = await request.json() if request.can_read_body else None
        self.requests.put_nowait((request, body))
        return await self.answers.get()

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        """Set the answer to the next call; `body` is text, or JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            self.answers.put_nowait(web.Response(status=status, text=body, headers=named))
        else:
            self.answers.put_nowait(web.json_response(body, status=status, headers=named))

    async def hear(self) -> tuple[web.BaseRequest, Any]:
        """Return the next call and its body."""
        async with asyncio.timeout(PATIENCE):
            return await self.requests.get()


@asynccontextmanager
async def scripted(**options: Any) -> AsyncIterator[tuple[Script, Client]]:
    script = Script()
    runner = web.ServerRunner(web.Server(script.serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.port = runner.addresses[0][1]
    try:
        async with connect(script.url, **options) as client:
            yield script, client
    finally:
        await runner.cleanup()


# --- A real server --------------------------------------------------------------------------------


async def test_a_batch_has_a_result_for_each_item_in_order() -> None:
    async with met() as (_, client):
        news = client.subscribe("news")
        await news.ready()
        results = await client.publish_batch(
            [
                {"topic": "news", "payload": 1},
                {"topic": "", "payload": 2},
                {"topic": "news", "payload": [None, "ü"], "key": "mine"},
                {"topic": "news", "payload": 3, "key": "mine"},
            ]
        )
        first, second, third, fourth = results
        assert isinstance(first, dict)
        assert (first["topic"], first["offset"]) == ("news", 1)
        assert isinstance(second, RefusedError)
        assert second.code == "REFUSED"
        assert "topic" in second.text.lower()
        assert isinstance(third, dict)
        assert third["offset"] == 2
        assert isinstance(fourth, dict)
        assert fourth["duplicate"] is True
        items = [await anext(news) for _ in range(2)]
        assert [it.payload for it in items if isinstance(it, Event)] == [1, [None, "ü"]]
        assert await client.publish_batch([]) == []
        (large,) = await client.publish_batch([{"topic": "other", "payload": "x" * 2**21}])
        assert isinstance(large, RefusedError)


async def test_a_batch_whose_answer_was_lost_is_published_once() -> None:
    async with (
        running(REMEMBERING) as server,
        proxy(server.port) as way,
        connect(f"ws://127.0.0.1:{way.port}/ws") as client,
        connect(server.ws) as reader,
    ):
        news = reader.subscribe("news")
        await news.ready()
        way.mute = True
        items = [{"topic": "news", "payload": number} for number in range(3)]
        publishing = asyncio.create_task(client.publish_batch(items))
        async with asyncio.timeout(PATIENCE):
            for _ in items:
                await anext(news)
        way.mute = False
        way.cut()
        results = await publishing
        assert [it["duplicate"] for it in results if isinstance(it, dict)] == [True] * 3
        (last,) = await client.publish_batch([{"topic": "news", "payload": "last"}])
        assert isinstance(last, dict)
        assert last["offset"] == 4


@pytest.mark.parametrize("topic", ["a/b?c#d é", "..", "a/../%2F+"])
async def test_history_is_read_forwards_backwards_and_from_a_position(topic: str) -> None:
    async with met() as (_, client):
        await client.subscribe(topic).ready()
        for number in range(1, 4):
            ack = await client.publish(topic, number)
        position = Position(ack["epoch"], ack["offset"])
        whole = await client.history(topic)
        assert isinstance(whole, History)
        assert (whole.topic, whole.position) == (topic, position)
        assert [(it.topic, it.payload, it.offset) for it in whole.events] == [
            (topic, number, number) for number in range(1, 4)
        ]
        newest = await client.history(topic, limit=1, reverse=True)
        assert [it.payload for it in newest.events] == [3]
        rest = await client.history(topic, since_epoch=position.epoch, since_offset=2)
        assert [it.payload for it in rest.events] == [3]


async def test_history_waits_for_the_next_event_beyond_the_timeout() -> None:
    clock = asyncio.get_running_loop().time
    async with met() as (_, client):
        await client.subscribe("news").ready()
        began = clock()
        assert (await client.history("news", wait=0.1)).events == []
        assert clock() - began > 0.09
        reading = asyncio.create_task(client.history("news", wait=PATIENCE, timeout=0.01))
        while not reading.done():
            await client.publish("news", "next")
            await asyncio.wait([reading], timeout=0.02)
        assert (await reading).events[0].payload == "next"


async def test_history_that_is_missing_or_forgotten_is_an_error() -> None:
    async with met() as (_, client):
        assert (await error_of(client.history("news"))).code == "TOPIC_NOT_FOUND"
        await client.subscribe("news").ready()
        for number in range(10):
            ack = await client.publish("news", number)
        forgotten = client.history("news", since_epoch=ack["epoch"], since_offset=1)
        assert (await error_of(forgotten)).code == "GONE"
        wrong = await error_of(client.history("news", limit=1_000_000))
        assert wrong.code == "INVALID_MESSAGE"
        assert "limit" in wrong.text


async def test_topics_are_listed_in_pages() -> None:
    async with met() as (_, client):
        for topic in ("b", "a1", "a2", "a3"):
            await client.subscribe(topic).ready()
        page = await client.topics(prefix="a", limit=2)
        assert page == TopicPage(4, {"a1": 1, "a2": 1}, "a2")
        page = await client.topics(prefix="a", limit=2, after=page.next)
        assert page == TopicPage(4, {"a3": 1}, None)


async def test_a_fresh_token_goes_with_each_call_and_a_missing_right_is_an_error() -> None:
    given: list[str] = []

    def fetch() -> str:
        given.append(tokens.sign(subscribe=["mine"], publish=[], manage=[]))
        return given[-1]

    async with running(tokens.settings()) as server:
        async with connect(server.ws, token=fetch) as client:
            await client.subscribe("mine").ready()
            count = len(given)
            assert (await client.history("mine")).events == []
            assert (await client.topics()).topics == {}
            assert len(given) == count + 2
            assert (await error_of(client.history("other"))).code == "FORBIDDEN"
            batch = client.publish_batch([{"topic": "mine", "payload": 1}])
            assert (await error_of(batch)).code == "FORBIDDEN"
        async with connect(server.ws) as client:
            assert (await error_of(client.history("mine"))).code == "UNAUTHORIZED"


# --- A server that fails --------------------------------------------------------------------------


async def test_calls_go_beside_the_websocket_with_the_headers() -> None:
    async with scripted(token=SECRET, headers={"X-Tenant": "blue"}) as (script, client):
        script.answer(200, {"count": 0, "topics": {}})
        await client.topics(prefix="a&b")
        request, _ = await script.hear()
        assert request.raw_path == "/push/topics?prefix=a%26b"
        assert request.headers["X-Tenant"] == "blue"
        assert request.headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_batch_is_repeated_with_the_same_keys_while_the_server_is_unavailable(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(http, "pause", lambda attempt: pauses.append(attempt) or 0.0)
    async with scripted() as (script, client):
        script.answer(status, "<p>busy</p>")
        script.answer(status, {"error": "busy"}, Retry_After="0")
        script.answer(200, {"results": [{"id": "m"}]})
        assert await client.publish_batch([{"topic": "news", "payload": 1}]) == [{"id": "m"}]
        bodies = [(await script.hear())[1] for _ in range(3)]
        assert bodies[0] == bodies[1] == bodies[2]
        assert pauses == [0, 1]
        (item,) = bodies[0]["items"]
        assert (item["topic"], item["payload"]) == ("news", 1)
        assert item["idempotency_key"]


async def test_a_batch_waits_as_long_as_the_server_says() -> None:
    async with scripted() as (script, client):
        script.answer(503, {"error": "busy"}, Retry_After="60")
        # So long that the answer comes before, also on a busy machine.
        batch = client.publish_batch([{"topic": "news", "payload": 1}], timeout=2)
        error = await error_of(batch)
        assert error.code == "TIMEOUT"
        assert error.text == "no answer within 2 s: busy; it may have been carried out"
        await script.hear()
        assert script.requests.empty()


async def test_a_batch_older_than_its_keys_has_an_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "REPEATABLE", 0.0)
    async with scripted() as (script, client):
        script.answer(503, {"error": "busy"}, Retry_After="1")
        batch = client.publish_batch([{"topic": "news", "payload": 1}], timeout=None)
        error = await error_of(batch)
        assert error.code == "UNKNOWN"
        assert error.text == "not repeated after 0 s: busy; it may have been carried out"


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "text", "retry_after_ms"),
    [
        (200, "<p>log in</p>", {}, "NOT_FOUND", "no broadcast server answers at http://", None),
        (
            302,
            "",
            {"Location": f"/a?{SECRET}"},
            "REFUSED",
            "HTTP status 302: a redirect to /a",
            None,
        ),
        (400, {"error": "limit"}, {}, "INVALID_MESSAGE", "limit", None),
        (404, "<p>nothing</p>", {}, "NOT_FOUND", "HTTP status 404", None),
        (405, {"error": "no"}, {}, "REFUSED", "no", None),
        (413, {"error": "over 4 MiB"}, {}, "TOO_BIG", "over 4 MiB", None),
        (429, {"error": "slow"}, {"Retry_After": "2"}, "RATE_LIMITED", "slow", 2_000),
        (503, {"error": "full"}, {"Retry_After": "Thu, 1 Jan"}, "UNAVAILABLE", "full", None),
    ],
)
async def test_an_error_has_a_code_and_the_text_of_the_server(
    status: int,
    body: Any,
    headers: dict[str, str],
    code: str,
    text: str,
    retry_after_ms: int | None,
) -> None:
    async with scripted() as (script, client):
        script.answer(status, body, **headers)
        error = await error_of(client.topics())
        assert error.code == code
        assert error.text.startswith(text)
        assert error.retry_after_ms == retry_after_ms


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, {}, "NOT_FOUND"),
        (200, [], "NOT_FOUND"),
        (404, "<p>nothing</p>", "NOT_FOUND"),
        (404, {"error": "no topic"}, "TOPIC_NOT_FOUND"),
    ],
)
async def test_an_answer_of_another_server_is_not_taken_for_that_of_a_topic(
    status: int, body: Any, code: str
) -> None:
    async with scripted() as (script, client):
        for call in (
            client.history("news"),
            client.topics(),
            client.publish_batch([{"topic": "news", "payload": 1}]),
        ):
            script.answer(status, body)
            error = await error_of(call)
            if status == 200:
                request, _ = await script.hear()
                place = f"http://127.0.0.1:{script.port}{request.path}"
                assert error.text == f"no broadcast server answers at {place}"
            assert error.code == code
            code = "NOT_FOUND"


async def test_a_call_without_an_answer_or_a_server_or_a_token_is_an_error() -> None:
    async def fail() -> str:
        raise LookupError(SECRET)

    async with scripted() as (_, client):
        error = await error_of(client.topics(timeout=0.05))
        assert (error.code, error.text) == ("TIMEOUT", "no answer within 0.05 s")
    async with connect("ws://127.0.0.1:1/ws") as client:
        error = await error_of(client.topics())
        assert error.code == "UNAVAILABLE"
        assert error.text == "no answer of ws://127.0.0.1:1/ws: connection refused"
    async with scripted(token=fail) as (_, client):
        error = await error_of(client.topics())
        assert error.code == "UNAVAILABLE"
        assert "LookupError" in error.text


async def test_items_that_are_none_fail_in_the_client() -> None:
    async with scripted() as (script, client):
        for wrong in ({"topic": "news"}, {"payload": 1}):
            with pytest.raises(KeyError):
                await client.publish_batch([{"topic": "news", "payload": 1}, wrong])
        deep: list[Any] = []
        for _ in range(300):
            deep = [deep]
        with pytest.raises(ValueError, match="nested too deeply"):
            await client.publish_batch([{"topic": "news", "payload": deep}])
        with pytest.raises(ValueError, match="'idempotency_key'"):
            await client.publish_batch([{"topic": "news", "payload": 1, "idempotency_key": "k"}])
        assert script.requests.empty()


async def test_closing_the_client_does_not_wait_for_the_token_of_a_call() -> None:
    asked: list[None] = []

    async def fetch() -> str:
        asked.append(None)
        await asyncio.Event().wait()
        raise AssertionError

    async with scripted(token=fetch) as (_, client):
        await eventually(lambda: len(asked) == 1)  # for the WebSocket
        calling = asyncio.create_task(client.topics(timeout=None))
        await eventually(lambda: len(asked) == 2)
    async with asyncio.timeout(1):
        assert (await error_of(calling)).code == "CLOSED"


@pytest.mark.parametrize("state", ["asked", "waiting"])
async def test_closing_the_client_ends_its_calls(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(http, "pause", lambda attempt: pauses.append(attempt) or 200.0)
    items = [{"topic": "news", "payload": 1}]
    async with scripted() as (script, client):
        calling = asyncio.create_task(client.publish_batch(items, timeout=None))
        await script.hear()
        if state == "waiting":
            script.answer(503, {"error": "busy"})
            await eventually(lambda: pauses)
    assert (await error_of(calling)).code == "CLOSED"
    assert (await error_of(client.publish_batch(items))).code == "CLOSED"
    assert (await error_of(client.topics())).code == "CLOSED"
