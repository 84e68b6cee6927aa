"""Disconnects and bans on all nodes, through outages, and at nodes that start later."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hub.redis.address import parse_redis_address
from hub.redis.batching import CHUNK
from hub.redis.broker import Bus
from hub.redis.envelope import CONTROL
from tests.support.access import Caller, bearer, is_open, rest, serving
from tests.support.bus import bus_node
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.proxy import Proxy, proxy
from tests.support.redis import RedisServer
from tests.support.tokens import settings, sign

QUICK = 0.1  # seconds between beats, and until an outage is declared


@asynccontextmanager
async def node(address: str, prefix: str) -> AsyncIterator[Caller]:
    where = parse_redis_address(address)
    async with serving(replace(settings(), redis_addr=where, redis_prefix=prefix)) as it:
        yield it


@asynccontextmanager
async def two_nodes(address: str, prefix: str) -> AsyncIterator[tuple[Caller, Caller, Proxy]]:
    """Two nodes, and the way of the second one to Redis."""
    host, _, port = address.rpartition(":")
    async with (
        proxy(int(port)) as way,
        node(address, prefix) as here,
        node(f"{host}:{way.port}", prefix) as there,
    ):
        yield here, there, way


async def cut_off(it: Caller, way: Proxy) -> None:
    """Take a node's connection to Redis, and wait until it is in an outage."""
    way.shut = True
    way.cut()
    await eventually(lambda: it.server.hub.broker.degraded)


async def test_a_disconnect_closes_connections_of_all_nodes(address: str, prefix: str) -> None:
    async with two_nodes(address, prefix) as (here, there, _):
        ann, other = await here.connect(sign()), await there.connect(sign())
        bob = await there.connect(sign(sub="bob", subscribe=["#"]), "phone")
        assert await here.disconnect({"sub": "ann"}) == (
            200,
            {"status": "disconnected", "sub": "ann", "clients": 1},  # those of this node
        )
        assert await rest(ann) == await rest(other) == [3000]
        assert await is_open(bob)
        assert await is_open(await there.connect(sign()))
        assert (await here.disconnect({"client_id": "phone"}))[0] == 200
        assert await rest(bob) == [3000]


async def test_a_ban_holds_on_all_nodes_and_on_one_that_starts_later(
    address: str, prefix: str
) -> None:
    async with two_nodes(address, prefix) as (here, there, _):
        ann = await there.connect(sign())
        status, answer = await here.disconnect({"sub": "ann", "for": 60})
        assert (status, "degraded" in answer) == (200, False)
        info, code = await rest(ann)
        assert (info["reason"], info["until"], code) == ("DISCONNECTED", answer["until"], 3003)
        assert await there.get("/stats", bearer(sign())) == 403
        async with node(address, prefix) as late:
            assert late.server.sessions.bans == here.server.sessions.bans
            assert await late.get("/stats", bearer(sign())) == 403


async def test_a_ban_of_an_outage_holds_here_and_on_all_nodes_after_it(
    address: str, prefix: str
) -> None:
    async with two_nodes(address, prefix) as (here, there, way):
        ann, other = await here.connect(sign()), await there.connect(sign())
        await cut_off(there, way)
        status, answer = await there.disconnect({"sub": "ann", "for": 60})
        assert (status, answer["degraded"]) == (200, True)
        assert (await rest(other))[-1] == 3003
        assert await there.get("/stats", bearer(sign())) == 403
        assert await is_open(ann)
        way.shut = False
        info, code = await rest(ann)
        assert (info["until"], code) == (answer["until"], 3003)
        assert await here.get("/stats", bearer(sign())) == 403
        async with node(address, prefix) as late:
            assert await late.get("/stats", bearer(sign())) == 403


async def test_a_node_learns_of_the_bans_that_it_has_missed(address: str, prefix: str) -> None:
    async with two_nodes(address, prefix) as (here, there, way):
        ann = await there.connect(sign())
        await cut_off(there, way)
        status, answer = await here.disconnect({"sub": "ann", "for": 60})
        assert (status, "degraded" in answer) == (200, False)
        assert await is_open(ann)
        way.shut = False
        assert (await rest(ann))[-1] == 3003
        assert await there.get("/stats", bearer(sign())) == 403


async def test_a_disconnect_of_an_outage_closes_connections_of_this_node_alone(
    address: str, prefix: str
) -> None:
    async with two_nodes(address, prefix) as (here, there, way):
        ann, other = await here.connect(sign()), await there.connect(sign())
        await cut_off(there, way)
        status, answer = await there.disconnect({"sub": "ann"})
        assert (status, answer["degraded"]) == (200, True)
        assert await rest(other) == [3000]
        way.shut = False
        await eventually(lambda: there.server.hub.broker.reachable)
        assert await is_open(ann)


