"""The log of a whole server: every line has the form that LOG_FORMAT names."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from hub.settings import Settings
from tests.support.frames import CLOSE, TEXT, client_frame
from tests.support.process import ROOT, ServerProcess, server_process
from tests.support.raw import RawClient, raw_client, until
from tests.support.server import running
from tests.support.ways import get, upgrade

# A line break, terminal escapes and a control character beyond ASCII, as text of JSON and in a URL.
EVIL = r"a\n2026-11-26 10:00:00,000 ERROR server: forged\r\u001b[2J\u009b\u2028\u202e"
EVIL_IN_URL = b"a%0a2026-11-26%20ERROR%0d%1b%5b2J%c2%9b%e2%80%a8%ff"
# Environment of a server that refuses what clients do, and logs it.
CLOSED = {"JWT_SECRET": "a secret of the tests with over 32 bytes", "ANONYMOUS_SUBSCRIBE": "none"}

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: .*|    .*")


async def provoke(port: int) -> None:
    """Do what is logged, with text that should break lines, in every place where text may be."""
    heads: Iterable[bytes] = (
        get(b"/" + EVIL_IN_URL),
        get(b"/topics/" + EVIL_IN_URL + b"/history"),
        get(b"/events?topic=" + EVIL_IN_URL),
        get(b"/ws?client_id=" + EVIL_IN_URL),
        get(
            b"/stats",
            [(b"User-Agent", b"\x1b[31m\xff\xc2\x9b"), (b"Authorization", b"Bearer \x1b")],
        ),
        get(b"/stats", [(b"X-Forwarded-For", b"\x1b[31m"), (b"Origin", b"\x1b[31m\xff")]),
        get(b"/live").replace(b"GET", b"\x1b[31m"),
        b"GET /live HTTP/1.1\r\n\x1b[31m\r\n\r\n",
    )
    for head in heads:
        client = await RawClient.dial(port)
        await client.send(head)
        await client.read_to_end()
        client.close()
    client = await RawClient.dial(port)
    await client.send(upgrade(b"/ws?client_id=" + EVIL_IN_URL.removesuffix(b"%ff")))
    await client.read_head()
    for kind in ("subscribe", "publish", "auth", EVIL):
        fields = ",".join(f'"{name}":"{EVIL}"' for name in ("topic", "client_id", "token"))
        command = f'{{"type":"{kind}",{fields},"payload":1}}'
        await client.send(client_frame(TEXT, command.encode()))
        assert (await client.hear())["type"] == "error"
    await client.send(client_frame(TEXT, b"\xff"))
    await client.rest()
    client.close()


async def log_of_all(**environ: str) -> list[str]:
    """Return the lines of a server to which clients have done everything that is logged."""
    async with server_process(**CLOSED, LOG_LEVEL="debug", ACCESS_LOG="true", **environ) as server:
        await provoke(server.port)
        server.terminate()
        assert await server.exit_code() == 0
    return "".join(server.log).removesuffix("\n").split("\n")


async def test_every_line_is_json() -> None:
    lines = await log_of_all(LOG_FORMAT="json")
    assert all(line.isascii() and line.isprintable() for line in lines)
    found = [json.loads(line) for line in lines]
    for line in found:
        assert line.keys() >= {"ts", "level", "logger", "event"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["ts"])
    seen = {line["event"] for line in found}
    assert seen >= {
        "starting",
        "listening on",
        "connection begun",
        "command refused",
        "request refused",
        "connection failed",
        "request",
        "stopped",
    }
    assert {line["logger"] for line in found} >= {"server", "access"}
    (listening,) = [line for line in found if line["event"] == "listening on"]
    assert listening["url"].endswith(f":{listening['port']}")


async def test_every_line_is_text() -> None:
    lines = await log_of_all(LOG_FORMAT="text")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []
    assert not any(line.startswith("2026-11-26 10:00:00,000 ERROR") for line in lines)
    assert any("connection failed: " in line for line in lines)


def printed_by(form: str, script: str) -> list[str]:
    """Return what a process with a configured log and a script prints to standard error."""
    start = (
        "from hub.logs.setup import configure_logs\n"
        f"configure_logs('warning', '{form}', access=True)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", start + script), cwd=ROOT, capture_output=True, text=True
    )
    return done.stderr.splitlines()


LIBRARIES = """
import asyncio, logging, warnings
fault = ValueError("a\\nb")
logging.getLogger("aiohttp.server").error("Error handling %s", "request", exc_info=fault)
logging.getLogger("redis").info("not at this level")
warnings.warn("a warning")
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "a fault"})
asyncio.run(main())
class Broken:
    def __del__(self):
        raise ZeroDivisionError
