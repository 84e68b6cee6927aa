"""`GET /nodes` and `GET /connections` of several servers on one Redis."""

import asyncio
import json
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import aiohttp
import pytest
import redis as redis_client

from hub.directory import AT_ONCE
from hub.logs import events
from hub.redis.address import parse_redis_address
from hub.redis.questions import KEPT, MAX_ANSWERING, PATIENCE
from hub.settings import Settings
from hub.version import VERSION
from tests.support.access import BACK_END, Caller, bearer, rest, serving
from tests.support.bus import bus_node, hub_node
from tests.support.cluster import cluster
from tests.support.eventually import eventually
from tests.support.logs import records
from tests.support.node import RecordingTransport
from tests.support.proxy import proxy
from tests.support.redis import RedisServer
from tests.support.server import Running, running
from tests.support.tokens import settings as access_settings
from tests.support.tokens import sign

FIRST, LAST = "0" * 16, "f" * 16  # ids before and after those of all nodes
BOUND = 15.0  # seconds in which an answer must come, whatever happens, on a busy machine too

Body = dict[str, Any]


def settings(address: str, prefix: str) -> Settings:
    return Settings(redis_addr=parse_redis_address(address), redis_prefix=prefix)


async def get(server: Running, path: str, **query: Any) -> Body:
    """Return an answer, which must come in time."""
    async with (
        aiohttp.ClientSession(server.url) as session,
        asyncio.timeout(BOUND),
        session.get(path, params=query) as answer,
    ):
        fields: Body = await answer.json()
        assert answer.status == 200, fields
        return fields


