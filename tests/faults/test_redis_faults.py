"""Faults of Redis, and the recovery of the cluster from them."""

import asyncio
import random

import pytest

from hub.logs import events
from tests.support.cluster import Cluster, Subscriber, cluster
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.proxy import proxy
from tests.support.raw import RawClient
from tests.support.redis import RedisServer
from tests.support.stream import GAP, Stream, gaps_told, sort_of

CLIENTS = 300
CHANGES = 25  # of the subscriptions of each client


async def all_at_the_end(
    redis: RedisServer, servers: Cluster, subscribers: list[Subscriber], topics: set[str]
) -> None:
    """Check the recovered cluster: a marker reaches all subscribers once, as their last event."""
    for topic in topics:
        assert (await servers.publish(0, topic, "end"))[0] == 200
    for subscriber in subscribers:
        await subscriber.until(
            lambda s=subscriber: any(s.payloads(it)[-1:] == ["end"] for it in topics)
        )
    with redis.client() as client:
        assert set(client.pubsub_channels("ws:topic:*")) == {f"ws:topic:{it}" for it in topics}
        names = [it["name"] for it in client.client_list() if it["name"].startswith("ws-")]
        assert len(names) == 2 * len(servers.nodes)
        assert len(set(names)) == len(servers.nodes)


