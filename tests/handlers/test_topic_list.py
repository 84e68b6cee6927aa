"""Lists of topics: their order, pages, and the work in one tick."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from hub import topic_list
from hub.access import ANONYMOUS, NO_RIGHTS, Principal, Rights, compile_patterns
from hub.brokers.base import ClusterStats
from hub.brokers.memory import MemoryBroker
from hub.hub import Hub
from hub.protocol.list_requests import MAX_LISTED, TopicQuery
from hub.topic_list import TopicList
from tests.support.looks import looks
from tests.support.node import Node
from tests.support.server import Running


@pytest_asyncio.fixture
async def session(server: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


def make(hub: Hub, names: Iterable[str]) -> None:
    for name in names:
        hub.broker.create(name, lambda _: None)


async def ask(session: aiohttp.ClientSession, path: str, **query: Any) -> dict[str, Any]:
    async with session.get(path, params=query) as answer:
        assert answer.status == 200
        fields: dict[str, Any] = await answer.json()
    return fields


async def test_pages_give_every_topic_once_and_in_order(
    server: Running, session: aiohttp.ClientSession
) -> None:
    names = [*["zZ", "a/b", "é", "💡", "\uffff", "\n"], *(str(number) for number in range(20))]
    make(server.hub, names)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 4}
    while True:
        page = await ask(session, "/topics", **query)
        assert page["count"] == len(names)
        assert len(page["topics"]) <= 4
        found += page["topics"]
        if "next" not in page:
            break
        query["after"] = page["next"]
    assert found == sorted(names)


async def test_the_last_page_has_no_next(server: Running, session: aiohttp.ClientSession) -> None:
    make(server.hub, "abc")
    assert (await ask(session, "/topics", limit=2))["next"] == "b"
    assert "next" not in await ask(session, "/topics", limit=3)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"prefix": "b"}, ["b", "ba", "bb"]),
        ({"prefix": "b", "after": "b"}, ["ba", "bb"]),
        ({"prefix": "b", "after": "a"}, ["b", "ba", "bb"]),
        ({"prefix": "b", "after": "c"}, []),
        ({"after": "bab"}, ["bb", "c"]),
        ({"prefix": "", "after": "", "limit": ""}, ["a", "b", "ba", "bb", "c"]),
    ],
)
async def test_prefix_and_after_select_topics(
    server: Running, session: aiohttp.ClientSession, query: dict[str, str], names: list[str]
) -> None:
    make(server.hub, ["c", "bb", "ba", "b", "a"])
    assert await ask(session, "/topics", **query) == {
        "count": 5,
        "topics": dict.fromkeys(names, 0),
    }


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "many", "9" * 10, "٣"])
async def test_an_invalid_limit_is_refused(
    server: Running, session: aiohttp.ClientSession, limit: str
) -> None:
    async with session.get("/topics", params={"limit": limit}) as answer:
        assert answer.status == 400
        text = "limit must be a whole number from 1 to 1000"
        assert await answer.json() == {"error": text}


async def test_a_query_that_is_not_utf_8_is_refused(
    server: Running, session: aiohttp.ClientSession
) -> None:
    url = aiohttp.client.URL(f"{server.url}/topics?prefix=%ff", encoded=True)
    async with session.get(url) as answer:
        assert answer.status == 400


async def test_stats_lists_the_first_thousand(
    server: Running, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cluster_stats(_: MemoryBroker) -> ClusterStats:
        return ClusterStats("me", topics={"theirs": 3})

    names = [f"t{number:04}" for number in range(MAX_LISTED)]
    make(server.hub, names)
    stats = await ask(session, "/stats")
    assert (stats["total_topics"], list(stats["topics"])) == (MAX_LISTED, names)
    assert "topics_truncated" not in stats
    make(server.hub, ["one more"])
    monkeypatch.setattr(MemoryBroker, "cluster_stats", cluster_stats)
    stats = await ask(session, "/stats")
    assert (stats["total_topics"], stats["topics_truncated"]) == (MAX_LISTED + 2, True)
    assert list(stats["topics"]) == ["one more", *names[:-1]]
    assert stats["node"]["topics_truncated"] is True
    assert list(stats["node"]["topics"]) == ["one more", *names[:-1]]


async def test_health_reads_counters_only(
    server: Running, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(server.hub, "abc")
    monkeypatch.delattr(Hub, "topic_names")
    monkeypatch.delattr(Hub, "subscriber_count")
    health = await ask(session, "/health")
    assert (health["topics"], health["subscribers"]) == (3, 0)


def manages(*patterns: str) -> Principal:
    return Principal(Rights(manage=compile_patterns(patterns)), subject="ann")


@pytest.mark.parametrize("caller", [ANONYMOUS, manages("#")])
async def test_a_turn_of_the_loop_looks_at_one_slice_for_all_requests(
    caller: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    names = [f"{number:02}" for number in range(50)]
    make(node.hub, names)
    topics = TopicList(node.hub)
    looked = looks(monkeypatch, topic_list, "_first", 1, 10)
    stats = ClusterStats(
        "me", topics={"05": 1, **dict.fromkeys((f"x{number}" for number in range(29)), 1)}
    )
    asked = [topics.page(caller, TopicQuery(limit=7), stats) for _ in range(3)]
    for page in await asyncio.gather(*asked):
        assert list(page.topics) == names[:7]
        assert (page.topics["05"], page.next, page.total) == (1, "06", 79)
    assert len(looked) == 3 * 8
    assert {count for _, count in looked} <= {9, 10}
    assert len({number for number, _ in looked}) == len(looked)


async def test_a_caller_that_manages_nothing_gets_the_total_and_no_name_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    make(node.hub, (f"{number:02}" for number in range(50)))
    looked = looks(monkeypatch, topic_list, "_first", 1, 10)
    stats = ClusterStats("me", topics={"05": 1, "theirs": 1})
    nobody = Principal(NO_RIGHTS)
    topics = TopicList(node.hub)
    assert await topics.page(nobody, TopicQuery(), None) == (50, {}, "")
    assert await topics.page(nobody, TopicQuery(), stats) == (51, {}, "")
    assert looked == []


async def test_a_slice_is_smaller_for_a_caller_with_many_patterns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    make(node.hub, (f"{number:02}/a" for number in range(50)))
    looked = looks(monkeypatch, topic_list, "_first", 1, 20)
    caller = manages("07/+", "+/b", "09/#", "7/+")
    page = await TopicList(node.hub).page(caller, TopicQuery(), None)
    assert (page.total, list(page.topics)) == (50, ["07/a", "09/a"])
    assert [count for _, count in looked] == [4] * 12 + [2]


async def test_a_list_of_all_topics_does_not_wait_for_those_of_limited_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    make(node.hub, (f"{number:02}" for number in range(50)))
    monkeypatch.setattr(topic_list, "SLICE", 10)
    topics = TopicList(node.hub)
    others = [
        asyncio.create_task(topics.page(manages("00", "+/x"), TopicQuery(), None))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    assert (await topics.page(ANONYMOUS, TopicQuery(), None)).total == 50
    assert not any(it.done() for it in others)
    await asyncio.gather(*others)


async def test_topics_may_be_created_and_deleted_while_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_list, "SLICE", 2)
    node = Node()
    make(node.hub, "abcdef")
    page = TopicList(node.hub).page(ANONYMOUS, TopicQuery(), None)
    listing = asyncio.create_task(page)
    await asyncio.sleep(0)
    node.broker.delete("e", lambda _: None)
    make(node.hub, "xyz")
    listed = await listing
    assert [name for name in listed.topics if name in "abcdf"] == list("abcdf")
    assert listed.total == len(listed.topics)
