"""`POST /disconnect` on one server: who may, what it answers, and what clients and streams get."""

import time
from datetime import datetime
from typing import Any

import pytest

from hub import bans, sessions
from hub.access import ALL_RIGHTS, Principal
from hub.delivery.framing import WEBSOCKET
from hub.logs import events
from hub.protocol.http_requests import MAX_BAN
from hub.settings import Settings
from tests.support.access import bearer, is_open, rest, serving
from tests.support.frames import CLOSE, take_frames
from tests.support.logs import records
from tests.support.node import RecordingTransport
from tests.support.sse import Listener
from tests.support.tokens import KEY, sign


def done(clients: int, **names: str) -> tuple[int, dict[str, Any]]:
    """Return the answer to a disconnect without a ban."""
    return 200, {"status": "disconnected", **names, "clients": clients}


WRONG_SUB = "sub must be a string of 1 to 255 bytes of UTF-8"
ALLOWED = "Only the fields sub, client_id and for are allowed"
WRONG_FOR = f"for must be a number of seconds from 0 to {MAX_BAN}"


async def test_a_subject_is_disconnected_and_may_come_back() -> None:
    async with serving() as it:
        ann, again, bob = [
            await it.connect(sign(sub=sub, subscribe=["#"])) for sub in ("ann", "ann", "bob")
        ]
        assert await it.disconnect({"sub": "ann"}) == done(2, sub="ann")
        assert await rest(ann) == await rest(again) == [3000]
        assert await is_open(bob)
        assert await is_open(await it.connect(sign()))


async def test_a_client_id_is_disconnected_and_may_come_back() -> None:
    async with serving() as it:
        named, other = [await it.connect(sign(), name) for name in ("phone", "desk")]
        target = {"client_id": "phone", "for": 0}
        assert await it.disconnect(target) == done(1, client_id="phone")
        assert await rest(named) == [3000]
        assert await is_open(other)
        assert await is_open(await it.connect(sign(), "phone"))


async def test_the_client_id_of_the_newest_subscribe_is_disconnected_too() -> None:
    async with serving() as it:
        ids = {"first": ("desk", ""), "second": ("phone", ""), "url": ("phone", "named")}
        sockets = {}
        for kind, (client_id, name) in ids.items():
            sockets[kind] = socket = await it.connect(sign(), name)
            for given in ({"client_id": "phone"}, {"client_id": client_id}, {}):
                await socket.send_json({"type": "subscribe", "topic": "t", **given})
                assert (await socket.receive_json())["type"] == "ack"
        assert await it.disconnect({"client_id": "phone"}) == done(2, client_id="phone")
        assert await rest(sockets["second"]) == await rest(sockets["url"]) == [3000]
        assert await is_open(sockets["first"])
        assert await it.disconnect({"client_id": "desk"}) == done(1, client_id="desk")


async def test_clients_beyond_one_slice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SLICE", 1)
    async with serving() as it:
        sockets = [await it.connect(sign()) for _ in range(3)]
        assert await it.disconnect({"sub": "ann"}) == done(3, sub="ann")
        assert [await rest(socket) for socket in sockets] == [[3000]] * 3


async def test_a_client_id_is_no_subject() -> None:
    async with serving() as it:
        ann = await it.connect(sign(sub="ann", subscribe=["#"]))
        named = await it.connect(sign(sub="bob", subscribe=["#"]), "ann")
        await it.disconnect({"client_id": "ann"})
        assert await rest(named) == [3000]
        await it.disconnect({"sub": "ann"})
        assert await rest(ann) == [3000]


