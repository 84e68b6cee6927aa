"""`/ws?topic=…`: subscribes in the URL, so that a client need not send anything."""

import json
from typing import Any

import aiohttp
import pytest
import websockets

from hub.protocol.connect_requests import MAX_URL_TOPICS
from hub.settings import Settings
from tests.support.access import BACK_END, serving
from tests.support.frames import TEXT, client_frame
from tests.support.plain_reader import plain_reader
from tests.support.raw import RawClient
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, sign
from tests.support.ways import upgrade


async def publish(server: Running, topic: str, payload: Any) -> dict[str, Any]:
    body = {"topic": topic, "payload": payload}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post("/publish", json=body) as answer,
    ):
        assert answer.status == 200
        return dict(await answer.json())


def acks(*topics: str) -> list[dict[str, Any]]:
    return [{"type": "ack", "topic": topic, "status": "ok"} for topic in topics]


async def test_a_reader_gets_an_ack_for_each_topic_in_order_and_then_events(
    server: Running,
) -> None:
    async with plain_reader(server, "topic=b&topic=a%2F%C3%A9&topic=c") as it:
        assert await it.hear(3) == acks("b", "a/é", "c")
        await publish(server, "a/é", 1)
        await publish(server, "b", 2)
        events = await it.hear(2)
        assert [(event["topic"], event["message"]["payload"]) for event in events] == [
            ("a/é", 1),
            ("b", 2),
        ]
    assert server.topics() == {}


async def test_no_client_id_is_needed_and_one_is_the_name_of_the_connection(
    server: Running,
) -> None:
    assert Settings().require_client_id
    async with (
        plain_reader(server, "topic=a") as one,
        plain_reader(server, "topic=a&client_id=phone") as two,
    ):
        assert await one.hear(1) == await two.hear(1) == acks("a")
        assert [it.name for it in server.hub.clients] == ["", "phone"]


async def test_commands_may_follow_and_need_a_client_id_as_ever(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(upgrade(b"/ws?topic=a"))
    await client.read_head()
    assert (await client.hear())["topic"] == "a"
    await client.say({"type": "subscribe", "topic": "b", "request_id": "r1"})
    assert (await client.hear())["error"]["code"] == "INVALID_CLIENT_ID"
    await client.say({"type": "unsubscribe", "topic": "a", "client_id": "me", "request_id": "r2"})
    assert (await client.hear())["request_id"] == "r2"
    assert server.topics() == {}
    client.close()


async def test_a_command_that_comes_with_the_request_is_carried_out_after_the_url(
    server: Running,
) -> None:
    client = await RawClient.dial(server.port)
    said = {"type": "unsubscribe", "topic": "a", "client_id": "me", "request_id": "r1"}
    frame = client_frame(TEXT, json.dumps(said).encode())
    await client.send(upgrade(b"/ws?topic=a&topic=b") + frame)
    await client.read_head()
    heard = [await client.hear() for _ in range(3)]
    assert [(it["topic"], it.get("request_id")) for it in heard] == [
        ("a", None),
        ("b", None),
        ("a", "r1"),
    ]
    client.close()


async def test_each_topic_recovers_from_its_position() -> None:
    async with running(Settings(history_size=10)) as server:
        async with plain_reader(server, "topic=a&topic=b&topic=c") as it:
            await it.hear(3)
            positions = {
                topic: [await publish(server, topic, number) for number in range(3)]
                for topic in "abc"
            }
            await it.hear(9)
        first, last = positions["a"][0], positions["c"][2]
        recover = f"recover={first['epoch']}:1&recover=-&recover={last['epoch']}:3"
        for query in (recover, recover.replace("&recover=", ",")):
            async with plain_reader(server, f"topic=a&topic=b&topic=c&{query}") as it:
                heard = await it.hear(5)
            told = {it["topic"]: it.get("recovered") for it in heard if it["type"] == "ack"}
            assert told == {"a": True, "b": None, "c": True}
            events = [it["message"]["payload"] for it in heard if it["type"] == "event"]
            assert events == [1, 2]
        async with plain_reader(server, "topic=a&recover=another:1") as it:
            (ack,) = await it.hear(1)
            assert (ack["recovered"], ack["offset"]) == (False, 3)


async def test_last_n_replays_the_newest_events_of_each_topic_without_a_position() -> None:
    async with running(Settings(history_size=10)) as server:
        async with plain_reader(server, "topic=a&topic=b") as it:
            await it.hear(2)
            for number in range(3):
                await publish(server, "a", number)
                await publish(server, "b", number)
        async with plain_reader(server, "topic=a&topic=b&last_n=1") as it:
            heard = await it.hear(4)
        events = [(it["topic"], it["message"]["payload"]) for it in heard if it["type"] == "event"]
        assert sorted(events) == [("a", 2), ("b", 2)]


def topics(count: int) -> str:
    return "&".join(f"topic={number}" for number in range(count))


async def test_as_many_topics_as_allowed(server: Running) -> None:
    async with plain_reader(server, topics(MAX_URL_TOPICS)) as it:
        assert await it.hear(MAX_URL_TOPICS) == acks(*map(str, range(MAX_URL_TOPICS)))


POSITION = "recover must be EPOCH:OFFSET, or -, for each topic in order, with commas"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("topic=", "Topic is required for subscribe"),
        ("topic=a&topic=a", "Topic 'a' is given twice"),
        ("topic=" + "x" * 256, "Topic is too long: at most 255 bytes of UTF-8 are allowed"),
        (topics(65), "A URL has at most 64 topics: send commands for more"),
        ("topic=a&recover=e", POSITION),
        ("topic=a&recover=e:1,f:2", POSITION),
        ("topic=a&topic=b&recover=e:1", POSITION),
        ("recover=e:1", POSITION),
        ("topic=a&last_n=some", "last_n must be a whole number, 0 or more"),
        (
            "topic=a&client_id=" + "x" * 256,
            "Client ID is too long: at most 255 bytes of UTF-8 are allowed",
        ),
        ("topic=%ff", "The query is not UTF-8"),
    ],
)
async def test_a_wrong_query_is_refused_before_the_upgrade(
    server: Running, query: str, text: str
) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with plain_reader(server, query):
            pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"") == {"error": text}
    assert server.hub.clients == {}
    assert server.topics() == {}


