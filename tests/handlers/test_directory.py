"""`GET /nodes` and `GET /connections` on one server."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import chain
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from hub import connection_list
from hub.access import Principal, Rights
from hub.addresses import parse_networks
from hub.connection_list import ConnectionList
from hub.delivery.client import Client
from hub.ids import ConnectionId
from hub.protocol.list_requests import ConnectionQuery
from hub.settings import Settings
from hub.version import VERSION
from tests.support.access import BACK_END, bearer, rest, serving
from tests.support.eventually import eventually
from tests.support.looks import looks
from tests.support.node import Node, RecordingTransport
from tests.support.process import server_process
from tests.support.raw import RawClient, raw_client, stalled_client
from tests.support.server import Running, running
from tests.support.tokens import sign
from tests.support.ways import get

Row = dict[str, Any]


@pytest_asyncio.fixture
async def session(server: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def ask(session: aiohttp.ClientSession, path: str, **query: Any) -> dict[str, Any]:
    async with session.get(path, params=query) as answer:
        fields: dict[str, Any] = await answer.json()
        assert answer.status == 200, fields
    return fields


async def rows(session: aiohttp.ClientSession, **query: Any) -> list[Row]:
    """Return the connections of the only page."""
    fields = await ask(session, "/connections", **query)
    assert list(fields) == ["connections"]
    return list(fields["connections"])


def joined(parts: list[list[Any]]) -> list[Any]:
    return [*chain.from_iterable(parts)]


async def pages(session: aiohttp.ClientSession, **query: Any) -> list[list[Row]]:
    found = []
    while True:
        page = await ask(session, "/connections", **query)
        found.append(page["connections"])
        if "next" not in page:
            return found
        assert page["next"] == page["connections"][-1]["id"]
        query["after"] = page["next"]


async def test_nodes_has_this_server(server: Running, session: aiohttp.ClientSession) -> None:
    async with raw_client(server.port) as one, raw_client(server.port):
        await one.subscribe("a", "b", "c")
        (node,) = (await ask(session, "/nodes")).pop("nodes")
    assert node == {
        "id": server.hub.node,
        "version": VERSION,
        "uptime_sec": 0,
        "clients": 2,
        "topics": 3,
        "subscriptions": 3,
        "lag_ms": 0,
    }


async def test_lag_is_that_of_the_event_loop(
    server: Running, session: aiohttp.ClientSession
) -> None:
    sweeping = asyncio.create_task(server.sweeper.run())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.3
    while loop.time() < until:
        pass  # nothing else runs in the loop

    async def lag() -> int:
        (node,) = (await ask(session, "/nodes"))["nodes"]
        return int(node["lag_ms"])

    while await lag() < 100:  # noqa: ASYNC110  the sweeper is due
        await asyncio.sleep(0.01)
    sweeping.cancel()


async def test_a_websocket_is_described(server: Running, session: aiohttp.ClientSession) -> None:
    async with raw_client(server.port) as one:
        await one.subscribe("a", "b")
        (row,) = await rows(session)
    assert row == {
        "id": f"{server.hub.node}-1",
        "node": server.hub.node,
        "address": "127.0.0.1",
        "client_id": "raw",
        "transport": "websocket",
        "age_sec": 0,
        "subscriptions": 2,
        "queued_messages": 0,
        "queued_bytes": 0,
        "slow": False,
    }


async def test_the_log_has_the_parts_of_an_id() -> None:
    async with server_process(LOG_LEVEL="debug") as server:
        (listening,) = (line for line in server.log if "listening on" in line)
        url = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws"):
            begun = await server.wait_for_log(r"connection begun: connection=(\d+) ")
            (row,) = await rows(session)
    assert f"node={row['node']}\n" in listening
    assert row["id"] == f"{row['node']}-{begun[1]}"


async def test_a_stream_is_described(server: Running, session: aiohttp.ClientSession) -> None:
    async with session.get("/events?topic=a&topic=b") as stream:
        await stream.content.readuntil(b"ack")
        (row,) = await rows(session)
    assert (row["transport"], row["subscriptions"], "client_id" in row) == ("sse", 2, False)


async def test_a_connection_that_has_ended_is_not_listed(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with raw_client(server.port) as one:
        assert len(await rows(session)) == 1
        one.close()
        await eventually(lambda: not server.hub.clients)
        assert await rows(session) == []


async def test_the_address_is_the_one_behind_a_trusted_proxy() -> None:
    settings = Settings(trusted_proxies=parse_networks("127.0.0.0/8"))
    async with running(settings) as server, aiohttp.ClientSession(server.url) as session:
        headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
        async with session.ws_connect("/ws", headers=headers), session.ws_connect("/ws"):
            assert [it["address"] for it in await rows(session)] == ["198.51.100.7", "127.0.0.1"]


async def test_a_slow_client_has_queued_messages_and_bytes(
    server: Running, session: aiohttp.ClientSession
) -> None:
    async with raw_client(server.port):
        slow = await stalled_client(server.port)
        quick, stalled = await rows(session)
        slow.close()
    assert (quick["slow"], quick["queued_messages"], quick["queued_bytes"]) == (False, 0, 0)
    assert stalled["slow"] is True
    assert 0 < stalled["queued_messages"] < 12
    assert stalled["queued_bytes"] > 60_000 * stalled["queued_messages"]


async def test_a_slow_stream_is_slow(server: Running, session: aiohttp.ClientSession) -> None:
    stream = await RawClient.dial(server.port, receive_buffer=4_096)
    await stream.send(get(b"/events?topic=big"))
    await stream.read_until(b"ack")
    for _ in range(12):
        body = {"topic": "big", "payload": "x" * 60_000}
        async with session.post("/publish", json=body) as answer:
            assert answer.status == 200
    (row,) = await rows(session)
    stream.close()
    assert (row["transport"], row["slow"], row["queued_messages"] > 0) == ("sse", True, True)


def join(server: Running, count: int, topic: str = "", subject: str = "") -> list[Client]:
    """Add connections without sockets."""
    principal = Principal(Rights(), subject=subject)
    made = []
    for _ in range(count):
        transport = RecordingTransport()
        client = transport.client = server.hub.join(transport, principal=principal)
        if topic:
            server.hub.subscribe(client, topic, lambda _: None)
        made.append(client)
    return made


def numbers(listed: Iterable[Row]) -> list[int]:
    return [int(it["id"].partition("-")[2]) for it in listed]


async def test_pages_have_every_connection_once_and_in_order(
    server: Running, session: aiohttp.ClientSession
) -> None:
    for number, client in enumerate(join(server, 2_600)):
        if number % 26 == 0:
            server.hub.leave(client)
    found = await pages(session)
    assert list(map(len, found)) == [1_000, 1_000, 500]
    assert numbers(joined(found)) == [it for it in range(1, 2_601) if it % 26 != 1]
    assert numbers(joined(await pages(session, limit=7))) == numbers(joined(found))


async def test_the_last_page_has_no_next(server: Running, session: aiohttp.ClientSession) -> None:
    join(server, 3)
    assert (await ask(session, "/connections", limit=2))["next"] == f"{server.hub.node}-2"
    assert "next" not in await ask(session, "/connections", limit=3)


async def test_a_page_may_begin_after_a_connection_that_has_ended(
    server: Running, session: aiohttp.ClientSession
) -> None:
    clients = join(server, 5)
    server.hub.leave(clients[2])
    assert numbers(await rows(session, after=f"{server.hub.node}-3")) == [4, 5]


async def test_a_page_may_begin_at_the_place_of_another_node(
    server: Running, session: aiohttp.ClientSession
) -> None:
    join(server, 2)
    assert numbers(await rows(session, after=f"{'0' * 16}-9")) == [1, 2]
    assert await rows(session, after=f"{'f' * 16}-0") == []


async def test_connections_are_selected_by_subject_and_topic(
    server: Running, session: aiohttp.ClientSession
) -> None:
    join(server, 2, "news", "ann")
    join(server, 2, "alerts", "ann")
    join(server, 2, "news", "bob")
    join(server, 1)
    assert numbers(await rows(session, sub="ann")) == [1, 2, 3, 4]
    assert numbers(await rows(session, topic="news")) == [1, 2, 5, 6]
    assert numbers(await rows(session, topic="news", sub="bob")) == [5, 6]
    assert numbers(await rows(session, topic="alerts", sub="bob")) == []
    assert numbers(await rows(session, topic="nowhere")) == []
    assert numbers(await rows(session, sub="", topic="", after="", limit="")) == [*range(1, 8)]
    assert numbers(joined(await pages(session, sub="ann", limit=3))) == [1, 2, 3, 4]


async def test_subscribers_are_in_the_order_of_their_numbers(
    server: Running, session: aiohttp.ClientSession
) -> None:
    clients = join(server, 2_500)
    for client in reversed(clients):
        server.hub.subscribe(client, "news", lambda _: None)
    found = await pages(session, topic="news")
    assert list(map(len, found)) == [1_000, 1_000, 500]
    assert numbers(joined(found)) == [*range(1, 2_501)]


LIMIT = "limit must be a whole number from 1 to 1000"
AFTER = "after must be the id of a connection, such as 9f86d081884c7d65-17"
SUB = "sub must have at most 255 bytes of UTF-8"
TOPIC = "Topic is too long: at most 255 bytes of UTF-8 are allowed"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(({"limit": it}, LIMIT) for it in ("0", "1001", "-1", "1.5", "many", "9" * 10, "٣")),
        *(({"after": it}, AFTER) for it in ("17", "9f86d081884c7d65", "9f86d081884c7d65-x")),
        ({"after": "9F86D081884C7D65-17"}, AFTER),
        ({"after": "9f86d081884c7d65-" + "1" * 16}, AFTER),
        ({"sub": "é" * 128}, SUB),
        ({"topic": "é" * 128}, TOPIC),
    ],
)
async def test_a_wrong_value_is_refused(
    session: aiohttp.ClientSession, query: dict[str, str], text: str
) -> None:
    async with session.get("/connections", params=query) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": text})


async def test_a_query_that_is_not_utf_8_is_refused(
    server: Running, session: aiohttp.ClientSession
) -> None:
    url = aiohttp.client.URL(f"{server.url}/connections?sub=%ff", encoded=True)
    async with session.get(url) as answer:
        assert answer.status == 400


@pytest.mark.parametrize("path", ["/nodes", "/connections"])
async def test_a_key_or_manage_of_everything_is_needed(path: str) -> None:
    async with serving() as it:
        assert await it.get(path, BACK_END) == 200
        assert await it.get(path, bearer(sign(manage=["#"]))) == 200
        assert await it.get(path, bearer(sign(manage=["a/#"], subscribe=["#"]))) == 403
        assert await it.get(path, {}) == 401


async def test_what_is_listed_can_be_disconnected() -> None:
    async with serving() as it:
        sockets = {
            "by its subject": await it.connect(sign(sub="ann", subscribe=["#"])),
            "by its name": await it.connect(BACK_END["X-API-Key"], "phone"),
            "by its newest subscribe": await it.connect(BACK_END["X-API-Key"], "desk"),
        }
        said = {"type": "subscribe", "topic": "t", "client_id": "laptop"}
        await sockets["by its newest subscribe"].send_json(said)
        assert (await sockets["by its newest subscribe"].receive_json())["type"] == "ack"
        stream = await it.session.get(
            f"{it.server.url}/events?topic=t", headers=bearer(sign(sub="bob", subscribe=["#"]))
        )
        url = f"{it.server.url}/connections"
        async with it.session.get(url, headers=BACK_END) as answer:
            listed = (await answer.json())["connections"]
        targets = [{key: row[key] for key in ("sub", "client_id") if key in row} for row in listed]
        assert targets == [
            {"sub": "ann"},
            {"client_id": "phone"},
            {"client_id": "laptop"},
            {"sub": "bob"},
        ]
        for target in targets:
            status, done = await it.disconnect(target)
            assert (status, done["clients"]) == (200, 1)
        for socket in sockets.values():
            assert (await rest(socket))[-1] == 3000
        assert b"DISCONNECTED" in await stream.read()
        async with it.session.get(url, headers=BACK_END) as answer:
            assert await answer.json() == {"connections": []}


@pytest.mark.parametrize("topic", ["", "t"])
async def test_a_turn_of_the_loop_looks_at_one_slice_for_all_requests(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    for _ in range(45):
        node.hub.subscribe(node.connect().client, "t", lambda _: None)
    connections = ConnectionList(node.hub)
    looked = looks(monkeypatch, connection_list, "_select", 0, 10)
    query = ConnectionQuery("nobody", topic)
    asked = await asyncio.gather(*(connections.page(query) for _ in range(3)))
    assert asked == [([], False)] * 3
    assert [count for _, count in looked] == [10, 10, 10, 10, 5] * 3
    assert len({turn for turn, _ in looked}) == len(looked)


async def test_a_list_by_topic_looks_at_its_subscribers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    for number in range(100):
        topic = "few" if number % 50 == 0 else "many"
        node.hub.subscribe(node.connect().client, topic, lambda _: None)
    looked = looks(monkeypatch, connection_list, "_select", 0, 10)
    page = await ConnectionList(node.hub).page(ConnectionQuery(topic="few"))
    assert numbers(page.connections) == [1, 51]
    assert [count for _, count in looked] == [2]


async def test_a_page_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    for _ in range(100):
        node.connect()
    looked = looks(monkeypatch, connection_list, "_select", 0, 10)
    query = ConnectionQuery(after=ConnectionId(node.hub.node, 40), limit=15)
    page = await ConnectionList(node.hub).page(query)
    assert (numbers(page.connections), page.more) == ([*range(41, 56)], True)
    assert [count for _, count in looked] == [10, 10]


async def test_connections_may_come_and_go_while_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_list, "SLICE", 2)
    monkeypatch.setattr(connection_list, "ROWS", 2)
    node = Node()
    peers = [node.connect() for _ in range(6)]
    listing = asyncio.create_task(ConnectionList(node.hub).page(ConnectionQuery()))
    await asyncio.sleep(0)
    node.hub.leave(peers[1].client)
    node.connect()
    page = await listing
    assert [it for it in numbers(page.connections) if it not in (2, 7)] == [1, 3, 4, 5, 6]
