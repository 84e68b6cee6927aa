"""The state of the Python client: `state`, `on_state`, `ready` and `retry`."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from broadcast_client import Client, RefusedError, State, StateDetail, connect
from broadcast_client import _connection as connection

from tests.support.double import double
from tests.support.eventually import eventually
from tests.support.python_client import error_of
from tests.support.redis import free_port

LONG = 1_000_000.0  # seconds: a pause that does not end in a test
Change = tuple[State, StateDetail]


pytestmark = pytest.mark.usefixtures("hasty")


def pause_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client's pauses so long that only `retry` ends one."""
    monkeypatch.setattr(connection, "pause", lambda attempt: LONG)


async def test_listeners_get_each_change_with_what_is_known() -> None:
    changes: list[Change] = []
    async with double() as server:
        async with connect(server.url, on_state=lambda *it: changes.append(it)) as client:
            assert client.state == "connecting"
            peer = await server.peer()
            await client.ready()
            assert client.state == "open"
            await peer.close(1001, "going_away")
            await server.peer()
            await eventually(lambda: changes[-1][0] == "open" and len(changes) > 2)
        assert client.state == "closed"
    assert [state for state, _ in changes] == [
        *("connecting", "open"),
        *("waiting", "connecting", "open"),
        "closed",
    ]
    _, (_, first), (_, waiting), (_, again), (_, second), (_, closed) = changes
    assert (first, second) == (StateDetail(), StateDetail(attempt=1))
    why = "closed by the server (1001 going_away)"
    assert (waiting.why, waiting.attempt, waiting.error) == (why, 1, None)
    assert waiting.seconds is not None
    assert 0 <= waiting.seconds <= 0.02
    assert again == StateDetail(why, 1)
    assert closed == StateDetail()


async def test_a_removed_listener_is_not_called_and_the_others_are() -> None:
    removed: list[State] = []
    kept: list[State] = []
    async with double() as server, connect(server.url) as client:
        remove = client.on_state(lambda state, _: removed.append(state))
        client.on_state(lambda state, _: kept.append(state))
        await client.ready()
        assert removed == kept == ["connecting", "open"]
        remove()
        remove()  # which changes nothing
        await (await server.peer()).close(1001)
        await server.peer()
        await client.ready()
        assert len(kept) > len(removed) == 2


