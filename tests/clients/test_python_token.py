"""The Python client's tokens, with a double that refuses them and lets them expire."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from broadcast_client import Client, Event, RefusedError, connect
from broadcast_client import _connection as connection
from broadcast_client import _renewal as renewal
from broadcast_client import _token as token_module

from tests.support.double import PATIENCE, Double, Peer, double
from tests.support.eventually import eventually
from tests.support.objects import objects_of

SECRET = "secret"  # in each token


pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(autouse=True)
def replaced_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "REPLACE_EVERY", 0.0)


@pytest.fixture(autouse=True)
def no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if any logger, at any level, prints a token."""
    with caplog.at_level(logging.DEBUG):
        yield
    # At teardown, caplog.text is that of the teardown.
    text = [logging.Formatter().format(record) for record in caplog.get_records("call")]
    assert SECRET not in "\n".join(text)


class Tokens:
    """A token function whose tokens are numbered; a test decides which calls fail."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)  # of the next calls; then they return new tokens
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        return f"{SECRET}.{self.count}" if outcome is None else outcome


class HeldTokens(Tokens):
    """A token function whose second call waits for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        token = await super().__call__()
        if self.count == 2:
            self.called.set()
            await self.go_on.wait()
        return token


def bearer(number: int) -> str:
    return f"Bearer {SECRET}.{number}"


@asynccontextmanager
async def meeting(token: Any) -> AsyncIterator[tuple[Double, Client, Peer]]:
    """Yield a double, a client, and the double's side of the first connection."""
    async with double() as server, connect(server.url, token=token) as client:
        yield server, client, await server.peer()


async def refusal_of(waiting: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        async with asyncio.timeout(PATIENCE):
            await waiting
    assert SECRET not in repr(caught.value)
    return caught.value


async def expire(peer: Peer) -> None:
    message = {"id": "info_1", "payload": "The token expires soon"}
    await peer.say("info", message=message, reason="TOKEN_EXPIRES", expires_at="T")


async def authenticated(peer: Peer, number: int) -> None:
    """Accept the client's auth, which must have this token."""
    command = await peer.hear()
    assert (command["type"], command["token"]) == ("auth", f"{SECRET}.{number}")
    await peer.ack(command, sub="ann", expires_at="T")


# --- At the handshake -----------------------------------------------------------------------------


async def test_without_a_token_no_header_is_sent() -> None:
    async with double() as server, connect(server.url):
        assert (await server.peer()).authorization == ""


async def test_a_string_is_sent_with_each_handshake() -> None:
    async with meeting(SECRET) as (server, _, peer):
        assert peer.authorization == f"Bearer {SECRET}"
        await peer.close(1001)
        assert (await server.peer()).authorization == f"Bearer {SECRET}"


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_is_called_for_each_connection(is_async: bool) -> None:
    tokens, numbers = Tokens(), iter((1, 2))
    function = tokens if is_async else lambda: f"{SECRET}.{next(numbers)}"
    async with meeting(function) as (server, _, peer):
        assert peer.authorization == bearer(1)
        await peer.close(1001)
        assert (await server.peer()).authorization == bearer(2)


@pytest.mark.parametrize("how", ["unauthorized", "token_expired", "disconnected", "new", 401])
async def test_a_refused_token_is_replaced_by_one_of_the_function(how: str | int) -> None:
    async with meeting(Tokens()) as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=5)
        if how == 401:
            server.status = 401
            await peer.close(1001)
            for number in (2, 3, 4):
                async with asyncio.timeout(PATIENCE):
                    assert await server.refusals.get() == bearer(number)
            server.status = 101
            peer = await server.peer()
        else:
            for number in (2, 3, 4):
                await peer.close(3000, str(how))
                peer = await server.peer()
                assert peer.authorization == bearer(number)
        command = await peer.subscribed(epoch="a", offset=5, recovered=True)
        assert command["recover"] == {"epoch": "a", "offset": 5}
        await peer.event("news", "six", 6)
        item = await anext(news)
        assert isinstance(item, Event)
        assert item.payload == "six"


@pytest.mark.parametrize("how", ["unauthorized", 401])
async def test_a_string_that_is_refused_twice_in_a_row_ends_the_client(how: str | int) -> None:
    async with meeting(SECRET) as (server, client, peer):
        if how == 401:
            server.status = 401
            await peer.close(1001)
        else:
            await peer.close(3000, str(how))
            await (await server.peer()).close(3000, str(how))
        refusal = await refusal_of(client.ended())
        assert refusal.code == "REFUSED"
        assert "the token was refused" in refusal.text
        assert server.unseen == 0
        assert server.refused == (2 if how == 401 else 0)


async def test_refusals_around_a_steady_connection_are_not_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "STEADY", 0.0)
    async with meeting(SECRET) as (server, _, peer):
        for _ in range(3):
            server.status = 401
            await peer.close(1001)
            async with asyncio.timeout(PATIENCE):
                await server.refusals.get()
            server.status = 101
            peer = await server.peer()