async def told(call: Any, *arguments: Any) -> bool:
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    call(*arguments, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


async def test_a_node_ignores_its_own_disconnects(address: str, prefix: str) -> None:
    """It has carried them out before it sent them; the client may be back by now."""
    async with bus_node(address, prefix) as one, bus_node(address, prefix) as two:
        await one.subscribe("t")
        assert await told(one.broker.disconnect, "ann", "")
        assert await told(one.broker.disconnect, "", "phone")
        await one.publish("t")
        assert await one.hear(1) == [("event", "t", b"{}")]
        assert await two.hear(2) == [("disconnect", "ann", b""), ("disconnect", "phone", b"")]


@pytest.mark.parametrize("strict", [False, True])
async def test_a_disconnect_is_not_sent_in_an_outage(own_redis: RedisServer, strict: bool) -> None:
    address = f"127.0.0.1:{own_redis.port}"
    async with bus_node(address, "p", beat=QUICK, strict=strict) as one:
        own_redis.shut_down()
        await eventually(lambda: one.bus.bus is not Bus.UP)
        assert not await told(one.broker.disconnect, "ann", "")  # when the outage is declared
        assert one.bus.bus is Bus.OUT
        assert not await told(one.broker.ban, "ann", time.time() + 60)


async def test_a_disconnect_is_sent_when_redis_is_back_before_an_outage_is_declared(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with (
        proxy(shared_redis.port) as way,
        bus_node(f"127.0.0.1:{way.port}", prefix, patience=20.0) as one,
        bus_node(address, prefix) as two,
    ):
        way.shut = True
        way.cut()
        await eventually(lambda: one.bus.bus is Bus.JOINING)
        telling = asyncio.create_task(told(one.broker.disconnect, "ann", ""))
        way.shut = False
        assert await telling
        assert await two.hear(1) == [("disconnect", "ann", b"")]


async def test_bans_outlive_the_data_of_redis(own_redis: RedisServer) -> None:
    address, end = f"127.0.0.1:{own_redis.port}", time.time() + 60
    async with bus_node(address, "p", beat=QUICK) as one:
        one.ban({"ann": end})
        assert await told(one.broker.ban, "ann", end)
        with own_redis.client() as client:
            client.flushall()
            await eventually(lambda: client.zscore("p:bans", "ann") == end)
        own_redis.kill()
        await eventually(lambda: one.bus.bus is Bus.OUT)
        own_redis.start()
        await eventually(lambda: one.bus.bus is Bus.UP)
        async with bus_node(address, "p") as late:
            assert late.bans == {"ann": end}


async def test_many_bans_are_written_and_read_in_parts(own_redis: RedisServer) -> None:
    address, end = f"127.0.0.1:{own_redis.port}", float(int(time.time() + 60))
    bans = {f"user {number}": end + number % 7 for number in range(3 * CHUNK + 1)}
    async with bus_node(address, "p") as one, bus_node(address, "p", beat=QUICK) as two:
        two.ban(bans)
        with own_redis.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # both join again
        await one.until(lambda: one.bans == bans)
        async with bus_node(address, "p") as late:
            assert late.bans == bans


async def test_redis_keeps_the_longest_ban_and_no_ended_ones(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    now = int(time.time())
    key = f"{prefix}:bans"
    with shared_redis.client() as client:
        client.zadd(key, {"ended": now - 1, "ann": now + 100})
        async with bus_node(address, prefix) as one, bus_node(address, prefix) as two:
            await told(one.broker.ban, "ann", now + 50)
            await told(one.broker.ban, "bob", now + 50.5)
            assert dict(client.zrange(key, 0, -1, withscores=True)) == {
                "ann": now + 100,
                "bob": now + 50.5,
            }
            await two.until(lambda: "bob" in two.bans)


async def test_foreign_control_messages_and_bans_are_counted_and_dropped(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    with shared_redis.client() as client:
        client.zadd(f"{prefix}:bans", {b"\xff": 9e9, "": 9e9, "x" * 256: 9e9, "a": float("inf")})
        async with bus_node(address, prefix) as one:
            assert (await one.bus.cluster_stats()).poisoned == 4
            contents = [
                b"",
                b"{",
                b"[]",
                b"{}",
                b'{"sub":""}',
                b'{"sub":7}',
                b'{"client_id":null}',
                b'{"sub":"ann","client_id":"phone"}',
                b'{"other":"ann"}',
                b'{"bans":{}}',
                b'{"bans":["ann"]}',
                b'{"bans":{"ann":"soon"}}',
                b'{"bans":{"ann":true}}',
                b'{"bans":{"ann":-1}}',
                b'{"bans":{"ann":1e300}}',
                b'{"bans":{"":9000000000}}',
                b'{"bans":{"ann":9000000000,"%s":9000000000}}' % (b"x" * 256),
            ]
            header = CONTROL + b"x" * 8 + struct.pack(">Q", 1)
            own = CONTROL + bytes.fromhex(one.bus.node_id) + struct.pack(">Q", 99)
            good = b'{"sub":"ann"}'
            for data in (b"", b"hello", b"wsE1" + header[4:] + good, own + good):
                client.publish(f"{prefix}:control", data)
            for content in contents:
                client.publish(f"{prefix}:control", header + content)
            client.publish(f"{prefix}:control", header + good)
            assert await one.hear(1) == [("disconnect", "ann", b"")]
            assert (await one.bus.cluster_stats()).poisoned == 4 + 4 + len(contents)
            assert one.bans == {}