@asynccontextmanager
async def servers(address: str, prefix: str, count: int) -> AsyncIterator[list[Running]]:
    """Run servers, in the order of their ids."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(running(settings(address, prefix)))
            for _ in range(count)
        ]
        yield sorted(made, key=lambda it: it.hub.node)


def join(server: Running, count: int, topic: str = "") -> None:
    """Add connections without sockets."""
    for _ in range(count):
        transport = RecordingTransport()
        transport.client = server.hub.join(transport)
        if topic:
            server.hub.subscribe(transport.client, topic, lambda _: None)


def expected(*parts: tuple[Running, range]) -> list[str]:
    return [f"{server.hub.node}-{number}" for server, numbers in parts for number in numbers]


def joined(parts: list[list[Any]]) -> list[Any]:
    return [*chain.from_iterable(parts)]


async def pages(server: Running, **query: Any) -> list[list[str]]:
    """Return the ids on each page."""
    found = []
    while True:
        page = await get(server, "/connections", **query)
        assert not {"missing", "degraded"} & page.keys()
        found.append([it["id"] for it in page["connections"]])
        if "next" not in page:
            return found
        query["after"] = page["next"]


async def test_nodes_has_every_server(address: str, prefix: str) -> None:
    async with servers(address, prefix, 3) as made:
        for number, server in enumerate(made):
            join(server, number, f"t{number}")
        await eventually(lambda: made[2].hub.topic_count == 1)
        answers = [await get(server, "/nodes") for server in made]
        for answer in answers:
            assert list(answer) == ["nodes"]
            for node in answer["nodes"]:
                assert 0 <= node.pop("redis_ms") < 1_000
                assert node.pop("uptime_sec") in (0, 1)
            assert answer["nodes"] == [
                {
                    "id": server.hub.node,
                    "version": VERSION,
                    "clients": number,
                    "topics": bool(number),
                    "subscriptions": number,
                    "lag_ms": 0,
                }
                for number, server in enumerate(made)
            ]


async def test_connections_has_those_of_every_server(address: str, prefix: str) -> None:
    async with (
        servers(address, prefix, 2) as (one, two),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{two.ws}?client_id=phone") as phone,
        session.get(f"{one.url}/events?topic=t") as stream,
    ):
        await stream.content.readuntil(b"ack")
        await phone.send_json({"type": "ping"})
        await phone.receive_json()
        page = await get(one, "/connections")
        assert await get(two, "/connections") == page
        assert [(it["id"], it["node"], it["transport"]) for it in page["connections"]] == [
            (f"{one.hub.node}-1", one.hub.node, "sse"),
            (f"{two.hub.node}-1", two.hub.node, "websocket"),
        ]
        assert page["connections"][1]["client_id"] == "phone"


async def test_pages_have_every_connection_once_in_the_same_order_on_each_server(
    address: str, prefix: str
) -> None:
    async with servers(address, prefix, 3) as made:
        one, two, three = made
        join(one, 1_300)
        join(three, 1_200)
        every = expected((one, range(1, 1_301)), (three, range(1, 1_201)))
        for server in made:
            found = await pages(server)
            assert list(map(len, found)) == [1_000, 1_000, 500]
            assert joined(found) == every
        assert joined(await pages(two, limit=650)) == every  # a page ends with the first server
        assert joined(await pages(two, limit=999)) == every


async def test_connections_are_selected_on_every_server(address: str, prefix: str) -> None:
    async with servers(address, prefix, 2) as (one, two):
        for server in (one, two):
            join(server, 2, "news")
            join(server, 2, "alerts")
        selected = expected((one, range(3, 5)), (two, range(3, 5)))

        def subscribed() -> bool:
            return all(server.hub.subscriber_count("alerts") == 2 for server in (one, two))

        await eventually(subscribed)
        assert await pages(one, topic="alerts") == [selected]
        assert await pages(two, topic="alerts", limit=3) == [selected[:3], selected[3:]]
        assert await pages(one, topic="alerts", sub="ann") == [[]]


async def test_an_answer_is_not_left_in_redis(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with servers(address, prefix, 3) as made:
        for server in made:
            join(server, 3)
        await get(made[0], "/connections", limit=1)
        with shared_redis.client() as client:

            def answers() -> list[Any]:
                return [
                    key
                    for key in client.scan_iter(f"{prefix}:answer:*")
                    if not 0 < client.ttl(key) <= KEPT
                ]

            assert answers() == []
            await get(made[0], "/connections")
            await eventually(lambda: len(list(client.scan_iter(f"{prefix}:answer:*"))) <= 2)


@contextmanager
def peer(client: "redis_client.Redis", prefix: str, node: str) -> Iterator[Any]:
    """Another node that listens and does not answer by itself; yield its messages."""
    client.zadd(f"{prefix}:nodes", {node: time.time() + 14})
    listening = client.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(f"{prefix}:peer:{node}")
    deadline = time.monotonic() + 10
    while not client.pubsub_numsub(f"{prefix}:peer:{node}")[0][1]:
        assert time.monotonic() < deadline
    try:
        yield listening
    finally:
        listening.close()


def sealed(kind: bytes, node: str, number: int, content: bytes) -> bytes:
    return struct.pack(">4s8sQ", kind, bytes.fromhex(node), number) + content


def answered(client: "redis_client.Redis", prefix: str, asker: str, number: int, node: str) -> None:
    """Notify a node that another one has answered its question."""
    notice = sealed(b"wsA1", node, 2, str(number).encode())
    client.publish(f"{prefix}:peer:{asker}", notice)


async def heard(listening: Any) -> tuple[bytes, str, int, bytes]:
    """Return the kind, the node, the number and the content of a peer's next message."""
    found: list[Any] = []

    def come() -> bool:
        found.append(listening.get_message())
        return found[-1] is not None

    await eventually(come)
    data = found[-1]["data"]
    kind, run, number = struct.unpack_from(">4s8sQ", data)
    return kind, run.hex(), number, data[20:]


@contextmanager
def raw(server: RedisServer) -> Iterator["redis_client.Redis"]:
    client = redis_client.Redis("127.0.0.1", server.port, socket_timeout=5)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("path", ["/nodes", "/connections"])
async def test_a_server_that_does_not_know_questions_is_missing_at_once(
    shared_redis: RedisServer, address: str, prefix: str, path: str
) -> None:
    """An older server in a rolling restart has leases, and does not listen."""
    async with servers(address, prefix, 2) as made:
        with raw(shared_redis) as client:
            client.zadd(f"{prefix}:nodes", {node: time.time() + 14 for node in (FIRST, LAST)})
            client.zadd(f"{prefix}:nodes", {b"\xff": time.time() + 14})  # of another program
            took = PATIENCE
            for _ in range(10):  # one that does not wait is enough; the machine may be busy
                started = time.monotonic()
                answer = await get(made[0], path)
                took = min(took, time.monotonic() - started)
            assert took < PATIENCE
            assert answer["missing"] == [FIRST, LAST]
            assert "degraded" not in answer
            assert len(answer.get("nodes", made)) == 2


