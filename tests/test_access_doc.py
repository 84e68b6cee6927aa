"""The section "Access" of docs/protocol.md, compared with the server."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientWebSocketResponse

from hub import access, sessions
from hub.access import Verb, compile_patterns
from hub.auth import tokens
from hub.errors import FORBIDDEN, UNAUTHORIZED
from hub.settings import SWITCHES
from tests.support.markdown import code, section, table
from tests.support.process import ROOT
from tests.support.raw import HANDSHAKE
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, KEY, settings, sign

DOCUMENT = (ROOT / "docs/protocol.md").read_text()
TEXT = section(DOCUMENT, "Access")
CREDENTIALS = table(DOCUMENT, "Credentials")
USELESS = sign(publish=[])  # valid, without a right
UPGRADE = dict(line.split(": ", 1) for line in HANDSHAKE.decode().split("\r\n")[2:-2])


def test_the_settings_that_turn_access_on_are_named() -> None:
    assert set(code(TEXT.strip().partition("\n\n")[0])) == set(SWITCHES)


def test_there_is_a_row_for_each_right() -> None:
    assert [code(row[0]) for row in table(DOCUMENT, "Access")[: len(Verb)]] == [
        [str(verb)] for verb in Verb
    ]


def test_numbers_are_those_of_the_code() -> None:
    assert f"of at most {tokens.MAX_TOKEN_BYTES:,} bytes" in TEXT
    assert f"a string of 1 to {tokens.MAX_SUBJECT_BYTES} bytes" in TEXT
    assert f"any JSON of at most {tokens.MAX_INFO_BYTES:,} bytes" in TEXT
    assert f"at most {access.MAX_PATTERNS} in all three" in TEXT
    assert f"ends {access.LEEWAY} s after its `exp`" in TEXT
    assert f"{sessions.WARNING:.0f} s before the\nend of its token" in TEXT
    assert sessions.ATTEMPTS == 3
    assert TEXT.count("the third in a row: Close 3000") == 1


def test_the_header_parameters_that_are_refused_are_named() -> None:
    (sentence,) = re.findall(r"So is a token with (.*?) in its header", TEXT, re.S)
    assert set(code(sentence)) == set(tokens._REFUSED)


@pytest.mark.parametrize("row", table(DOCUMENT, "Patterns"), ids=lambda row: row[0])
def test_patterns_match_as_the_table_says(row: list[str]) -> None:
    patterns, _, subject = row[0].partition(", of ")
    subject = "".join(code(subject))
    for pattern in code(patterns):
        if row[1] == "invalid":
            with pytest.raises(ValueError, match=re.escape(repr(pattern))):
                compile_patterns([pattern], subject=subject)
            continue
        compiled = compile_patterns([pattern], subject=subject)
        assert [topic for topic in code(row[1]) if compiled.find(topic) is None] == []
        assert [topic for topic in code(row[2]) if compiled.find(topic) is not None] == []
    assert code(row[1]) or code(row[2]) or row[1] == "invalid"


# --- Credentials ----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    async with running(settings()) as server:
        yield server


def ways(row: list[str], credential: str) -> list[tuple[str, dict[str, str]]]:
    """Return the requests that have a credential where a row says: paths and headers."""
    where = code(row[0])[0].replace("…", credential)
    paths = code(row[2]) or ["/ws", "/events", "/stats", "/nowhere"]
    found = []
    for path in paths:
        query = {"/ws": "/ws?a=b", "/events": "/events?topic=news"}.get(path, f"{path}?a=b")
        headers = UPGRADE if path == "/ws" else {}
        if where.startswith("?"):
            found.append((f"{query}&{where[1:]}", headers))
        else:
            name, _, value = where.partition(": ")
            found.append((query, headers | {name: value}))
    return found


IN_REQUESTS = [row for row in CREDENTIALS if not row[0].startswith("[")]


@pytest.mark.parametrize("row", IN_REQUESTS, ids=lambda row: f"{row[0]} {row[2]}")
async def test_a_valid_credential_is_accepted(server: Running, row: list[str]) -> None:
    credential = KEY if row[1] == "API key" else sign()
    async with ClientSession(server.url) as session:
        for path, headers in ways(row, credential):
            async with session.get(path, headers=headers) as answer:
                expected = {"/ws": 101, "/nowhere": 404}.get(path.partition("?")[0], 200)
                assert answer.status == expected, path
                protocol = headers.get("Sec-WebSocket-Protocol")
                shown = answer.headers.get("Sec-WebSocket-Protocol")
                assert shown == (None if protocol is None else "bearer")
                if "access_token" in path:
                    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("row", IN_REQUESTS, ids=lambda row: f"{row[0]} {row[2]}")
async def test_an_invalid_credential_gets_the_answer_of_the_table(
    server: Running, row: list[str]
) -> None:
    assert row[3] in ("401", f"101, then Close {UNAUTHORIZED.code}")
    async with ClientSession(server.url) as session:
        for path, headers in ways(row, FOREIGN):
            if row[3] == "401":
                async with session.get(path, headers=headers) as answer:
                    assert answer.status == 401, path
                    assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                assert await close_code(session, path, headers) == UNAUTHORIZED.code


@pytest.mark.parametrize("row", IN_REQUESTS, ids=lambda row: f"{row[0]} {row[2]}")
async def test_a_token_without_rights_gets_403_or_close_3003(
    server: Running, row: list[str]
) -> None:
    if row[1] == "API key":
        return  # it has all rights
    async with ClientSession(server.url) as session:
        for path, headers in ways(row, USELESS):
            if not path.startswith(("/ws", "/events")):
                continue
            if row[3] == "401":
                async with session.get(path, headers=headers) as answer:
                    assert answer.status == 403, path
            else:
                assert await close_code(session, path, headers) == FORBIDDEN.code


async def close_code(session: ClientSession, path: str, headers: dict[str, str]) -> int | None:
    """Return the code of the Close that follows a handshake."""
    protocols = headers.get("Sec-WebSocket-Protocol", "").split(", ")
    async with session.ws_connect(path, protocols=[it for it in protocols if it]) as client:
        await client.receive()
        return client.close_code


async def test_an_api_key_is_for_headers_only(server: Running) -> None:
    async with ClientSession(server.url) as session:
        for row in IN_REQUESTS:
            if row[3] != "401":
                for path, headers in ways(row, KEY):
                    assert await close_code(session, path, headers) == UNAUTHORIZED.code
        async with session.get(f"/events?topic=news&access_token={KEY}") as answer:
            assert answer.status == 401


async def test_two_credentials_get_400(server: Running) -> None:
    headers = {"Authorization": f"Bearer {sign()}"}
    async with ClientSession(server.url, headers=headers) as session:
        for path, more in (
            ("/stats", {"X-API-Key": KEY}),
            (f"/events?topic=news&access_token={sign()}", {}),
            ("/ws", UPGRADE | {"Sec-WebSocket-Protocol": f"bearer, {sign()}"}),
        ):
            async with session.get(path, headers=more) as answer:
                assert answer.status == 400, path


# --- Messages -------------------------------------------------------------------------------------


async def ask(client: ClientWebSocketResponse, **message: object) -> dict[str, object]:
    await client.send_json(message)
    answer: dict[str, object] = await client.receive_json()
    return answer


async def test_the_third_invalid_token_in_a_row_closes_the_connection(server: Running) -> None:
    (row,) = (row for row in CREDENTIALS if row[0].startswith("["))
    assert row[3] == "`UNAUTHORIZED`; the third in a row: Close 3000"
    async with ClientSession() as session, session.ws_connect(server.ws) as client:
        for _ in range(2):
            answer = await ask(client, type="auth", token=FOREIGN)
            assert answer["error"]["code"] == "UNAUTHORIZED"  # type: ignore[index]
        assert (await ask(client, type="auth", token=sign()))["sub"] == "ann"
        for _ in range(3):
            answer = await ask(client, type="auth", token=FOREIGN)
            assert answer["error"]["code"] == "UNAUTHORIZED"  # type: ignore[index]
        await client.receive()
        assert client.close_code == UNAUTHORIZED.code


async def test_an_auth_without_rights_is_closed_with_3003(server: Running) -> None:
    async with ClientSession() as session, session.ws_connect(server.ws) as client:
        answer = await ask(client, type="auth", token=USELESS)
        assert answer["error"]["code"] == "FORBIDDEN"  # type: ignore[index]
        await client.receive()
        assert client.close_code == FORBIDDEN.code


async def test_narrower_rights_end_a_subscription_before_the_ack(server: Running) -> None:
    headers = {"Authorization": f"Bearer {sign(subscribe=['news', 'chat'])}"}
    async with (
        ClientSession(headers=headers) as session,
        session.ws_connect(server.ws) as client,
    ):
        for topic in ("news", "chat"):
            assert (await ask(client, type="subscribe", topic=topic))["status"] == "ok"
        info = await ask(client, type="auth", token=sign(subscribe=["chat"]))
        assert (info["type"], info["topic"], info["reason"]) == ("info", "news", "FORBIDDEN")
        assert (await client.receive_json())["sub"] == "ann"
        refused = await ask(client, type="subscribe", topic="news")
        assert refused["error"]["code"] == "FORBIDDEN"  # type: ignore[index]


@pytest.mark.parametrize("credential", [KEY, sign(sub="bob", subscribe=["#"])])
async def test_a_token_of_another_subject_is_forbidden(server: Running, credential: str) -> None:
    headers = {"Authorization": f"Bearer {credential}"}
    async with (
        ClientSession(headers=headers) as session,
        session.ws_connect(server.ws) as client,
    ):
        answer = await ask(client, type="auth", token=sign())
        assert answer["error"]["code"] == "FORBIDDEN"  # type: ignore[index]
        assert (await ask(client, type="subscribe", topic="t", client_id="b"))["type"] == "ack"


async def test_with_access_off_credentials_are_ignored() -> None:
    open_to_all = replace(settings(), api_keys=(), jwt_secret=())
    async with running(open_to_all) as server, ClientSession(server.url) as session:
        async with session.get("/stats", headers={"X-API-Key": "wrong"}) as answer:
            assert answer.status == 200
        async with session.ws_connect("/ws", protocols=["bearer", FOREIGN]) as client:
            assert client.protocol == "bearer"
            answer = await ask(client, type="auth", token=FOREIGN, request_id="r5")
            (example,) = re.findall(r"accepts any token.*?```json\n(.*?)```", DOCUMENT, re.S)
            assert list(answer) == list(json.loads(example))


async def test_lists_have_what_the_caller_may_manage_and_totals_all(server: Running) -> None:
    async with ClientSession(server.url) as session:
        for name in ("room/a", "news"):
            key = {"X-API-Key": KEY}
            async with session.post("/topics", json={"name": name}, headers=key) as made:
                assert made.status == 201
        for token, expected in (
            (KEY, {"room/a": 0, "news": 0}),
            (sign(manage=["room/#"]), {"room/a": 0}),
            (sign(subscribe=["#"]), {}),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get("/topics", headers=headers) as listed:
                assert await listed.json() == {"count": 2, "topics": expected}
            async with session.get("/stats", headers=headers) as listed:
                stats = await listed.json()
                assert (stats["total_topics"], stats["topics"]) == (2, expected)
        async with session.get("/topics") as listed:
            assert await listed.json() == {"count": 2, "topics": {}}


async def test_open_paths_need_no_right(server: Running) -> None:
    (sentence,) = re.findall(r"need no right, and neither do (.*?)\.\s", TEXT, re.S)
    async with ClientSession(server.url) as session:
        for path in code(sentence):
            async with session.get(path) as answer:
                assert answer.status == 200, path