Broken()
from hub.logs import events
events.HTTP_REQUEST.log(path="/", status=200)
events.STOPPED.log()
"""


def test_lines_of_libraries_have_the_form_too() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in printed_by("json", LIBRARIES)]
    assert [(it["logger"], it["level"]) for it in lines] == [
        ("aiohttp.server", "error"),
        ("py.warnings", "warning"),
        ("asyncio", "error"),
        ("server", "error"),
        ("access", "info"),  # whatever the level
    ]
    assert lines[0]["event"] == "Error handling request"
    assert lines[0]["exception"] == "ValueError: a\nb"
    text = printed_by("text", LIBRARIES)
    assert [line for line in text if not TEXT_LINE.fullmatch(line)] == []
    assert len([line for line in text if not line.startswith("    ")]) == len(lines)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_number_of_lines_left_out_is_written_at_the_exit(form: str) -> None:
    script = "from hub.logs import events\nfor _ in range(30): events.BANS_FULL.log(limit=1)"
    *lines, last = printed_by(form, script)
    assert len(lines) == 10
    assert "lines were left out" in last
    assert re.search(r"count\W+20\b", last)


async def lines_until_left_out(server: ServerProcess) -> int:
    """Return the number of refusals in the log, and of those left out."""
    await server.wait_for_log("lines were left out")
    (left_out,) = re.findall(r"count=(\d+)", server.log[-1])
    return sum("request refused" in line for line in server.log[:-1]) + int(left_out)


async def test_the_number_of_lines_left_out_is_written_although_nothing_follows() -> None:
    async with server_process(**CLOSED) as server:
        client = await RawClient.dial(server.port)
        await client.send(b"GET /topics/t/history HTTP/1.1\r\nHost: t\r\n\r\n" * 30)
        for _ in range(30):
            assert b" 401 " in await client.read_head()
            await client.read_until(b"}")
        assert await lines_until_left_out(server) == 30
        client.close()


CRASHING = """
import os
import server
from hub.settings import inspect
async def serve(*args):
    raise ZeroDivisionError("a fault of the test")
server.serve = serve
server.main(inspect(os.environ, {}))
"""


async def process_of(script: str, **environ: str) -> ServerProcess:
    """Start a script that runs a changed server, and wait for nothing."""
    return ServerProcess(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script),
            cwd=ROOT,
            env={"HOST": "127.0.0.1", "PORT": "0", **environ},
            stderr=asyncio.subprocess.PIPE,
        )
    )


async def test_a_crash_is_one_critical_line_with_its_traceback() -> None:
    server = await process_of(CRASHING, LOG_FORMAT="json")
    assert await server.exit_code() == 1
    lines = [json.loads(line) for line in "".join(server.log).splitlines()]
    assert [it["event"] for it in lines] == ["starting", "access", "fault in the server"]
    assert lines[-1]["level"] == "critical"
    assert lines[-1]["exception"].endswith("ZeroDivisionError: a fault of the test")


BLOCKING = """
import asyncio, os, time
import server
from hub.settings import inspect
serve = server.serve
async def blocking(*args):
    asyncio.get_running_loop().call_later(0.5, time.sleep, 1.2)
    await serve(*args)
server.serve = blocking
server.main(inspect(os.environ, {}))
"""


async def test_a_blocked_loop_is_one_warning() -> None:
    server = await process_of(BLOCKING)
    await server.wait_for_log(r"WARNING server: event loop was blocked: seconds=1\.\d+$")
    server.terminate()
    assert await server.exit_code() == 0
    assert "".join(server.log).count("blocked") == 1


async def test_clients_that_behave_well_cause_no_line(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Settings()) as server:
        caplog.clear()
        caplog.set_level("INFO")
        for number in range(20):
            async with raw_client(server.port) as client:
                await client.subscribe("t")
                await client.say({"type": "publish", "topic": "t", "payload": number})
                assert {(await client.hear())["type"] for _ in range(2)} == {"ack", "event"}
                await client.send(client_frame(CLOSE, b"\x03\xe8"))
                await client.rest()
            stream = await RawClient.dial(server.port)
            await stream.send(get(b"/events?topic=t"))
            await stream.read_until(b"\n\n")
            stream.close()
            request = await RawClient.dial(server.port)
            await request.send(get(b"/topics/nothing"))
            assert b" 40" in await request.read_to_end()
            request.close()
        await until(lambda: not server.hub.clients)
    assert caplog.records == []
