"""Server processes that share one Redis, driven by clients."""

import asyncio

from tests.support.cluster import cluster
from tests.support.redis import RedisServer


async def test_servers_act_as_one(shared_redis: RedisServer, address: str, prefix: str) -> None:
    settings = {"REDIS_ADDR": address, "REDIS_PREFIX": prefix}
    async with cluster(*[settings] * 3) as servers:
        subscribers = [await servers.subscriber(n % 3, "t") for n in range(6)]
        publishers = [await servers.subscriber(n) for n in range(3)]

        async def publish_100(number: int) -> None:
            for count in range(100):
                payload = f"{number}:{count}"
                await publishers[number].say("publish", topic="t", payload=payload)
                if count % 10 == 0:
                    status, answer = await servers.publish(number, "t", f"rest {payload}")
                    assert (status, answer["nodes"]) == (200, 3)

        await asyncio.gather(*map(publish_100, range(3)))
        for subscriber in subscribers:
            await subscriber.until(lambda s=subscriber: len(s.payloads("t")) >= 330)
        orders = [subscriber.payloads("t") for subscriber in subscribers]
        assert len(orders[0]) == 330
        assert all(order == orders[0] for order in orders)
        for number in range(3):
            mine = [it for it in orders[0] if it.startswith(f"{number}:")]
            assert mine == [f"{number}:{count}" for count in range(100)]

        stats = await servers.eventually(0, "/stats", lambda it: it["topics"] == {"t": 6})
        assert (stats["total_clients"], stats["total_topics"], stats["nodes"]) == (9, 1, 3)
        assert (stats["node"]["clients"], stats["node"]["topics"]) == (3, {"t": 2})
        assert "degraded" not in stats
        assert (await servers.call(1, "POST", "/topics", {"name": "t"}))[0] == 409
        assert (await servers.call(1, "POST", "/topics", {"name": "made"}))[0] == 201
        assert (await servers.call(2, "POST", "/topics", {"name": "made"}))[0] == 409
        topics = (await servers.call(2, "GET", "/topics"))[1]
        assert topics == {"count": 2, "topics": {"made": 0, "t": 6}}

        status, answer = await servers.call(1, "DELETE", "/topics/t")
        assert (status, answer) == (200, {"status": "deleted", "topic": "t"})
        for subscriber in subscribers:
            await subscriber.until(lambda s=subscriber: len(s.payloads("t")) == 331)
            assert subscriber.payloads("t")[-1] == "Topic has been deleted"
        with shared_redis.client() as client:
            assert client.pubsub_channels(f"{prefix}:topic:*") == []


async def test_deletion_has_the_same_place_on_every_server(address: str, prefix: str) -> None:
    settings = {"REDIS_ADDR": address, "REDIS_PREFIX": prefix}
    async with cluster(settings, settings) as servers:
        subscribers = [await servers.subscriber(n % 2, "t") for n in range(4)]
        publishers = [await servers.subscriber(n) for n in range(2)]

        async def publish(number: int) -> None:
            for count in range(300):
                await publishers[number].say("publish", topic="t", payload=f"{number}:{count}")
                await asyncio.sleep(0)

        running = [asyncio.create_task(publish(number)) for number in range(2)]
        await subscribers[0].until(lambda: len(subscribers[0].payloads("t")) > 50)
        assert (await servers.call(0, "DELETE", "/topics/t"))[0] == 200
        await asyncio.gather(*running)
        for subscriber in subscribers:
            await subscriber.until(lambda s=subscriber: "Topic has been deleted" in s.payloads("t"))
        # The pong follows everything that was sent before.
        for subscriber in subscribers:
            await subscriber.ask("ping")
        orders = [subscriber.payloads("t") for subscriber in subscribers]
        assert all(order == orders[0] for order in orders)
        assert orders[0][-1] == "Topic has been deleted"


async def test_server_starts_without_redis_in_local_mode() -> None:
    async with cluster({"REDIS_ADDR": "127.0.0.1:1"}) as servers:
        subscriber = await servers.subscriber(0)
        ack = await subscriber.ask("subscribe", topic="t")
        assert list(ack) == ["type", "request_id", "topic", "status", "degraded", "ts"]
        status, answer = await servers.publish(0, "t", 1)
        assert (status, answer["degraded"], answer["receivers"]) == (200, True, 1)
        await subscriber.until(lambda: subscriber.payloads("t") == [1])
        ack = await subscriber.ask("unsubscribe", topic="t")
        assert ack["degraded"] is True
        for path in ("/stats", "/topics"):
            assert (await servers.call(0, "GET", path))[1]["degraded"] is True
        status, answer = await servers.call(0, "POST", "/topics", {"name": "x"})
        assert (status, answer) == (503, {"error": "Redis cannot be reached: try again"})
        assert (await servers.call(0, "DELETE", "/topics/x"))[0] == 503
        log = "".join(servers.nodes[0].log)
        assert log.count("Redis is out of reach") == 1


async def test_strict_mode_refuses_without_redis() -> None:
    settings = {"REDIS_ADDR": "127.0.0.1:1", "REDIS_FAIL_MODE": "strict"}
    async with cluster(settings) as servers:
        subscriber = await servers.subscriber(0)
        for kind, fields in (("subscribe", {}), ("publish", {"payload": 1})):
            answer = await subscriber.ask(kind, topic="t", **fields)
            assert answer["error"]["code"] == "UNAVAILABLE"
        assert (await subscriber.ask("unsubscribe", topic="t"))["type"] == "ack"
        assert (await servers.publish(0, "t", 1))[0] == 503
        stats = (await servers.call(0, "GET", "/stats"))[1]
        assert (stats["topics"], stats["degraded"]) == ({}, True)
        assert "REDIS_FAIL_MODE=strict" in "".join(servers.nodes[0].log)