@pytest.mark.parametrize("word", ["token_expired", "disconnected", "new"])
async def test_a_string_is_sent_again_after_any_other_reason(word: str) -> None:
    async with meeting(SECRET) as (server, _, peer):
        for _ in range(3):
            await peer.close(3000, word)
            peer = await server.peer()


@pytest.mark.parametrize("token", [SECRET, Tokens()])
async def test_an_auth_timeout_asks_for_a_token(token: Any) -> None:
    async with meeting(token) as (server, _, peer):
        await peer.close(3008, "auth_timeout")
        assert SECRET in (await server.peer()).authorization


async def test_an_auth_timeout_ends_a_client_without_a_token() -> None:
    async with meeting(None) as (_, client, peer):
        await peer.close(3008, "auth_timeout")
        refusal = await refusal_of(client.ended())
        assert (refusal.code, "a token is needed" in refusal.text) == ("REFUSED", True)


@pytest.mark.parametrize("how", [3003, 403])
async def test_a_forbidden_client_ends_although_it_has_a_function(how: int) -> None:
    tokens = Tokens()
    async with meeting(tokens) as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed()
        if how == 3003:
            await peer.close(how, "forbidden")
        else:
            server.status = how
            await peer.close(1001)
        for waiting in (client.ended(), anext(news), client.publish("news", 1)):
            refusal = await refusal_of(waiting)
            assert (refusal.code, str(how) in refusal.text) == ("REFUSED", True)
        assert tokens.count == (1 if how == 3003 else 2)