async def test_more_topics_than_subscriptions_are_refused_before_the_upgrade() -> None:
    async with running(Settings(max_subscriptions=2)) as server:
        async with plain_reader(server, topics(2)) as it:
            await it.hear(2)
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with plain_reader(server, topics(3)):
                pass
        assert caught.value.response.status_code == 400
        assert b"MAX_SUBSCRIPTIONS" in (caught.value.response.body or b"")


async def test_a_topic_over_a_limit_gets_an_error_and_the_others_an_ack() -> None:
    async with running(Settings(max_topics=2)) as server:
        async with plain_reader(server, topics(3)) as it:
            heard = await it.hear(3)
        assert heard[:2] == acks("0", "1")
        assert (heard[2]["type"], heard[2]["error"]["code"]) == ("error", "LIMIT_EXCEEDED")
        assert "request_id" not in heard[2]


async def test_a_topic_without_the_right_gets_an_error_and_the_others_an_ack() -> None:
    async with serving() as it:
        headers = {"Authorization": f"Bearer {sign(subscribe=['a'])}"}
        async with plain_reader(it.server, "topic=b&topic=a", additional_headers=headers) as one:
            refused, ack = await one.hear(2)
            text = "The token does not allow subscribe on topic 'b'"
            assert refused == {"type": "error", "error": {"code": "FORBIDDEN", "message": text}}
            assert (ack["type"], ack["topic"]) == ("ack", "a")
        async with plain_reader(it.server, "topic=a") as one:
            (refused,) = await one.hear(1)
            assert refused["error"]["code"] == "UNAUTHORIZED"
        query = f"topic=a&access_token={sign(subscribe=['a'])}"
        async with (
            plain_reader(it.server, query) as one,
            plain_reader(it.server, "topic=a", additional_headers=BACK_END) as two,
        ):
            for (ack,) in (await one.hear(1), await two.hear(1)):
                assert (ack["type"], ack["topic"]) == ("ack", "a")


async def test_a_client_with_an_invalid_token_is_not_subscribed() -> None:
    async with serving() as it:
        async with plain_reader(it.server, f"topic=a&access_token={FOREIGN}") as one:
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await one.hear(1)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (3000, "unauthorized")
        assert it.server.topics() == {}