async def test_losses_by_killed_subscriptions_are_all_reported(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(*[settings] * 3) as servers:
        subscribers = [await servers.subscriber(n, "t") for n in range(3)]
        idle = await servers.subscriber(2, "idle")
        stream = Stream(await servers.subscriber(0), "t")
        for kills in range(1, 4):
            await stream.more(50)
            with redis.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            for subscriber in (*subscribers, idle):
                topic = "idle" if subscriber is idle else "t"
                await subscriber.until(
                    lambda s=subscriber, t=topic, k=kills: s.payloads(t).count(GAP) == k
                )
        await stream.more(50)
        await stream.stop()
        # A lost subscription is no lost Redis: every publish went through.
        assert stream.count("ok") == len(stream.answers)
        await all_at_the_end(redis, servers, [*subscribers, idle], {"t", "idle"})
        assert idle.payloads("idle") == [GAP] * 3 + ["end"]
        for subscriber in subscribers:
            assert gaps_told(subscriber.payloads("t")) == 3


async def test_a_restart_of_redis_is_an_outage_and_heals(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(settings, settings) as servers:
        subscribers = [await servers.subscriber(n, "t") for n in range(2)]
        stream = Stream(await servers.subscriber(0), "t")
        await stream.more(50)
        redis.shut_down()
        async with asyncio.timeout(PATIENCE):
            while not stream.count("degraded"):
                await stream.more(1)
        late = await servers.subscriber(1, "late")  # created while no other node can see it
        assert sort_of(await late.ask("subscribe", topic="late")) == "degraded"
        await stream.more(50)
        redis.start()
        async with asyncio.timeout(PATIENCE):
            before = stream.count("ok")
            while stream.count("ok") == before:
                await stream.more(1)
        await servers.healed(())
        await stream.more(50)
        await stream.stop()
        assert stream.count("ok") + stream.count("degraded") == len(stream.answers)
        await all_at_the_end(redis, servers, [*subscribers, late], {"t", "late"})
        # The publisher's node has delivered its own events; the other reports the rest as a gap.
        assert [gaps_told(it.payloads("t")) for it in subscribers] == [1, 1]
        numbers = [it for it in subscribers[0].payloads("t") if isinstance(it, int)]
        assert set(range(len(stream.answers))) - set(numbers) == set()


@pytest.mark.parametrize("mode", ["local", "strict"])
async def test_a_frozen_redis_delivers_nothing_twice(redis: RedisServer, mode: str) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "REDIS_FAIL_MODE": mode}
    async with cluster(settings, settings) as servers:
        subscribers = [await servers.subscriber(n, "t") for n in range(2)]
        stream = Stream(await servers.subscriber(0), "t", pause=0.05)
        await stream.more(20)
        redis.freeze()
        others = [await servers.subscriber(n) for n in (0, 0, 1)]
        sent = [
            asyncio.create_task(it.ask("publish", topic="t", payload=f"sent {number}"))
            for number, it in enumerate(others)
        ]
        answers = await asyncio.gather(*sent)
        if mode == "strict":
            assert {sort_of(it) for it in answers} == {"UNAVAILABLE"}
            assert all("may have been delivered" in it["error"]["message"] for it in answers)
            refused = await others[0].ask("publish", topic="t", payload="never")
            assert refused["error"]["message"] == "Redis cannot be reached: try again"
            assert (await servers.publish(0, "t", "never"))[0] == 503
        else:
            assert {sort_of(it) for it in answers} == {"degraded"}
        for node in servers.nodes:  # each has also tried to connect again
            await node.wait_for_log(f"{events.REDIS_STILL_LOST.text}.*no answer")
        redis.thaw()
        await servers.healed(())
        await stream.more(20)
        await stream.stop()
        await all_at_the_end(redis, servers, subscribers, {"t"})
        for subscriber in subscribers:
            payloads = subscriber.payloads("t")
            got = [it for it in payloads if it != GAP]
            assert len(got) == len(set(got)), "an event came twice"
            assert "never" not in got
            assert payloads.count(GAP) == 1
        if mode == "local":
            gaps_told(subscribers[0].payloads("t"))
            assert {f"sent {n}" for n in (0, 1)} <= set(map(str, subscribers[0].payloads("t")))


async def test_flushall_deletes_created_topics_and_keeps_subscribed_ones(
    redis: RedisServer,
) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(settings, settings) as servers:
        subscriber = await servers.subscriber(1, "t")
        assert (await servers.call(0, "POST", "/topics", {"name": "made"}))[0] == 201
        await servers.until_refused(0, "unknown")  # the grace after the start is over
        stream = Stream(await servers.subscriber(0), "t")
        await stream.more(20)
        with redis.client() as client:
            client.flushall()
        await servers.eventually(0, "/topics", lambda it: it == {"count": 1, "topics": {"t": 1}})
        await stream.more(100)
        await stream.stop()
        assert stream.count("ok") == len(stream.answers)
        await all_at_the_end(redis, servers, [subscriber], {"t"})
        assert gaps_told(subscriber.payloads("t")) == 0
        await servers.until_refused(0, "made")


async def test_a_node_that_overran_its_output_buffer_reports_a_gap(redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 262144 0 0")
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(settings, settings) as servers:
        slow = await servers.subscriber(1, "t")
        node = servers.nodes[1].process
        node.send_signal(19)  # SIGSTOP
        with redis.client() as client:
            before = client.info("clients")["connected_clients"]
            for number in range(2_000):
                assert (await servers.publish(0, "t", "x" * 60_000 if number else 0))[0] == 200
                if client.info("clients")["connected_clients"] < before:
                    break
            else:
                raise AssertionError("Redis has not cut the connection")
        node.send_signal(18)  # SIGCONT
        await slow.until(lambda: GAP in slow.payloads("t"))
        await servers.healed(())
        await all_at_the_end(redis, servers, [slow], {"t"})
        assert slow.payloads("t").count(GAP) == 1


async def test_a_silent_connection_to_redis_is_detected_and_replaced(redis: RedisServer) -> None:
    async with proxy(redis.port) as way:
        through = {"REDIS_ADDR": f"127.0.0.1:{way.port}"}
        straight = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
        async with cluster(through, straight) as servers:
            subscribers = [await servers.subscriber(n, "t") for n in range(2)]
            stream = Stream(await servers.subscriber(0), "t")
            await stream.more(50)
            way.silent = True
            async with asyncio.timeout(PATIENCE):
                while not stream.count("degraded"):
                    await stream.more(1)
            # The other node is well, and its publishes do not reach the one that is cut off.
            assert (await servers.publish(1, "t", "alone"))[1]["nodes"] == 1
            await subscribers[1].until(lambda: "alone" in subscribers[1].payloads("t"))
            await stream.more(20)
            way.silent = False
            await servers.healed(())
            await stream.more(50)
            await stream.stop()
            await all_at_the_end(redis, servers, subscribers, {"t"})
            assert gaps_told(subscribers[0].payloads("t")) == 1
            assert "alone" not in subscribers[0].payloads("t")
            # What was acknowledged without "degraded" has reached both.
            everywhere = {n for n, it in enumerate(stream.answers) if sort_of(it) == "ok"}
            assert everywhere <= set(
                filter(lambda it: isinstance(it, int), subscribers[1].payloads("t"))
            )


async def test_a_killed_node_is_forgotten(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(settings, settings) as servers:
        await servers.subscriber(1, "theirs")
        ours = await servers.subscriber(0, "ours")
        await servers.eventually(0, "/stats", lambda it: it["topics"] == {"ours": 1, "theirs": 1})
        servers.nodes.pop().process.kill()
        stats = await servers.eventually(0, "/stats", lambda it: it["nodes"] == 1)
        assert (stats["total_clients"], stats["topics"]) == (1, {"ours": 1})
        assert (await servers.publish(0, "theirs", 1))[0] == 404
        await all_at_the_end(redis, servers, [ours], {"ours"})


async def test_300_clients_end_as_the_model_does_after_5_kills(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    topics = [f"t{n}" for n in range(40)]
    dice = random.Random(4)
    async with cluster(settings, settings) as servers:
        clients = [await servers.subscriber(n % 2) for n in range(CLIENTS)]
        model: list[set[str]] = [set() for _ in clients]
        changes: asyncio.Queue[str] = asyncio.Queue()

        async def churn(number: int) -> None:
            for _ in range(CHANGES):
                topic = dice.choice(topics)
                if topic in model[number]:
                    model[number].discard(topic)
                    answer = await clients[number].ask("unsubscribe", topic=topic)
                else:
                    model[number].add(topic)
                    answer = await clients[number].ask("subscribe", topic=topic)
                assert answer["type"] == "ack", answer
                changes.put_nowait(topic)

        running = asyncio.gather(*map(churn, range(CLIENTS)))
        for _ in range(5):
            for _ in range(CLIENTS * CHANGES // 6):
                await changes.get()
            with redis.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await running
        await servers.healed(())
        counts = {t: sum(t in it for it in model) for t in topics}
        wanted = {topic: count for topic, count in counts.items() if count}
        await servers.eventually(0, "/stats", lambda it: it["topics"] == wanted)
        with redis.client() as client:
            channels = {f"ws:topic:{topic}" for topic in wanted}
            await eventually(lambda: set(client.pubsub_channels("ws:topic:*")) == channels)
        for topic in wanted:
            assert (await servers.publish(0, topic, f"end of {topic}"))[0] == 200
        for number, client in enumerate(clients):
            ends = {f"end of {topic}" for topic in model[number]}
            heard = lambda c=client: {  # noqa: E731
                it["message"]["payload"] for it in c.heard if it["type"] == "event"
            }
            await client.until(lambda e=ends, h=heard: h() >= e)
            assert heard() == ends


async def test_a_pending_publish_completes_during_the_shutdown(redis: RedisServer) -> None:
    settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}"}
    async with cluster(settings) as servers:
        subscriber = await servers.subscriber(0, "t")
        redis.freeze()
        publisher = await RawClient.dial(servers.nodes[0].port)
        await publisher.send(
            b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n"
            b"POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 30\r\n\r\n"
            b'{"topic":"t","payload":"last"}'
        )
        await publisher.read_head()  # an answer: the server has read both requests
        servers.nodes[0].terminate()
        assert b'"degraded":true' in await publisher.read_to_end()
        publisher.close()
        assert await servers.nodes[0].exit_code() == 0
        assert subscriber.heard[-1]["message"]["payload"].startswith("Server is shutting down")