async def test_a_banned_subject_gets_info_and_close() -> None:
    async with serving() as it:
        ann = await it.connect(sign())
        before = time.time()
        status, answer = await it.disconnect({"sub": "ann", "for": 60})
        until = answer.pop("until")
        assert (status, answer) == done(1, sub="ann")
        assert before + 60 <= datetime.fromisoformat(until).timestamp() <= time.time() + 61
        info, code = await rest(ann)
        assert (info["type"], info["reason"], info["until"]) == ("info", "DISCONNECTED", until)
        assert code == 3003
        assert await it.get("/stats", bearer(sign())) == 403
        assert await it.get("/events?topic=t", bearer(sign())) == 403
        assert await it.get("/stats", bearer(sign(sub="bob", subscribe=["#"]))) == 200
        url = f"{it.server.ws}?access_token={sign()}"
        assert await rest(await it.session.ws_connect(url)) == [3003]
        socket = await it.connect()
        await socket.send_json({"type": "auth", "token": sign()})
        error, code = await rest(socket)
        assert (error["error"]["code"], code) == ("FORBIDDEN", 3003)


async def test_a_ban_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    ahead = 0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    async with serving() as it:
        await it.disconnect({"sub": "ann", "for": 3_600})
        ahead = 3_590
        assert await it.get("/stats", bearer(sign())) == 403
        ahead = 3_602
        assert await it.get("/stats", bearer(sign())) == 200
        it.server.sessions.sweep()
        assert it.server.sessions.bans == {}


async def test_a_ban_is_not_shortened() -> None:
    async with serving() as it:
        _, first = await it.disconnect({"sub": "ann", "for": 3_600})
        assert (await it.disconnect({"sub": "ann", "for": 60}))[1]["until"] == first["until"]
        assert await it.disconnect({"sub": "ann"}) == (200, first)
        assert await it.get("/stats", bearer(sign())) == 403
        _, later = await it.disconnect({"sub": "ann", "for": MAX_BAN})
        assert later["until"] > first["until"]


@pytest.mark.parametrize("seconds", [0, 60])
async def test_a_stream_gets_info_and_ends(seconds: int) -> None:
    async with serving() as it:
        url = f"{it.server.url}/events?topic=t"
        async with it.session.get(url, headers=bearer(sign())) as stream:
            _, answer = await it.disconnect({"sub": "ann", "for": seconds})
            heard = Listener().take(bytearray(await stream.read()))
        info = heard[-1].message
        assert (info["type"], info["reason"]) == ("info", "DISCONNECTED")
        assert info.get("until") == answer.get("until")


async def test_a_connection_whose_handshake_was_checked_before_the_ban_is_closed() -> None:
    async with serving() as it:
        await it.disconnect({"sub": "ann", "for": 60})
        transport = RecordingTransport()
        ann = Principal(ALL_RIGHTS, subject="ann")
        client = it.server.sessions.open(ann, transport, framing=WEBSOCKET, address="192.0.2.7")
        it.server.visit_all(it.server.hub.clock())
        *_, (opcode, close) = take_frames(transport.written)
        assert (opcode, close[2:]) == (CLOSE, b"forbidden")
        assert not client.open


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({}, 401, "An API key is needed, or a token that allows manage of '#'"),
        (bearer(sign(manage=["+", "a/#"])), 403, "The token does not allow manage of '#'"),
        (bearer(sign()), 403, "The token does not allow manage of '#'"),
        ({"X-API-Key": KEY + "x"}, 401, "The API key is not valid"),
    ],
)
@pytest.mark.parametrize("body", [{"sub": "ann", "for": 60}, {"client_id": "phone"}])
async def test_a_refused_disconnect_does_nothing(
    headers: dict[str, str], status: int, error: str, body: dict[str, Any]
) -> None:
    async with serving() as it:
        ann = await it.connect(sign(), "phone")
        assert await it.disconnect(body, headers) == (status, {"error": error})
        assert await is_open(ann)
        assert it.server.sessions.bans == {}