@pytest.mark.parametrize(("steady", "attempts"), [(LONG, [1, 2, 3]), (0.0, [1, 1, 1])])
async def test_a_steady_connection_begins_the_count_of_attempts_again(
    steady: float, attempts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STEADY", steady)
    counts: list[int] = []

    def count(state: State, detail: StateDetail) -> None:
        if state == "waiting":
            counts.append(detail.attempt)

    async with double() as server, connect(server.url, on_state=count):
        for _ in attempts:
            await (await server.peer()).close(1001)
        await server.peer()
    assert counts == attempts


async def test_a_listener_that_another_one_removes_is_not_called_again() -> None:
    states: list[State] = []
    removers: list[Callable[[], None]] = []
    async with double() as server, connect(server.url) as client:
        client.on_state(lambda *_: removers.pop()() if removers else None)
        removers.append(client.on_state(lambda state, _: states.append(state)))
        await client.ready()
    assert states == []


@pytest.mark.parametrize("fault", [LookupError, asyncio.CancelledError])
async def test_a_listener_that_fails_is_logged_and_stops_nothing(
    fault: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(state: State, detail: StateDetail) -> None:
        raise fault("in the listener")

    changes: list[State] = []
    async with double() as server, connect(server.url, on_state=fail) as client:
        client.on_state(lambda state, _: changes.append(state))
        await client.ready()
        assert changes == ["connecting", "open"]
        await (await server.peer()).close(1001)
        await server.peer()
        await client.ready()
    assert client.state == "closed"
    assert "a state listener failed" in caplog.text
    assert "in the listener" in caplog.text


async def test_a_listener_may_publish_when_the_connection_is_open() -> None:
    async with double() as server, connect(server.url) as client:
        tasks: list[asyncio.Task[Any]] = []

        def publish(state: State, _: StateDetail) -> None:
            if state == "open":
                tasks.append(asyncio.create_task(client.publish("news", "hello")))

        client.on_state(publish)
        peer = await server.peer()
        command = await peer.hear()
        assert command["payload"] == "hello"
        await peer.ack(command)
        await tasks[0]


async def test_a_dead_port_is_an_error_that_names_address_and_reason() -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws?secret=1"
    async with connect(url) as client:
        await eventually(lambda: client.state == "waiting")
        error = await error_of(client.ready(timeout=0))
        assert error.code == "TIMEOUT"
        assert url.partition("?")[0] in error.text
        assert "connection refused" in error.text
        assert "secret" not in error.text


async def test_after_the_timeout_the_client_goes_on_until_the_server_is_there() -> None:
    async with double() as server:
        server.status = 503
        async with connect(server.url) as client:
            error = await error_of(client.ready(timeout=0.05))
            assert error.code == "TIMEOUT"
            server.status = 101
            await client.ready(timeout=None)
            assert client.state == "open"


@pytest.mark.parametrize("state", ["connecting", "open", "waiting"])
async def test_the_end_of_the_block_leaves_nothing_behind_in_any_state(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_for_long(monkeypatch)
    async with double() as server:
        server.status = 503 if state == "waiting" else 101
        async with connect(server.url) as client:
            await eventually(lambda: client.state == state)
            news = client.subscribe("news", lambda item: None)
            waiting = client.ready(timeout=None), client.publish("news", 1), news.ready()
            calls = [asyncio.create_task(it) for it in waiting]
            await asyncio.sleep(0)  # which starts them
        assert client.state == "closed"
        ready, publish, subscribe = await asyncio.gather(*calls, return_exceptions=True)
        assert ready is None if state == "open" else code_of(ready) == "CLOSED"
        assert code_of(publish) == code_of(subscribe) == "CLOSED"
        files = [task.get_coro().cr_code.co_filename for task in asyncio.all_tasks()]
        assert [file for file in files if "broadcast_client" in file] == []


def code_of(result: object) -> str:
    assert isinstance(result, RefusedError)
    return result.code


async def test_ready_says_when_no_attempt_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with double() as server, connect(server.url) as client:
        error = await error_of(client.ready(timeout=0))
        assert "no attempt has ended yet" in error.text


async def test_ready_raises_what_ended_the_client() -> None:
    async with double() as server:
        server.status = 403
        changes: list[Change] = []
        async with connect(server.url, on_state=lambda *it: changes.append(it)) as client:
            error = await error_of(client.ready())
            assert (error.code, error.text) == ("REFUSED", "HTTP status 403")
            assert client.state == "closed"
            state, detail = changes[-1]
            assert state == "closed"
            assert detail.error is not None
            assert detail.error.code == "REFUSED"
        async with connect(server.url) as client:
            pass
        assert (await error_of(client.ready())).code == "CLOSED"


async def test_a_block_that_is_cancelled_again_and_again_still_closes_the_client() -> None:
    """Which anyio does, on which Starlette and FastAPI are built."""
    clients: list[Client] = []

    async def use(url: str) -> None:
        async with connect(url) as client:
            clients.append(client)
            await asyncio.Event().wait()

    async with double() as server:
        using = asyncio.create_task(use(server.url))
        peer = await server.peer()
        (client,) = clients
        publishing = asyncio.create_task(client.publish("news", "hello"))
        await peer.hear()
        while not using.done():
            using.cancel()
            await asyncio.sleep(0)
        assert (await error_of(publishing)).code == "CLOSED"
        assert client.state == "closed"
        assert await peer.left()


async def test_ready_waits_again_after_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    pause_for_long(monkeypatch)
    async with double() as server, connect(server.url) as client:
        await client.ready()
        await (await server.peer()).close(1001)
        await eventually(lambda: client.state == "waiting")
        assert (await error_of(client.ready(timeout=0.02))).code == "TIMEOUT"
        client.retry()
        await server.peer()
        await client.ready()


async def test_retry_ends_one_pause_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pause_for_long(monkeypatch)
    async with double() as server:
        server.status = 503
        changes: list[State] = []
        async with connect(server.url, on_state=lambda it, _: changes.append(it)) as client:
            client.retry()  # there is no pause yet
            await eventually(lambda: client.state == "waiting")
            for count in (1, 2, 3):
                assert server.refused == count
                client.retry()
                await eventually(lambda: len(changes) == 4)
                assert changes[-2:] == ["connecting", "waiting"]
                del changes[2:]


async def test_a_log_line_says_which_client_what_happened_and_what_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "broadcast_client")
    async with double() as server, connect(f"{server.url}?secret=1") as client:
        peer = await server.peer()
        await client.ready()
        await peer.close(1001, "going_away")
        await server.peer()
        await client.ready()
    first, lost, again = [it.getMessage() for it in caplog.records if it.name == "broadcast_client"]
    assert first == again == f"{server.url}: connected"
    why = r"closed by the server \(1001 going_away\); connecting again in 0\.0 s \(attempt 1\)"
    assert re.fullmatch(rf"{re.escape(server.url)}: {why}", lost)