# --- Token functions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (ValueError(f"bad {SECRET}"), "raised ValueError"),
        (asyncio.CancelledError(SECRET), "raised CancelledError"),
        (f"{SECRET}\r\n", "no string of printable ASCII"),
        ("", "no string"),
        (7, "no string"),
    ],
)
async def test_a_function_without_a_token_is_called_again(
    outcome: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with meeting(Tokens(outcome, outcome)) as (_, _, peer):
        assert peer.authorization == bearer(3)
        assert caplog.text.count(said) == 2


async def test_a_function_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(token_module, "FETCH_WITHIN", 0.01)
    tokens = Tokens()

    async def hang_once() -> str:
        if not tokens.count:
            tokens.count += 1
            await asyncio.Event().wait()
        return await tokens()

    async with meeting(hang_once) as (_, _, peer):
        assert peer.authorization == bearer(2)
        assert "the token function took over 0.01 s" in caplog.text


async def test_leaving_the_block_cancels_a_function_that_runs() -> None:
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        called.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with asyncio.timeout(PATIENCE), connect("ws://127.0.0.1:1/ws", token=hang):
        await called.wait()
    assert cancelled.is_set()


@pytest.mark.parametrize("token", ["", f"{SECRET} ", f"{SECRET}\n", f"{SECRET}é"])
async def test_a_string_that_no_header_holds_is_an_error(token: str) -> None:
    with pytest.raises(ValueError, match="token must be printable ASCII") as caught:
        async with connect("ws://127.0.0.1:1/ws", token=token):
            raise AssertionError
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_broken_answer_to_the_handshake_prints_no_token(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    handshakes: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshakes.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE), server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        async with connect(url, token=SECRET):
            for _ in range(3):  # aiohttp itself repeats an unanswered request once
                assert SECRET.encode() in await handshakes.get()
    assert "connecting again" in caplog.text  # and the fixture looks for the token


async def test_no_object_of_the_client_prints_the_token() -> None:
    async with meeting(Tokens()) as (_, client, peer):
        await expire(peer)
        await peer.hear()  # an unanswered auth
        seen: list[object] = []
        for it in (client, client._connection, client._renewal):
            seen += [it, *vars(it).values()]
        seen += objects_of(asyncio.Task)
        assert SECRET not in repr(seen)


# --- Before a token expires -----------------------------------------------------------------------


async def test_a_token_is_replaced_on_the_open_connection_without_losing_an_event() -> None:
    tokens = Tokens()
    async with meeting(tokens) as (server, client, peer):
        news = client.subscribe("news")
        await peer.subscribed(epoch="a", offset=0)
        for number in (2, 3):
            await expire(peer)
            await peer.event("news", number, 2 * number - 3)
            command = await peer.hear()
            assert (command["type"], command["token"]) == ("auth", f"{SECRET}.{number}")
            await peer.event("news", number, 2 * number - 2)
            await peer.ack(command, sub="ann", expires_at="T")
        items = [await anext(news) for _ in range(4)]
        assert [getattr(it, "payload", it) for it in items] == [2, 2, 3, 3]
        assert server.unseen == 0


async def test_a_failed_replacement_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    same = f"{SECRET}.1"
    tokens = Tokens(None, ValueError(SECRET), same, None, None)
    async with meeting(tokens) as (server, _, peer):
        await expire(peer)
        command = await peer.hear()
        assert command["token"] == f"{SECRET}.4"
        await peer.refuse(command, "UNAVAILABLE")
        await authenticated(peer, 5)
        assert "raised ValueError; asking again in" in caplog.text
        assert "the same token; asking again in" in caplog.text
        assert "UNAVAILABLE: because; asking again in" in caplog.text
        await peer.close(1001)
        assert (await server.peer()).authorization == bearer(6)


@pytest.mark.parametrize(("code", "count"), [("UNAUTHORIZED", 2), ("FORBIDDEN", 1)])
async def test_the_server_is_not_made_to_close_the_connection_by_invalid_tokens(
    code: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens()
    async with meeting(tokens) as (server, client, peer):
        await expire(peer)
        for _ in range(count):
            await peer.refuse(await peer.hear(), code)
        publishing = asyncio.create_task(client.publish("news", 1))
        command = await peer.hear()
        assert command["type"] == "publish"
        await peer.ack(command)
        await publishing
        assert client._renewal._task is not None
        async with asyncio.timeout(PATIENCE):
            await client._renewal._task
        assert tokens.count == 1 + count
        await peer.close(3000, "token_expired")
        assert (await server.peer()).authorization == bearer(2 + count)


async def test_the_end_of_the_connection_ends_the_replacement() -> None:
    tokens = HeldTokens()
    async with meeting(tokens) as (server, client, peer):
        await expire(peer)
        await tokens.called.wait()
        await peer.close(3000, "token_expired")
        peer = await server.peer()
        assert peer.authorization == bearer(3)
        tokens.go_on.set()
        for topic in ("news", "other"):
            client.subscribe(topic)
            await peer.subscribed()  # and no auth before it


async def test_another_announcement_ends_the_replacement_that_runs() -> None:
    tokens = HeldTokens()
    async with meeting(tokens) as (_, client, peer):
        await expire(peer)
        await tokens.called.wait()
        await expire(peer)
        await authenticated(peer, 3)
        tokens.go_on.set()
        for topic in ("news", "other"):
            client.subscribe(topic)
            await peer.subscribed()  # and no auth before it


async def test_leaving_the_block_waits_for_the_end_of_a_replacement() -> None:
    called, cleaned = asyncio.Event(), asyncio.Event()
    tokens = Tokens()

    async def slow() -> str:
        token = await tokens()
        if tokens.count == 2:
            called.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(100):  # turns of the event loop, for a cleanup
                    await asyncio.sleep(0)
                cleaned.set()
        return token

    async with meeting(slow) as (_, _, peer):
        await expire(peer)
        await called.wait()
    assert cleaned.is_set()


async def test_a_replacement_is_not_sent_a_second_time() -> None:
    async with meeting(Tokens(None, None, f"{SECRET}.2")) as (_, _, peer):
        await expire(peer)
        await authenticated(peer, 2)
        await expire(peer)
        await authenticated(peer, 4)


async def test_short_tokens_are_replaced_at_most_each_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = Tokens()
    async with meeting(tokens) as (_, client, peer):
        monkeypatch.setattr(renewal, "REPLACE_EVERY", 1_000.0)
        client._renewal._began -= 1_000.0
        await expire(peer)
        await authenticated(peer, 2)
        await expire(peer)
        news = client.subscribe("news")
        await peer.subscribed()
        await news.ready()
        assert tokens.count == 2


async def test_a_string_is_not_sent_again_and_the_end_is_announced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with meeting(SECRET) as (_, client, peer):
        await expire(peer)
        client.subscribe("news")
        await peer.subscribed()
        assert "The token expires soon" in caplog.text


# --- Rights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["UNAUTHORIZED", "FORBIDDEN"])
async def test_a_missing_right_rejects_the_command_with_its_code(code: str) -> None:
    async with meeting(SECRET) as (server, client, peer):
        news = client.subscribe("news")
        publishing = asyncio.create_task(client.publish("news", 1))
        for _ in range(2):
            await peer.refuse(await peer.hear(), code)
        waiting = (news.ready(), anext(news), publishing)
        assert [(await refusal_of(it)).code for it in waiting] == [code] * 3
        await peer.close(1001)
        peer = await server.peer()
        client.subscribe("other")
        assert (await peer.subscribed())["topic"] == "other"


async def test_a_lost_right_ends_its_subscriptions_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[object] = []
    async with meeting(Tokens()) as (server, client, peer):
        news, other = client.subscribe("news"), client.subscribe("other")
        client.subscribe("news", called.append)
        await peer.subscribed()
        await peer.subscribed()
        await peer.event("news", 1)
        await peer.info("news", {"reason": "FORBIDDEN"}, reason="FORBIDDEN")
        await peer.event("other", 2)
        first, second = await anext(news), await anext(other)
        assert [getattr(it, "payload", it) for it in (first, second)] == [1, 2]
        assert (await refusal_of(anext(news))).code == "FORBIDDEN"
        await eventually(lambda: "news: FORBIDDEN: " in caplog.text)  # from the callback's task
        assert called == [first]
        await peer.close(1001)
        assert (await (await server.peer()).subscribed())["topic"] == "other"
