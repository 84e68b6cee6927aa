"""`subscribe` and `tail`, in a process, with a real server that may cut, die and come back."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from hub.settings import Settings
from hub.values import Rule
from tests.support import tokens
from tests.support.command import Result, carry_out, command, finish, start
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.process import server_process
from tests.support.proxy import proxy
from tests.support.redis import free_port
from tests.support.server import Running, running

REMEMBERS = Settings(history_size=100)


@asynccontextmanager
async def following(
    server: Running, *arguments: str, topics: int = 1, url: str = "", **environ: str
) -> AsyncIterator[Process]:
    """Run a command until it has subscribed to so many topics; kill it in the end if it is left."""
    before = server.hub.subscriptions
    process = await start(*arguments, "--url", url or server.url, **environ)
    try:
        await eventually(lambda: server.hub.subscriptions == before + topics)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def publish(server: Running, topic: str, *payloads: object) -> None:
    async with ClientSession(server.url) as session:
        for payload in payloads:
            await tokens.publish(session, topic, payload)


async def read(process: Process) -> str:
    """Read the next line of a command's output."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return (await process.stdout.readline()).decode()


async def read_error(process: Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        return (await process.stderr.readline()).decode()


# --- What is printed ------------------------------------------------------------------------------


async def test_new_events_are_printed_one_a_line() -> None:
    async with running(REMEMBERS) as server:
        server.hub.create("news", lambda _: None)
        await publish(server, "news", "before")
        arguments = ("subscribe", "news", "a b", "news", "--count", "2")
        async with following(server, *arguments, topics=2) as process:
            await publish(server, "a b", {"a": "x\u001b[31m\u0085"})
            await publish(server, "news", 2)
            result = await finish(process)
    lines = result.out.splitlines()
    assert [line.split("  ")[1:] for line in lines] == [
        ["a b", '{"a":"x\\u001b[31m\\x85"}'],
        ["news", "2"],
    ]
    assert (result.code, result.err) == (0, "")


async def test_events_are_objects_with_json() -> None:
    async with (
        running(REMEMBERS) as server,
        following(server, "subscribe", "news", "--json") as process,
    ):
        await publish(server, "news", {"a": 1})
        event = json.loads(await read(process))
        async with ClientSession(server.url) as session, session.delete("/topics/news"):
            pass
        result = await finish(process)
    assert event.pop("ts").endswith("Z")
    assert event.pop("id")
    assert event == {"kind": "event", "topic": "news", "payload": {"a": 1}, "offset": 1}
    assert json.loads(result.out) == {"kind": "deleted", "topic": "news"}
    assert (result.code, result.err) == (0, "news: the topic was deleted\n")


async def test_tail_begins_with_the_last_events() -> None:
    async with running(REMEMBERS) as server:
        server.hub.create("news", lambda _: None)
        await publish(server, "news", *range(20))
        async with following(server, "tail", "news", "--count", "11") as process:
            await publish(server, "news", "new")
            result = await finish(process)
        payloads = [line.split("  ")[2] for line in result.out.splitlines()]
        assert payloads == [*map(str, range(10, 20)), '"new"']


async def test_tail_ends_after_so_many_events(capfd: pytest.CaptureFixture[str]) -> None:
    async with running(REMEMBERS) as server:
        server.hub.create("news", lambda _: None)
        await publish(server, "news", 1, 2, 3)
        tail = ["tail", "news", "-n", "2", "--count", "2", "--url", server.url]
        assert await asyncio.to_thread(carry_out, tail, {}) == 0
        lines = capfd.readouterr().out.splitlines()
        assert [line.split("  ")[1:] for line in lines] == [["news", "2"], ["news", "3"]]
        assert await asyncio.to_thread(carry_out, [*tail, "--json"], {}) == 0
        events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert [(event["payload"], event["offset"]) for event in events] == [(2, 2), (3, 3)]


async def test_so_many_events_are_those_of_all_topics() -> None:
    async with running(REMEMBERS) as server:
        for topic in ("a", "b"):
            server.hub.create(topic, lambda _: None)
            await publish(server, topic, 1, 2, 3)
        result = await command("tail", "a", "b", "a", "--count", "4", "--url", server.url)
    lines = [line.split("  ")[1:] for line in result.out.splitlines()]
    assert (result.code, result.err, len(lines)) == (0, "", 4)
    assert len({tuple(line) for line in lines}) == 4


async def test_a_refused_topic_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    async with running(REMEMBERS) as server:
        subscribe = ["subscribe", "x" * 256, "--url", server.url]
        assert await asyncio.to_thread(carry_out, subscribe, {}) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


# --- Losses ---------------------------------------------------------------------------------------


async def test_events_of_an_outage_are_printed_once_in_order() -> None:
    async with running(REMEMBERS) as server, proxy(server.port) as way:
        url = f"http://127.0.0.1:{way.port}"
        async with following(server, "subscribe", "news", "--count", "3", url=url) as process:
            await publish(server, "news", 1)
            await read(process)
            way.shut = True
            way.cut()
            assert "connecting again in" in await read_error(process)
            await publish(server, "news", 2, 3)
            way.shut = False
            result = await finish(process)
    assert [line.split("  ")[2] for line in result.out.splitlines()] == ["2", "3"]
    assert result.code == 0


async def test_lost_events_are_reported_in_both_outputs() -> None:
    forgets = Settings(history_rules={"": Rule(2, 60.0, 10_000)})
    async with running(forgets) as server, proxy(server.port) as way:
        url = f"http://127.0.0.1:{way.port}"
        async with following(server, "subscribe", "news", "--json", url=url) as process:
            way.shut = True
            way.cut()
            assert "connecting again in" in await read_error(process)
            await publish(server, "news", 1, 2, 3, 4)
            way.shut = False
            lost = json.loads(await read(process))
            while "news: lost: " not in await read_error(process):
                pass
    assert (lost["kind"], lost["topic"]) == ("lost", "news")


async def test_a_server_that_dies_is_waited_for() -> None:
    port = str(free_port())
    async with server_process(PORT=port) as server:
        process = await start("tail", "news", "--url", f"localhost:{port}")
        await eventually_listed(port)
        server.process.kill()
        assert "connecting again in" in await read_error(process)
    async with server_process(PORT=port):
        await eventually_listed(port)
        assert (await command("publish", "news", "1", "--url", f"localhost:{port}")).code == 0
        assert (await read(process)).endswith("  news  1\n")
        process.send_signal(signal.SIGINT)
        assert (await finish(process)).code == 130


async def eventually_listed(port: str) -> None:
    """Wait until a server in another process has a subscriber."""
    async with asyncio.timeout(PATIENCE):
        while '"news":1' not in (await command("topics", "--json", PORT=port)).out:
            pass


# --- Ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["subscribe", "tail"])
async def test_ctrl_c_ends_it_without_a_traceback(name: str) -> None:
    async with running(REMEMBERS) as server:
        async with following(server, name, "news") as process:
            await publish(server, "news", 1)
            assert (await read(process)).endswith("  news  1\n")
            process.send_signal(signal.SIGINT)
            assert await finish(process) == Result(130, "", "")
        await eventually(lambda: server.hub.subscriptions == 0)


@pytest.mark.parametrize("waits", [True, False])
async def test_it_ends_with_the_reader_of_its_output(waits: bool) -> None:
    """As with `| head -1`: before the next event, and also if events come all the time."""
    reading, writing = os.pipe()
    async with running(REMEMBERS) as server:
        process = await start("subscribe", "news", "--url", server.url, stdout=writing)
        os.close(writing)
        await eventually(lambda: server.hub.subscriptions == 1)
        if waits:
            os.close(reading)
        else:
            await publish(server, "news", 1)
            assert await asyncio.to_thread(os.read, reading, 1)
            os.close(reading)
            await publish(server, "news", 2)
        assert await finish(process) == Result(141, "", "")


async def test_no_server_at_the_start_ends_it() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = await command("tail", "news", "--url", url)
    assert result == Result(3, "", f"cannot reach {url}: Connection refused\n")


async def test_a_redirect_at_the_start_ends_it() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://there/\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        result = await command("tail", "news", "--url", f"127.0.0.1:{port}")
    why = "it redirects to http://there/, which is not followed"
    assert result == Result(3, "", f"cannot reach http://127.0.0.1:{port}: {why}\n")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "This Host is not in ALLOWED_HOSTS (--url must have one of its ALLOWED_HOSTS)\n"),
        ("/wrong", "No such path: /wrong/ws\n"),
    ],
)
async def test_a_wrong_url_is_explained(path: str, says: str) -> None:
    hosts = frozenset() if path else frozenset({"example.com"})
    async with running(Settings(allowed_hosts=hosts)) as server:
        result = await command("subscribe", "news", "--url", f"{server.url}{path}")
    assert result == Result(1, "", says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "A token is needed for subscribe on topic 'news'\n"),
        (("--token", tokens.FOREIGN), "not valid"),
        (("--token", tokens.sign(subscribe=["other"])), "does not allow subscribe on topic 'news'"),
    ],
)
async def test_a_client_without_the_right_is_not_allowed(
    arguments: tuple[str, ...], says: str
) -> None:
    async with running(tokens.settings()) as server:
        result = await command("subscribe", "news", "--url", server.url, *arguments)
    assert (result.code, result.out) == (4, "")
    assert says in result.err
    assert result.err.count("\n") == 1


async def test_a_banned_client_ends() -> None:
    async with running(tokens.settings()) as server:
        token = tokens.sign(subscribe=["#"])
        async with following(server, "subscribe", "news", BROADCAST_TOKEN=token) as process:
            await tokens.disconnect(server, {"sub": "ann", "for": 60})
            result = await finish(process)
    assert (result.code, result.out) == (4, "")
    assert token not in result.err
    assert result.err.splitlines()[-1] == "The subject of the token is banned"
