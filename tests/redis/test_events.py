"""Server-Sent Events from several servers: resuming on another one, and an outage."""

from typing import Any

from aiohttp import ClientResponse, ClientSession

from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.redis import free_port
from tests.support.server import running, two_that_remember
from tests.support.sse import Listener, Said


async def hear(answer: ClientResponse, listener: Listener, count: int) -> list[Said]:
    """Return the next messages of a stream; fewer if it ends."""
    stream, heard = bytearray(), list[Said]()
    async for line in answer.content:
        stream += line
        heard += listener.take(stream)
        if len(heard) == count:
            break
    return heard


async def test_stream_resumes_on_another_server(address: str, prefix: str) -> None:
    async with two_that_remember(address, prefix) as (here, there):

        async def publish(topic: str, payload: Any) -> None:
            async with there.post("/publish", json={"topic": topic, "payload": payload}) as answer:
                assert answer.status == 200

        path = "/events?topic=t&topic=u"
        async with here.get(path) as answer:
            listener = Listener()
            acks = await hear(answer, listener, 2)
            assert [it.message["type"] for it in acks] == ["ack", "ack"]
            await publish("t", 1)
            (event,) = await hear(answer, listener, 1)
            assert event.message["message"]["payload"] == 1
        for payload in (2, 3):
            await publish("t", payload)
        await publish("u", 4)
        async with there.get(path, headers={"Last-Event-ID": listener.last_id}) as answer:
            heard = await hear(answer, listener, 5)
        acks = [it for it in heard if it.message["type"] == "ack"]
        assert [it.message["recovered"] for it in acks] == [True, True]
        events = [it.message["message"]["payload"] for it in heard if "message" in it.message]
        assert sorted(events) == [2, 3, 4]
        assert events.index(2) < events.index(3)


async def test_refused_topic_ends_stream_with_an_error_event() -> None:
    """`EventSource` reconnects after that; after a 503 it would not."""
    nobody = parse_redis_address(f"127.0.0.1:{free_port()}")
    settings = Settings(redis_addr=nobody, redis_fail_mode="strict")
    async with (
        running(settings) as server,
        ClientSession(server.url) as session,
        session.get("/events?topic=t&topic=u") as answer,
    ):
        assert answer.status == 200
        (said,) = await hear(answer, Listener(), 9)
        assert said.message["error"]["code"] == "UNAVAILABLE"
        assert server.topics() == {}