@pytest.mark.parametrize("path", ["/nodes", "/connections"])
async def test_a_server_that_does_not_answer_is_missing(
    shared_redis: RedisServer, address: str, prefix: str, path: str
) -> None:
    async with servers(address, prefix, 2) as made:
        for server in made:
            join(server, 1)
        with raw(shared_redis) as client, peer(client, prefix, FIRST):
            answer = await get(made[0], path)
            assert answer["missing"] == [FIRST]
            assert [it["id"][:16] for it in answer[path[1:]]] == [it.hub.node for it in made]


async def test_a_server_before_the_page_is_not_asked(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with servers(address, prefix, 1) as (one,):
        join(one, 2)
        with raw(shared_redis) as client, peer(client, prefix, FIRST):
            answer = await get(one, "/connections", after=f"{one.hub.node}-1")
            assert [it["id"] for it in answer["connections"]] == [f"{one.hub.node}-2"]
            assert "missing" not in answer


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"connections":[]}',
        b'{"connections":{},"more":false}',
        b'{"connections":[],"more":true}',
        b'{"connections":[7],"more":false}',
        b'{"connections":[{"id":"%s-1"}],"more":false}' % FIRST.encode(),
        None,  # there is no such key
    ],
)
async def test_a_useless_answer_is_none(
    shared_redis: RedisServer, address: str, prefix: str, content: bytes | None
) -> None:
    async with servers(address, prefix, 1) as (one,):
        join(one, 1)
        with raw(shared_redis) as client, peer(client, prefix, LAST) as listening:
            asking = asyncio.create_task(get(one, "/connections"))
            kind, asker, number, _ = await heard(listening)
            assert (kind, asker) == (b"wsQ1", one.hub.node)
            if content is not None:
                client.set(f"{prefix}:answer:{asker}:{number}:{LAST}", content)
            for noise in (b"", b"wsQ1", sealed(b"wsA1", LAST, 1, b"one")):
                client.publish(f"{prefix}:peer:{asker}", noise)
            client.publish(f"{prefix}:peer:{asker}", sealed(b"wsA1", LAST, 2, str(number).encode()))
            answer = await asking
            assert (len(answer["connections"]), answer["missing"]) == (1, [LAST])


