"""A repeated publish with the same key gets the answer of the first, and delivers nothing."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.raw import raw_client
from tests.support.server import Running


async def post(server: Running, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async with (
        ClientSession(server.url) as session,
        session.post(path, json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_repeated_publish_over_a_websocket(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        command = {"type": "publish", "topic": "t", "payload": 1, "idempotency_key": "k"}
        await client.say({**command, "request_id": "1"})
        first = [await client.hear() for _ in range(2)]
        assert sorted(it["type"] for it in first) == ["ack", "event"]
        await client.say({**command, "payload": 2, "request_id": "2"})
        again = await client.hear()
        assert list(again) == ["type", "request_id", "topic", "status", "duplicate", "ts"]
        assert (again["request_id"], again["duplicate"]) == ("2", True)
        await client.say({**command, "topic": "u"})
        assert (await client.hear())["error"]["code"] == "TOPIC_NOT_FOUND"
        await client.subscribe("u")  # a refusal is not remembered
        await client.say({**command, "topic": "u"})
        heard = [await client.hear() for _ in range(2)]
        assert sorted(it["type"] for it in heard) == ["ack", "event"]


@pytest.mark.parametrize("key", ["", 1, None, [], "x" * 256, "é" * 128])
async def test_a_bad_key_is_refused(server: Running, key: Any) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        command = {"type": "publish", "topic": "t", "payload": 1, "idempotency_key": key}
        await client.say({**command, "request_id": "1"})
        answer = await client.hear()
        assert (answer["request_id"], answer["error"]["code"]) == ("1", "INVALID_MESSAGE")
        assert "1 to 255 bytes" in answer["error"]["message"]
        for body in (command, {"topics": ["t"], "payload": 1, "idempotency_key": key}):
            status, refused = await post(server, "/publish", body)
            assert (status, "1 to 255 bytes" in refused["error"]) == (400, True)


async def test_a_repeated_publish_over_rest(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.subscribe("t")
        body = {"topic": "t", "payload": 1}
        _, first = await post(server, "/publish", {**body, "idempotency_key": "k"})
        async with raw_client(server.port) as second:
            await second.subscribe("t")
            for answer in (
                await post(server, "/publish", body, **{"Idempotency-Key": "k"}),
                await post(server, "/publish", {**body, "idempotency_key": "k"}),
            ):
                assert answer == (200, {**first, "duplicate": True})
        assert (await client.hear())["message"]["id"] == first["id"]
        await post(server, "/publish", {**body, "idempotency_key": "other"})
        assert (await client.hear())["message"]["id"] != first["id"]
        status, answer = await post(server, "/publish", body, **{"Idempotency-Key": ""})
        assert (status, "idempotency_key" in answer["error"]) == (400, True)


async def test_each_item_of_a_request_has_its_own_key(server: Running) -> None:
    async with raw_client(server.port) as client:
        for topic in ("a", "b"):
            await client.subscribe(topic)
        many = {"topics": ["a", "b", "a"], "payload": 1}
        for turn in range(2):
            _, body = await post(server, "/publish", many, **{"Idempotency-Key": "k"})
            known = [it.get("duplicate", False) for it in body["results"]]
            assert known == [turn == 1, turn == 1, True]
        items = [
            {"topic": "a", "payload": 2, "idempotency_key": "k"},
            {"topic": "a", "payload": 3},
            {"topic": "b", "payload": 4, "idempotency_key": "l"},
        ]
        _, body = await post(server, "/publish/batch", {"items": items})
        assert [it.get("duplicate", False) for it in body["results"]] == [True, False, False]
        heard = [(await client.hear())["message"]["payload"] for _ in range(4)]
        assert sorted(heard) == [1, 1, 3, 4]


async def test_a_key_header_that_is_not_utf8_is_refused(server: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /publish HTTP/1.1\r\nHost: here\r\nIdempotency-Key: \xff\xfe\r\n"
        b'Content-Length: 25\r\nConnection: close\r\n\r\n{"topic":"t","payload":1}'
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"idempotency_key must be a string of 1 to 255 bytes of UTF-8" in answer
