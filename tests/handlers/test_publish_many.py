"""Requests that publish to many topics or a batch: each item has its result, in order."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import ClientSession, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from handlers.answers import read_body
from hub.body_budget import SHARE
from hub.delivery.pacing import PART_ITEMS
from hub.protocol import http_requests as rest
from hub.protocol.http_requests import MAX_BATCH_BYTES, decode_batch
from hub.protocol.validation import MAX_ELEMENTS, decode_topic, may_be_too_deep
from hub.settings import Settings
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import Running, running

CHUNKS = 4_000  # beyond 4,096 the reader pauses its connection


async def call(server: Running, path: str, body: Any) -> tuple[int, Any]:
    async with ClientSession(server.url) as session, session.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def heard(client: RawClient, count: int) -> list[Any]:
    events = [await client.hear() for _ in range(count)]
    return [(event["topic"], event["message"]["payload"]) for event in events]


async def test_one_payload_goes_to_many_topics(server: Running) -> None:
    async with raw_client(server.port) as client:
        for topic in ("a", "b"):
            await client.subscribe(topic)
        topics = ["a", "nowhere", "", 7, "b", "a"]
        status, body = await call(server, "/publish", {"topics": topics, "payload": {"n": 1}})
        assert status == 200
        sent = [it.get("topic", it.get("error")) for it in body["results"]]
        assert sent == [
            "a",
            "Topic 'nowhere' does not exist",
            "Topic is required for publish",
            "Topic must be a string",
            "b",
            "a",
        ]
        assert list(body["results"][0]) == ["status", "id", "topic", "receivers"]
        assert len({it["id"] for it in body["results"] if "id" in it}) == 3
        assert sorted(await heard(client, 3)) == [("a", {"n": 1}), ("a", {"n": 1}), ("b", {"n": 1})]


async def test_a_publish_to_many_topics_takes_many_turns() -> None:
    async with running(Settings(history_size=1)) as server:
        broker = server.hub.broker
        topics = [f"t{number}" for number in range(10 * PART_ITEMS)]
        for topic in topics:
            broker.create(topic, lambda _: None)
        body = {"topics": topics, "payload": 1}
        publishing = asyncio.create_task(call(server, "/publish", body))
        published = [0]
        while not publishing.done():
            await asyncio.sleep(0)
            histories = [broker.history(topic) for topic in topics]
            published.append(sum(it.top for it in histories if it is not None))
        assert published[-1] == len(topics)
        assert max(after - before for before, after in pairwise(published)) == PART_ITEMS


@pytest.mark.parametrize(
    "length", [f"Content-Length: {MAX_BATCH_BYTES}", "Transfer-Encoding: chunked"]
)
async def test_large_batches_of_a_caller_share_a_budget_while_they_arrive(
    server: Running, length: str
) -> None:
    head = f"POST /publish/batch HTTP/1.1\r\nHost: test\r\n{length}\r\n\r\n".encode()
    held = [await RawClient.dial(server.port) for _ in range(SHARE // MAX_BATCH_BYTES)]
    for client in held:
        await client.send(head)
    await until(lambda: len(server.requests) == len(held))
    server.hub.broker.create("t", lambda _: None)
    large = {"items": [{"topic": "t", "payload": "x" * 50_000}] * 2}
    async with ClientSession(server.url) as session:
        while True:  # until all of the others are being read
            async with session.post("/publish/batch", json=large) as answer:
                if answer.status == 503:
                    break
                assert answer.status == 200
        assert answer.headers["Retry-After"] == "5"
        small = {"items": [{"topic": "t", "payload": 1}]}
        async with session.post("/publish/batch", json=small) as answer:
            assert answer.status == 200
        held.pop().close()
        while True:
            async with session.post("/publish/batch", json=large) as answer:
                if answer.status == 200:
                    break
                assert answer.status == 503
    for client in held:
        client.close()


async def test_a_body_in_tiny_chunks_is_taken_over_many_turns() -> None:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 65_536, loop=loop)
    for _ in range(CHUNKS):
        content.begin_http_chunk_receiving()
        content.feed_data(b" ")
        content.end_http_chunk_receiving()
    content.feed_eof()
    app = web.Application()
    request = make_mocked_request("POST", "/publish/batch", app=app, payload=content)
    reading = asyncio.create_task(read_body(request))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert await reading == b" " * CHUNKS
    assert turns >= CHUNKS // 100


async def test_a_batch_keeps_its_order_and_a_bad_item_fails_alone(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        items: list[Any] = [{"topic": "t", "payload": number} for number in range(999)]
        items.insert(500, {"topic": "t"})
        status, body = await call(server, "/publish/batch", {"items": items})
        assert status == 200
        assert len(body["results"]) == 1_000
        failed = [n for n, it in enumerate(body["results"]) if "error" in it]
        assert failed == [500]
        assert await heard(client, 999) == [("t", number) for number in range(999)]


async def test_an_invalid_item_has_an_error_that_says_so(server: Running) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    items = [1, None, [], {}, {"payload": 1}, {"topic": "t", "message": 1}]
    items.append({"topic": "t", "payload": deep})
    status, body = await call(server, "/publish/batch", {"items": items})
    assert status == 200
    assert [it["error"] for it in body["results"]] == [
        *['An item must be an object such as {"topic": "news", "payload": "hello"}'] * 3,
        *["Topic is required for publish"] * 2,
        "Topic 't' does not exist",
        "payload is nested too deeply: at most 250 levels are allowed",
    ]


async def test_a_batch_may_be_larger_than_a_message_and_its_items_may_not() -> None:
    async with running(Settings(max_message_bytes=1_000)) as server, raw_client(server.port) as it:
        await it.subscribe("t")
        items = [{"topic": "t", "payload": "x" * size} for size in (900, 1_000, 900)]
        status, body = await call(server, "/publish/batch", {"items": items})
        assert status == 200
        assert [it.get("error", "") for it in body["results"]] == [
            "",
            "An item is too large: at most 1000 bytes are allowed",
            "",
        ]
        assert len(await heard(it, 2)) == 2


async def test_a_body_of_4_mib_is_accepted(server: Running) -> None:
    body = '{"items":[{"topic":"t","payload":1}]' + " " * MAX_BATCH_BYTES
    async with ClientSession(server.url) as session:
        data = (body[: MAX_BATCH_BYTES - 1] + "}").encode()
        async with session.post("/publish/batch", data=BytesIO(data), expect100=True) as answer:
            assert answer.status == 200
        async with session.post("/publish/batch", data=BytesIO(data + b" ")) as answer:
            assert answer.status == 413
            assert "4194304" in (await answer.json())["error"]


def test_a_large_body_is_searched_for_brackets_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counting the brackets of the body for each item would block the server for seconds."""
    searched: list[int] = []

    def search(source: bytes) -> bool:
        searched.append(len(source))
        return may_be_too_deep(source)

    monkeypatch.setattr("hub.protocol.http_requests.may_be_too_deep", search)
    monkeypatch.setattr("hub.protocol.validation.may_be_too_deep", search)
    items = [{"topic": "t", "payload": "[" * 4_000} for _ in range(1_000)]
    body = json.dumps({"items": items}).encode()
    parts = decode_batch(body, 255, 65_536)
    assert isinstance(parts, Iterator)
    assert len(list(parts)) == 1_000
    assert sum(searched) == len(body)


