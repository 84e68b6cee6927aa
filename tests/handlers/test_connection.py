"""WebSocket connections on plain sockets, with valid and invalid input."""

import asyncio
import gc
import logging
from typing import Any

import pytest

from hub.dispatcher import Dispatcher
from hub.settings import Settings
from tests.support.frame_vectors import FRAMES, wire
from tests.support.frames import CLOSE, PING, PONG, TEXT, client_frame
from tests.support.raw import HANDSHAKE, RawClient, raw_client, until
from tests.support.server import Running, running

PING_MESSAGE = client_frame(TEXT, b'{"type":"ping"}')


def described(heard: Any) -> str:
    """Return a message as tests/vectors/frames.json writes it."""
    if isinstance(heard, dict):
        return str(heard["error"]["code"] if heard["type"] == "error" else heard["type"])
    if heard[0] == PONG:
        return "ping answered"
    return "close empty" if heard[1] == 0 else f"close {heard[1]} {heard[2]}".rstrip()


@pytest.mark.parametrize("vector", FRAMES, ids=lambda vector: vector["name"])
async def test_each_input_has_the_reaction_of_its_vector(
    server: Running, vector: dict[str, Any]
) -> None:
    async with raw_client(server.port) as client, raw_client(server.port) as other:
        await other.subscribe("t")
        await client.send(wire(vector))
        expected = vector["reaction"].split(", ")
        if "close" not in expected[-1]:
            await client.send(client_frame(CLOSE, b"\x0f\xa1"))  # 4001: a mark for the end
            expected = [word for word in expected if word != "nothing"] + ["close 4001"]
        heard = [described(message) for message in await client.rest()]
        assert heard == expected
        await other.say({"type": "ping"})  # the others are not affected
        assert (await other.hear())["type"] == "pong"


