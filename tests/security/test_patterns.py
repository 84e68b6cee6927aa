"""Names that try to leave the patterns of a token, through every way in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.raw import RawClient, raw_client
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, publish, settings, sign
from tests.support.ways import bearer, get

OWN = ["mine/{sub}/#", "open/+/a"]
NARROW = sign(sub="ann", subscribe=OWN, publish=OWN, manage=OWN)
HEADERS = {"Authorization": f"Bearer {NARROW}"}

OUTSIDE = [
    "secret",
    "mine/bob",
    "mine/bob/x",
    "mine/ANN",
    "mine/ann\u0000",
    "mine/ann ",
    " mine/ann",
    "mine/\u0430nn",  # a Cyrillic a
    "mine/a\u0301nn",
    "mine\u2215ann",  # a slash that is none
    "mine//ann",
    "/mine/ann",
    "mine/ann\\..\\bob",
    "mine%2Fann",
    "mine%252Fann",
    "mine/{sub}",
    "mine/+",
    "mine/#",
    "#",
    "*",
    "+",
    "open/a",
    "open/x/y/a",
    "open//a/",
    "open/x/A",
    "open/x/a/",
    "../mine/ann",
    "./mine/ann",
    "x" * 255,
]
# There are no relative names: these are below the pattern, whatever they look like.
INSIDE = ["mine/ann", "mine/ann/", "mine/ann/../../secret", "mine/ann/#", "open/x/a", "open//a"]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    async with running(settings()) as server:
        yield server


async def codes(client: RawClient, kind: str, topics: list[str]) -> list[str]:
    found = []
    for topic in topics:
        await client.say({"type": kind, "topic": topic, "payload": 1})
        answer = await client.hear()
        while answer["type"] == "event":
            answer = await client.hear()
        found.append(answer["error"]["code"] if answer["type"] == "error" else answer["type"])
    return found


async def test_commands(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.say({"type": "auth", "token": NARROW})
        await client.hear()
        for kind in ("subscribe", "publish"):
            assert set(await codes(client, kind, OUTSIDE)) == {"FORBIDDEN"}
            assert set(await codes(client, kind, INSIDE)) == {"ack"}
        assert set(server.topics()) == set(INSIDE)


async def test_items_of_batches_and_lists_of_topics(server: Running) -> None:
    async with (
        ClientSession(server.url, headers=BACK_END) as back_end,
        ClientSession(server.url, headers=HEADERS) as session,
    ):
        for topic in (*OUTSIDE, *INSIDE):
            async with back_end.post("/topics", json={"name": topic}) as answer:
                assert answer.status == 201, topic
        mixed = [topic for pair in zip(OUTSIDE, INSIDE * 9, strict=False) for topic in pair]
        bodies: dict[str, Any] = {
            "/publish": {"topics": mixed, "payload": 1},
            "/publish/batch": {"items": [{"topic": it, "payload": 1} for it in mixed]},
        }
        for path, body in bodies.items():
            async with session.post(path, json=body) as answer:
                results = (await answer.json())["results"]
            for topic, result in zip(mixed, results, strict=True):
                assert ("error" in result) == (topic in OUTSIDE), (topic, result)
        for topic in OUTSIDE:
            async with session.post("/publish", json={"topic": topic, "payload": 1}) as answer:
                assert answer.status == 403
            async with session.post("/topics", json={"name": topic}) as answer:
                assert answer.status == 403  # not 409: it is not told that the topic exists
        for topic in OUTSIDE:
            history = server.hub.broker.history(topic)
            assert history is None or history.position.offset == 0


def spellings(topic: str) -> list[bytes]:
    """Return the ways to write a topic in a path."""
    every = "".join(f"%{byte:02x}" for byte in topic.encode())
    return [quote(topic, safe="").encode(), every.encode(), every.upper().encode()]


async def test_names_in_paths(server: Running) -> None:
    async with ClientSession(server.url, headers=BACK_END) as session:
        for topic in (*OUTSIDE, *INSIDE):
            async with session.post("/topics", json={"name": topic}) as answer:
                assert answer.status == 201
            await publish(session, topic, "an event")
    for topic in (*OUTSIDE, *INSIDE):
        expected = b"403" if topic in OUTSIDE else b"200"
        for spelling in spellings(topic):
            requests = [
                get(b"/topics/" + spelling + b"/history", bearer(NARROW.encode())),
                get(b"/topics/" + spelling + b"/history?wait=0.01", bearer(NARROW.encode())),
            ]
            if topic in OUTSIDE:
                delete = get(b"/topics/" + spelling, bearer(NARROW.encode()))
                requests.append(delete.replace(b"GET", b"DELETE", 1))
                requests.append(
                    get(b"/events?topic=" + spelling + b"&topic=open/x/a", bearer(NARROW.encode()))
                )
            for request in requests:
                client = await RawClient.dial(server.port)
                await client.send(request)
                answer = await client.read_to_end()
                client.close()
                assert answer[9:12] == expected, (topic, request, answer)
                assert (b"an event" in answer) == (topic in INSIDE and b"wait" not in request)
    assert set(server.topics()) == {*OUTSIDE, *INSIDE}


@pytest.mark.parametrize(
    "path",
    [
        "/topics/mine/ann/../../secret/history",
        "/topics/mine/ann/..%2f..%2fsecret/history",
        "/topics/./secret/history",
        "//topics/secret/history",
        "/topics//secret/history",
        "/topics/secret%2Fhistory",
        "/topics/secret%2fhistory/history",
        "/%74opics/secret/history",
        "/topics/secret/history;x",
        "/topics/mine/ann%2f%2e%2e%2fsecret/history",
        "/topics/secret/history%00",
        "http://127.0.0.1/topics/secret/history",
        "/stats/../topics/secret/history",
        "/live/../topics/secret/history",
        "/topics/secret/history?topic=mine/ann",
        "/topics/secret/history#/mine/ann",
    ],
)
async def test_a_path_does_not_lead_elsewhere(server: Running, path: str) -> None:
    async with ClientSession(server.url, headers=BACK_END) as session:
        for name in ("secret", "/secret", "secret/history"):
            async with session.post("/topics", json={"name": name}) as answer:
                assert answer.status == 201
            await publish(session, name, "an event")
    for method in (b"GET", b"DELETE"):
        client = await RawClient.dial(server.port)
        request = get(path.encode(), bearer(NARROW.encode()))
        await client.send(request.replace(b"GET", method, 1))
        answer = await client.read_to_end()
        client.close()
        assert answer[9:12] in (b"400", b"403", b"404", b"405"), answer
        assert b"an event" not in answer
    assert {"secret", "/secret", "secret/history"} <= set(server.topics())


async def test_lists_have_no_topic_of_others(server: Running) -> None:
    async with ClientSession(server.url, headers=BACK_END) as session:
        for topic in (*OUTSIDE, *INSIDE):
            async with session.post("/topics", json={"name": topic}) as answer:
                assert answer.status == 201
    total = len(OUTSIDE) + len(INSIDE)
    async with ClientSession(server.url, headers=HEADERS) as session:
        for query in ("", "?prefix=sec", "?limit=1", "?after=mine/a", "?limit=1&after=open"):
            async with session.get(f"/topics{query}") as answer:
                page = await answer.json()
                assert set(page["topics"]) <= set(INSIDE)
                assert page.get("next", INSIDE[0]) in INSIDE
                assert page["count"] == total
        async with session.get("/stats") as answer:
            assert set((await answer.json())["topics"]) == set(INSIDE)


@pytest.mark.parametrize("subject", ["+", "#", "*", "a/b", "ann/#", "{sub}", "}{", "a+"])
async def test_a_subject_is_no_pattern(server: Running, subject: str) -> None:
    rights = {"subscribe": ["mine/{sub}", "mine/{sub}/#"]}
    async with raw_client(server.port) as client:
        await client.say({"type": "auth", "token": sign(sub=subject, **rights)})
        assert (await client.hear())["error"]["code"] == "FORBIDDEN"  # a token without rights
        assert await client.hear() == ("close", 3003, "forbidden")
    assert server.topics() == {}


async def test_requests_at_once_do_not_share_rights(server: Running) -> None:
    """The rights that a caller was found to have are remembered for that caller alone."""
    tokens = {name: sign(sub=name, publish=["mine/{sub}"]) for name in ("ann", "bob")}

    async def tell(session: ClientSession, caller: str, owner: str) -> tuple[bool, int]:
        headers = {"Authorization": f"Bearer {tokens[caller]}"}
        body = {"topic": f"mine/{owner}", "payload": 1}
        async with session.post("/publish", json=body, headers=headers) as answer:
            return caller == owner, answer.status

    async with ClientSession(server.url, headers=BACK_END) as session:
        for name in tokens:
            async with session.post("/topics", json={"name": f"mine/{name}"}) as answer:
                assert answer.status == 201
        pairs = [(caller, owner) for caller in tokens for owner in tokens] * 20
        found = await asyncio.gather(*(tell(session, *pair) for pair in pairs))
    assert set(found) == {(True, 200), (False, 403)}