async def test_an_answer_that_is_no_string_is_none(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with servers(address, prefix, 1) as (one,):
        with raw(shared_redis) as client, peer(client, prefix, LAST) as listening:
            asking = asyncio.create_task(get(one, "/nodes"))
            _, asker, number, _ = await heard(listening)
            client.rpush(f"{prefix}:answer:{asker}:{number}:{LAST}", "null")
            answered(client, prefix, asker, number, LAST)
            answer = await asking
            assert (len(answer["nodes"]), answer["missing"]) == (1, [LAST])
            assert "degraded" not in answer


async def test_a_redis_that_stops_before_an_answer_is_read(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with (
        proxy(shared_redis.port) as way,
        bus_node(f"127.0.0.1:{way.port}", prefix, patience=60.0) as one,
    ):
        with (
            raw(shared_redis) as client,
            peer(client, prefix, FIRST) as listening,
            peer(client, prefix, LAST),
        ):
            asked = await one.bus.ask("question", "")
            _, asker, number, _ = await heard(listening)
            for node in (LAST, FIRST):
                client.set(f"{prefix}:answer:{asker}:{number}:{node}", f'"{node}"')
                answered(client, prefix, asker, number, node)
            assert await asked.answer(FIRST) == FIRST  # the notice of the other came before
            way.silent = True
            assert await asked.answer(LAST) is None
            assert asked.degraded
            way.silent = False


async def test_an_answer_of_a_newer_server_is_passed_on(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    row = {"id": f"{LAST}-7", "node": LAST, "colour": "red"}
    async with servers(address, prefix, 1) as (one,):
        with raw(shared_redis) as client, peer(client, prefix, LAST) as listening:
            query = {"sub": "é", "topic": "t", "limit": 5}
            asking = asyncio.create_task(get(one, "/connections", **query))
            _, asker, number, question = await heard(listening)
            assert json.loads(question) == {
                "list": "connections",
                "query": {"sub": "é", "topic": "t", "after": "", "limit": "5"},
            }
            said = json.dumps({"connections": [row], "more": True, "further": 1})
            client.set(f"{prefix}:answer:{asker}:{number}:{LAST}", said)
            client.publish(f"{prefix}:peer:{asker}", sealed(b"wsA1", LAST, 2, str(number).encode()))
            assert await asking == {"connections": [row], "next": row["id"]}


@pytest.mark.parametrize(
    "question",
    [
        {"list": "presence"},
        {"list": "nodes", "detail": True},
        {"list": "presence", "query": {"sub": "", "topic": "", "after": "", "limit": "5"}},
        {"list": "connections", "query": {"sub": "", "topic": "", "after": ""}},
        {"list": "connections", "query": {"sub": 1, "topic": "", "after": "", "limit": "5"}},
        {"list": "connections", "query": {"sub": "", "topic": "", "after": "x", "limit": "5"}},
        {"list": "connections", "query": None},
        [],
    ],
)
async def test_a_question_of_a_newer_server_is_answered_by_null(
    shared_redis: RedisServer, address: str, prefix: str, question: Any
) -> None:
    """So it need not wait."""
    async with servers(address, prefix, 1) as (one,):
        with raw(shared_redis) as client, peer(client, prefix, LAST) as listening:
            asked = sealed(b"wsQ1", LAST, 5, json.dumps(question).encode())
            client.publish(f"{prefix}:peer:{one.hub.node}", asked)
            kind, node, _, number = await heard(listening)
            assert (kind, node, number) == (b"wsA1", one.hub.node, b"5")
            assert client.get(f"{prefix}:answer:{LAST}:5:{one.hub.node}") == b"null"


async def test_foreign_messages_to_a_node_are_counted(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with bus_node(address, prefix) as one, bus_node(address, prefix) as two:
        own = one.bus.node_id
        with raw(shared_redis) as client:
            for data in (
                b"",
                b"hello",
                sealed(b"wsC1", LAST, 1, b"{}"),
                sealed(b"wsQ1", own, 1, b"{}"),
                sealed(b"wsQ1", LAST, 1, b"{"),
                sealed(b"wsA1", LAST, 1, b"9" * 16),
            ):
                client.publish(f"{prefix}:peer:{own}", data)
        asked = await two.bus.ask("after them", "")
        assert await asked.answer(own) == "after them"
        assert (await one.bus.cluster_stats()).poisoned == 6


async def test_a_fault_in_an_answer_ends_nothing(
    address: str, prefix: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Any) -> Any:
        raise ZeroDivisionError

    async with hub_node(address, prefix) as one, bus_node(address, prefix) as two:
        monkeypatch.setattr(two, "answer", fail)
        page = await one.directory.nodes()
        assert ([it["id"] for it in page.nodes], page.missing) == (
            [one.hub.node],
            [two.bus.node_id],
        )
        assert records(caplog, events.QUESTION_FAULT)
        assert not page.degraded


async def test_questions_over_the_limit_are_dropped(address: str, prefix: str) -> None:
    async with bus_node(address, prefix) as one, bus_node(address, prefix) as two:
        go_on = asyncio.Event()
        two.answering = go_on.wait
        node = two.bus.node_id
        asked = [await one.bus.ask(number, node) for number in range(MAX_ANSWERING + 1)]
        dropped = await asked[-1].answer(node)  # it waits until the others have arrived
        go_on.set()
        assert dropped is None
        later = await one.bus.ask("later", node)
        assert await later.answer(node) == "later"


async def test_few_lists_are_under_way_at_a_time(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with servers(address, prefix, 1) as (one,):
        with raw(shared_redis) as client, peer(client, prefix, FIRST) as listening:
            asking = [asyncio.create_task(get(one, "/nodes")) for _ in range(AT_ONCE + 1)]
            await heard(listening)
            first = time.monotonic()
            for _ in range(AT_ONCE):
                await heard(listening)
            assert time.monotonic() - first > PATIENCE / 2  # after the end of one
            for answer in await asyncio.gather(*asking):
                assert answer["missing"] == [FIRST]


async def test_redis_lost_in_mid_request(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with (
        proxy(shared_redis.port) as way,
        running(settings(f"127.0.0.1:{way.port}", prefix)) as one,
        running(settings(address, prefix)) as two,
    ):
        join(one, 1)
        join(two, 1)
        with raw(shared_redis) as client, peer(client, prefix, FIRST) as listening:
            asking = [asyncio.create_task(get(one, it)) for it in ("/connections", "/nodes")]
            await heard(listening)
            await heard(listening)
            way.shut = True
            way.cut()
            connections, nodes = await asyncio.gather(*asking)
            missing = sorted([FIRST, two.hub.node])
            assert [it["node"] for it in connections["connections"]] == [one.hub.node]
            assert (connections["missing"], connections["degraded"]) == (missing, True)
            assert [it["id"] for it in nodes["nodes"]] == [one.hub.node]
            assert (nodes["missing"], nodes["degraded"]) == (missing, True)
            outage = await get(one, "/connections")
            assert [it["node"] for it in outage["connections"]] == [one.hub.node]
            assert outage["degraded"] is True
            (node,) = (await get(one, "/nodes"))["nodes"]
            assert "redis_ms" not in node
        way.shut = False
        await eventually(lambda: one.hub.broker.reachable)
        with raw(shared_redis) as client:
            client.zrem(f"{prefix}:nodes", FIRST)
        assert len((await get(one, "/connections"))["connections"]) == 2


async def test_a_redis_that_stops_to_answer(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    async with (
        proxy(shared_redis.port) as way,
        running(settings(f"127.0.0.1:{way.port}", prefix)) as one,
        running(settings(address, prefix)),
    ):
        way.silent = True
        answer = await get(one, "/connections")
        assert (answer["connections"], answer["degraded"]) == ([], True)


async def test_a_caller_that_is_banned_while_it_waits_is_refused(
    shared_redis: RedisServer, address: str, prefix: str
) -> None:
    where = parse_redis_address(address)
    limited = replace(access_settings(), redis_addr=where, redis_prefix=prefix)
    async with serving(limited) as it:
        with raw(shared_redis) as client, peer(client, prefix, FIRST) as listening:
            eve = bearer(sign(sub="eve", manage=["#"]))
            asking = asyncio.create_task(it.get("/connections", eve))
            await heard(listening)
            assert (await it.disconnect({"sub": "eve", "for": 60}))[0] == 200
            assert await asking == 403


async def test_what_one_server_lists_can_be_disconnected_there(address: str, prefix: str) -> None:
    where = parse_redis_address(address)
    limited = replace(access_settings(), redis_addr=where, redis_prefix=prefix)
    async with serving(limited) as here, serving(limited) as there:
        sockets = [await there.connect(sign()), await there.connect(BACK_END["X-API-Key"], "phone")]
        for target in await listed(here):
            assert (await here.disconnect(target))[0] == 200
        for socket in sockets:
            assert await rest(socket) == [3000]
        await eventually(lambda: not there.server.hub.clients)
        assert await listed(here) == []


async def listed(it: Caller) -> list[Body]:
    """Return the `sub` or `client_id` of each connection."""
    url = f"{it.server.url}/connections"
    async with it.session.get(url, headers=BACK_END) as answer:
        rows = (await answer.json())["connections"]
    return [{key: row[key] for key in ("sub", "client_id") if key in row} for row in rows]


async def test_a_server_that_dies_or_freezes_is_missing_and_one_that_leaves_is_gone(
    address: str, prefix: str
) -> None:
    environ = {"REDIS_ADDR": address, "REDIS_PREFIX": prefix}
    async with cluster(*[environ] * 4) as it:
        everybody = await it.eventually(0, "/nodes", lambda body: len(body["nodes"]) == 4)
        assert "missing" not in everybody
        ids = [(await it.call(number, "GET", "/stats"))[1]["node"]["id"] for number in range(4)]
        frozen, dead, left = it.nodes[1].process, it.nodes[2].process, it.nodes[3]
        frozen.send_signal(signal.SIGSTOP)
        dead.kill()
        left.terminate()
        assert await left.exit_code() == 0
        await dead.wait()
        started = time.monotonic()
        _, body = await it.call(0, "GET", "/nodes")
        assert time.monotonic() - started < BOUND
        assert [node["id"] for node in body["nodes"]] == [ids[0]]
        assert body["missing"] == sorted(ids[1:3])
        frozen.send_signal(signal.SIGCONT)
        body = await it.eventually(0, "/nodes", lambda body: len(body["nodes"]) == 2)
        assert body.get("missing", []) in ([ids[2]], [])  # until its leases expire
