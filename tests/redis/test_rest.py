"""REST and WebSocket answers of a server with Redis."""

from aiohttp import ClientSession

from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.server import running


async def test_answers_include_the_number_of_nodes(address: str, prefix: str) -> None:
    settings = Settings(redis_addr=parse_redis_address(address), redis_prefix=prefix)
    async with running(settings) as server, ClientSession(server.url) as session:
        async with session.get("/topics") as answer:
            assert await answer.json() == {"count": 0, "topics": {}}
        async with session.post("/topics", json={"name": "made"}) as answer:
            assert answer.status == 201
        async with session.post("/publish", json={"topic": "made", "payload": 1}) as answer:
            body = await answer.json()
            assert (answer.status, body["receivers"], body["nodes"]) == (200, 0, 0)
            assert "degraded" not in body
        async with session.get("/stats") as answer:
            body = await answer.json()
        node = body.pop("node")
        assert body == {
            "total_clients": 0,
            "total_topics": 1,
            "topics": {"made": 0},
            "nodes": 1,
        }
        assert sorted(node) == ["clients", "id", "poisoned", "topics"]
        assert node["topics"] == {}
        async with session.get("/topics") as answer:
            assert await answer.json() == {"count": 1, "topics": {"made": 0}}
        async with session.delete("/topics/made") as answer:
            assert answer.status == 200


async def test_every_answer_is_marked_during_an_outage() -> None:
    settings = Settings(redis_addr=parse_redis_address("127.0.0.1:1"))
    async with (
        running(settings) as server,
        ClientSession(server.url) as session,
        session.ws_connect("/ws?client_id=me") as socket,
    ):
        for kind, more in (("subscribe", {}), ("publish", {"payload": 1}), ("unsubscribe", {})):
            await socket.send_json({"type": kind, "topic": "t", "request_id": kind, **more})
        answers = [await socket.receive_json() for _ in range(4)]
        acks = [it for it in answers if it["type"] == "ack"]
        assert [it["degraded"] for it in acks] == [True] * 3
        async with session.post("/publish", json={"topic": "t", "payload": 1}) as answer:
            assert (await answer.json())["degraded"] is True
        async with session.post("/topics", json={"name": "t"}) as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        for path in ("/stats", "/topics"):
            async with session.get(path) as answer:
                assert (await answer.json())["degraded"] is True