async def test_the_server_ends_the_connection_after_a_close(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.send(client_frame(CLOSE, b"\x03\xe8") + PING_MESSAGE)
        assert await client.hear() == ("close", 1000, "")
        assert await client.hear() is None
    await until(lambda: not server.hub.clients)


async def test_commands_before_a_close_are_answered(server: Running) -> None:
    async with raw_client(server.port) as client:
        subscribe = b'{"type":"subscribe","topic":"t"}'
        publish = b'{"type":"publish","topic":"t","payload":1}'
        await client.send(
            client_frame(TEXT, subscribe)
            + client_frame(TEXT, publish)
            + client_frame(CLOSE, b"\x03\xe8")
        )
        kinds = [message["type"] for message in (await client.rest())[:-1]]
        assert kinds == ["ack", "ack", "event"]


async def test_a_half_closed_client_gets_its_queued_frames(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.send(PING_MESSAGE * 3)
        client.half_close()
        assert [message["type"] for message in await client.rest()] == ["pong"] * 3
    await until(lambda: not server.hub.clients)


async def test_frames_in_the_segment_of_the_handshake_are_not_lost(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(HANDSHAKE + PING_MESSAGE + PING_MESSAGE[:3])
    assert b"101" in await client.read_head()
    assert (await client.hear())["type"] == "pong"
    await client.send(PING_MESSAGE[3:])
    assert (await client.hear())["type"] == "pong"
    client.close()


async def test_a_lot_of_data_after_the_handshake_is_read(server: Running) -> None:
    """aiohttp pauses reading when a lot of data follows a request."""
    client = await RawClient.dial(server.port)
    count = 1_500  # x 1 KB: more than one read brings, and several times aiohttp's buffer
    fat = client_frame(TEXT, b'{"type":"ping","pad":"' + b"x" * 1_000 + b'"}')
    await client.send(HANDSHAKE + fat * count)
    assert b"101" in await client.read_head()
    for _ in range(count):
        assert (await client.hear())["type"] == "pong"
    client.close()


async def test_commands_after_the_servers_close_are_ignored(server: Running) -> None:
    async with raw_client(server.port) as client:
        server.drain.begin()
        await client.send(client_frame(TEXT, b'{"type":"subscribe","topic":"t"}') + PING_MESSAGE)
        await client.send(client_frame(CLOSE, b"\x03\xe9"))
        kinds = [message["type"] for message in (await client.rest())[:-1]]
        assert kinds == ["info"]


async def test_commands_after_a_fatal_message_are_ignored(
    server: Running,
) -> None:
    async with raw_client(server.port) as client:
        subscribe = client_frame(TEXT, b'{"type":"subscribe","topic":"t"}')
        await client.send(client_frame(TEXT, b"\xff") + subscribe)
        assert await client.hear() == ("close", 1007, "invalid_utf8")
        assert await client.hear() is None
        assert server.topics() == {}


async def test_a_pong_is_a_sign_of_life(server: Running) -> None:
    async with raw_client(server.port) as client:
        server.visit_all(0.0)
        server.visit_all(54.0)
        assert await client.frame() == (PING, b"")
        await client.send(client_frame(PONG) + client_frame(PING, b"read"))
        assert await client.frame() == (PONG, b"read")
        server.visit_all(55.0)
        server.visit_all(60.0)
        await client.send(PING_MESSAGE)
        assert (await client.hear())["type"] == "pong"


async def test_a_congested_half_closed_client_gets_its_queued_frames() -> None:
    async with (
        running(Settings()) as server,
        raw_client(server.port, receive_buffer=4_096) as slow,
    ):
        await slow.subscribe("t")
        (client,) = server.hub.clients
        count = 0
        while client.state.value == "flowing":
            server.hub.publish("t", None, "x" * 4_000, lambda outcome: None)
            await asyncio.sleep(0)
            count += 1
        for _ in range(20):
            server.hub.publish("t", None, "x" * 4_000, lambda outcome: None)
            await asyncio.sleep(0)
        slow.half_close()
        await until(lambda: not client.open)
        assert [message["type"] for message in await slow.rest()] == ["event"] * (count + 20)


async def test_a_fault_of_the_server_is_logged_and_closes_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, server: Running
) -> None:
    def fault(*_: Any) -> None:
        raise ZeroDivisionError("injected")

    async with raw_client(server.port) as client, raw_client(server.port) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Dispatcher, "handle", fault)
            await client.send(PING_MESSAGE)
            assert await client.hear() == ("close", 1011, "internal_error")
        await other.send(PING_MESSAGE)
        assert (await other.hear())["type"] == "pong"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_client_that_ignores_the_end_of_stream_is_cut_in_time(server: Running) -> None:
    async with raw_client(server.port) as client:
        await client.send(client_frame(3))
        assert await client.hear() == ("close", 1002, "protocol_error")
        assert await client.hear() is None  # our half is closed, the client keeps his open
        assert len(server.hub.clients) == 1
        server.visit_all(0.0)
        server.visit_all(9.9)
        assert len(server.hub.clients) == 1
        server.visit_all(10.0)
        await until(lambda: not server.hub.clients)


LEAVING = ("close", "abort", "half-close", "cut mid-frame", "cut mid-handshake")


async def leave(port: int, way: str) -> None:
    """Connect, subscribe to a private and a shared topic, and disconnect in this way."""
    if way == "cut mid-handshake":
        client = await RawClient.dial(port)
        await client.send(HANDSHAKE[:-20])
        client.close()
        return
    client = await RawClient.connect(port)
    await client.subscribe("all", f"own-{id(client)}")
    if way == "close":
        await client.send(client_frame(CLOSE, b"\x03\xe8"))
        while await client.hear() != ("close", 1000, ""):
            pass
        client.close()
    elif way == "abort":
        client.reset()
    elif way == "half-close":
        client.half_close()
        while await client.hear() is not None:
            pass
        client.close()
    else:
        await client.send(PING_MESSAGE[:-4])
        client.close()


def transports() -> int:
    return sum(type(thing).__name__ == "TCPTransport" for thing in gc.get_objects())


def timers() -> int:
    return sum(
        type(thing).__name__ == "TimerHandle" and not thing.cancelled()
        for thing in gc.get_objects()
    )


async def test_1000_connections_that_end_in_every_way_leave_nothing_behind() -> None:
    async with running(Settings()) as server:
        assert server.runner.server is not None
        await leave(server.port, "close")  # whatever is made once is there now
        await until(lambda: not server.hub.clients)
        gc.collect()
        tasks, open_transports, open_timers = len(asyncio.all_tasks()), transports(), timers()
        for _ in range(20):
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    way = LEAVING[number % len(LEAVING)]
                    group.create_task(leave(server.port, way))
        await until(lambda: not server.hub.clients)
        await until(lambda: not server.runner.server.connections)
        assert server.topics() == {}
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        server.visit_all(0.0)  # the keepalive's round lets go of whom it would have visited
        gc.collect()
        assert transports() == open_transports
        assert timers() == open_timers
