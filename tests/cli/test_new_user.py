"""What a new user tries: a terminal and none, Ctrl-C, pipes, and a huge payload."""

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from hub.settings import Settings
from tests.support.command import Result, command, environment, finish, start
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.raw import RawClient
from tests.support.server import running

ESCAPE = "\x1b["


async def on_a_terminal(*arguments: str, **environ: str) -> str:
    """Return what a command prints to a terminal."""
    reading, terminal = pty.openpty()
    process = await start(*arguments, stdout=terminal, **{"TERM": "xterm", **environ})
    os.close(terminal)
    shown = asyncio.create_task(asyncio.to_thread(drain, reading))
    await finish(process)
    text = await shown
    os.close(reading)
    return text.decode()


def drain(terminal: int) -> bytes:
    """Read a terminal until no process has it."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # EIO: its last process has ended
            return b"".join(parts)
        parts.append(part)


async def test_colours_are_for_terminals_of_those_who_want_them() -> None:
    assert ESCAPE in await on_a_terminal("--check")
    assert ESCAPE not in await on_a_terminal("--check", NO_COLOR="1")


async def test_a_payload_of_megabytes_is_refused_in_one_line() -> None:
    async with running(Settings()) as server:
        server.hub.create("news", lambda _: None)
        given = b"x" * 50_000_000
        result = await command("publish", "news", "-", "--url", server.url, given=given)
    assert (result.code, result.out) == (1, "")
    assert result.err == "line 1: Body is too large: at most 65536 bytes are allowed\n"


async def test_ctrl_c_ends_a_command_that_waits_for_an_answer() -> None:
    waiting = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        process = await start("stats", "--url", f"127.0.0.1:{port}")
        async with asyncio.timeout(PATIENCE):
            await waiting.wait()
        process.send_signal(signal.SIGINT)
        assert await finish(process) == Result(130, "", "")


async def test_lines_are_published_as_they_come() -> None:
    async with running(Settings()) as server:
        client = await RawClient.connect(server.port)
        await client.subscribe("news")
        process = await start("publish", "news", "-", "--url", server.url, stdin=PIPE)
        assert process.stdin is not None
        for number in range(2):
            process.stdin.write(b"%d\n" % number)
            assert (await client.hear())["message"]["payload"] == number
            for request in server.requests:  # as the server does with an idle connection
                assert request.transport is not None
                request.transport.close()
            await eventually(lambda: not server.requests)
        assert await finish(process, b"") == Result(0, "published 2 messages to news\n", "")
        client.close()


async def test_the_first_line_of_a_long_list_is_enough() -> None:
    async with running(Settings()) as server:
        for number in range(3_000):
            server.hub.create(f"topic {number}", lambda _: None)
        reading, writing = os.pipe()
        process = await start("topics", "--url", server.url, stdout=writing)
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 11) == b"subscribers"
        os.close(reading)
        assert await finish(process) == Result(141, "", "")


@pytest.mark.parametrize("arguments", ["--version", "--check", "topics", "publish news -"])
async def test_closed_streams_do_not_crash_a_command(arguments: str) -> None:
    async with running(Settings()) as server:
        process = await asyncio.create_subprocess_shell(
            f"{sys.executable} server.py {arguments} <&- >&- 2>&-",
            cwd=ROOT,
            env=environment(BROADCAST_URL=server.url),
        )
        assert await process.wait() == 0