@pytest.mark.parametrize("every", ["#", "*"])
async def test_a_token_that_manages_every_topic_may_disconnect(every: str) -> None:
    async with serving() as it:
        ann = await it.connect(sign())
        token = bearer(sign(sub="root", manage=[every]))
        assert (await it.disconnect({"sub": "ann"}, token))[0] == 200
        assert await rest(ann) == [3000]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], "Body must be a JSON object"),
        ({}, "sub or client_id is missing"),
        ({"for": 60}, "sub or client_id is missing"),
        ({"sub": "ann", "client_id": "phone"}, "Give sub or client_id, not both"),
        ({"sub": "ann", "seconds": 60}, ALLOWED),
        ({"sub": "ann", "For": 60}, ALLOWED),
        ({"user": "ann"}, ALLOWED),
        ({"sub": ""}, WRONG_SUB),
        ({"sub": None}, WRONG_SUB),
        ({"sub": 7}, WRONG_SUB),
        ({"sub": "ä" * 128}, WRONG_SUB),
        ({"sub": "ann", "for": -1}, WRONG_FOR),
        (
            {"sub": "ann", "for": MAX_BAN + 1},
            f"for must be a number of seconds from 0 to {MAX_BAN}",
        ),
        ({"sub": "ann", "for": True}, WRONG_FOR),
        ({"sub": "ann", "for": "60"}, WRONG_FOR),
        ({"sub": "ann", "for": None}, WRONG_FOR),
        (
            {"client_id": "phone", "for": 60},
            "for needs sub: a client_id is a label, and cannot be banned",
        ),
    ],
)
async def test_a_bad_request_is_400(body: Any, error: str) -> None:
    async with serving() as it:
        ann = await it.connect(sign(), "phone")
        assert await it.disconnect(body) == (400, {"error": error})
        assert await is_open(ann)
        assert it.server.sessions.bans == {}


@pytest.mark.parametrize("client_id", ["", None, 7, "x" * 256])
async def test_a_bad_client_id_is_400(client_id: Any) -> None:
    async with serving() as it:
        status, answer = await it.disconnect({"client_id": client_id})
        assert status == 400
        assert answer["error"].startswith("Client ID ")


async def test_the_answer_has_the_end_of_a_ban_that_exists() -> None:
    async with serving() as it:
        status, banned = await it.disconnect({"sub": "ann", "for": 60})
        assert status == 200
        for body in ({"sub": "ann"}, {"sub": "ann", "for": 0}):
            assert await it.disconnect(body) == (200, banned)
        _, bob = await it.disconnect({"sub": "bob", "for": 0})
        assert "until" not in bob


async def test_a_ban_beyond_the_limit_is_503_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bans, "MAX_BANS", 2)
    async with serving() as it:
        for sub in ("one", "two"):
            assert (await it.disconnect({"sub": sub, "for": 60}))[0] == 200
        ann = await it.connect(sign())
        status, answer = await it.disconnect({"sub": "ann", "for": 60})
        assert status == 503
        assert answer["error"].startswith("At most ")
        assert await is_open(ann)
        assert (await it.disconnect({"sub": "two", "for": 90}))[0] == 200
        assert (await it.disconnect({"sub": "ann"}))[0] == 200
        assert await rest(ann) == [3000]


async def test_bans_of_other_nodes_beyond_the_limit_are_dropped_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bans, "MAX_BANS", 2)
    async with serving() as it:
        end = time.time() + 60
        it.server.sessions.ban({"one": end, "two": end})
        assert not records(caplog, events.BANS_FULL)
        it.server.sessions.ban({"three": end})
        assert len(records(caplog, events.BANS_FULL)) == 1
        assert it.server.sessions.bans == {"one": end, "two": end}


async def test_with_access_off_everybody_may_disconnect() -> None:
    async with serving(Settings()) as it:
        phone = await it.connect(name="phone")
        assert (await it.disconnect({"client_id": "phone"}, {}))[0] == 200
        assert await rest(phone) == [3000]


async def test_pages_of_allowed_origins_may_disconnect() -> None:
    async with serving() as it:
        url, asked = f"{it.server.url}/disconnect", "authorization,content-type"
        headers = {
            "Origin": "https://admin.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        }
        async with it.session.options(url, headers=headers) as answer:
            assert answer.status == 200
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