async def test_an_item_that_is_too_deep_fails_alone_in_a_large_body(server: Running) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        large = {"topic": "t", "payload": "x" * 50_000}
        items = [large, {"topic": "t", "payload": deep}, {**large, "else": deep}, large]
        status, body = await call(server, "/publish/batch", {"items": items})
        assert status == 200
        assert ["error" in it for it in body["results"]] == [False, True, True, False]


@pytest.mark.parametrize("payload", ["[[],[]]", "[[[[", '{"":"","":""}'])
async def test_a_body_of_too_many_elements_is_refused_before_it_is_parsed(
    server: Running, monkeypatch: pytest.MonkeyPatch, payload: str
) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("it is parsed")

    monkeypatch.setattr("handlers.publish.decode_batch", decode)
    payload = ",".join([payload] * MAX_ELEMENTS)
    data = f'{{"items":[{{"topic":"t","payload":[{payload}]}}]}}'.encode()
    async with (
        ClientSession(server.url) as session,
        session.post("/publish/batch", data=BytesIO(data)) as answer,
    ):
        assert answer.status == 400
        text = "JSON has too many elements: at most 100000 are allowed"
        assert await answer.json() == {"error": text}


async def test_other_callbacks_run_while_a_batch_is_decoded(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    looked: Counter[int] = Counter()  # at how many things in which turn
    loads = rest.orjson.loads

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count_turns)

    def parse(body: bytes) -> Any:
        looked[turn] += 1
        return loads(body)

    def look(*arguments: Any) -> Any:
        looked[turn] += 1
        return decode_topic(*arguments)

    monkeypatch.setattr(rest.orjson, "loads", parse)
    monkeypatch.setattr(rest, "decode_topic", look)
    count_turns()
    items = [{"topic": "nowhere", "payload": 1} for _ in range(1_000)]
    assert (await call(server, "/publish/batch", {"items": items}))[0] == 200
    assert list(looked.values()) == [1, *[100] * 10]
