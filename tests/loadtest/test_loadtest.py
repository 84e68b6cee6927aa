"""`make loadtest`: it passes with a sound server, and names what is wrong with another one.

Each run is a process of its own, with Locust's environment, which `make test-loadtest` installs.
"""

import argparse
import asyncio
import os
import re
import struct
import sys
import tempfile
from pathlib import Path

import pytest

from loadtest.options import add_options
from loadtest.picture import WIDTH, draw
from tests.loadtest.harmful_proxy import Harm, harmful_proxy
from tests.support.balancers import Start, caddy, haproxy, nginx
from tests.support.markdown import code, table
from tests.support.process import ROOT, server_process
from tests.support.proxy import proxy
from tests.support.redis import redis_server
from tests.support.tokens import KEY, SECRET, sign

PYTHON = Path(sys.prefix, "loadtest/bin/python")  # made by make test-loadtest
DOCUMENT = (ROOT / "docs/load-testing.md").read_text()
# The failures without their details, such as "refused".
DOCUMENTED = {code(row[0])[0].partition(":")[0] for row in table(DOCUMENT, "Failures")}
KINDS = ("WS", "SSE")
PATIENCE = 100  # seconds for a run
LOAD = "--minutes 0.1 --users 40 --spawn-rate 40 --rate 5 --topics 2"
SHARES = "--subscribers 50 --streams 20 --publishers 20 --rest-users 10"
# A slow machine is not what these tests are about.
LIMITS = "--max-p95 60000 --max-p99 60000 --max-connect 60000 --silence 60"


class Run:
    """The exit code, the output and the report of a load test that has ended."""

    def __init__(self, code: int, output: str, report: str) -> None:
        self.code = code
        self.output = output
        self.report = report
        # By Locust's report of errors: "12   WS publish: refused: RATE_LIMITED".
        self.failures = set(re.findall(r"(?m)^\d+ +((?:WS|SSE|GET|POST) .*?) *$", output))
        self.faults = re.findall(r"(?m)^FAILED: (.*)$", output)


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def load_test(*options: str, port: int = 0, **environ: str) -> Run:
    """Run the load test with these variables on a port, or else on a server that it starts."""
    url = ("--url", f"http://127.0.0.1:{port}") if port else ()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.html")
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, "loadtest/run.py", *url, "--report", report),
            *f"{LOAD} {SHARES} {LIMITS}".split(),
            *options,
            cwd=ROOT,
            env=os.environ | environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        run = Run(process.returncode, output.decode(), text_of(report))
    print(run.output)  # shown if the test fails
    assert {failure.split(": ")[1] for failure in run.failures} <= DOCUMENTED
    return run


async def test_a_sound_server_passes_and_the_report_is_kept() -> None:
    run = await load_test()
    assert (run.code, run.failures, run.faults) == (0, set(), [])
    assert re.search(r"(?m)^PASSED: 0 failures in .* SSE events, 95% within ", run.output)
    rows = re.findall(r'"method": "(\w+)", "name": "([\w/]+)"', run.report)
    assert {" ".join(row) for row in rows} >= {
        *("WS connect", "WS subscribe", "WS publish", "WS event"),
        *("SSE connect", "SSE subscribe", "SSE event"),
        *("POST /publish", "GET /topics", "GET /stats"),
    }


async def test_a_report_becomes_a_picture(tmp_path: Path) -> None:
    report, picture = tmp_path / "report.html", tmp_path / "picture.png"
    run = await load_test()
    await asyncio.to_thread(report.write_text, run.report)
    await asyncio.to_thread(draw, report, picture)
    content = await asyncio.to_thread(picture.read_bytes)
    width, height = struct.unpack(">II", content[16:24])
    assert width == WIDTH
    assert height > 1_000


async def test_several_processes_share_the_load_and_report_their_usage() -> None:
    run = await load_test("--processes", "2", "--max-cpu", "0")
    assert (run.code, run.failures, run.faults) == (0, set(), [])
    assert re.search(r"(?m)^WARNING: the generator was the limit in \d+ of \d+ windows", run.output)


@pytest.mark.parametrize("limit", ["--max-cpu", "--max-lag"])
async def test_a_busy_generator_is_reported(limit: str) -> None:
    run = await load_test(limit, "0")
    assert run.code == 0
    assert "the generator is busy: " in run.output
    assert re.search(r"(?m)^WARNING: the generator was the limit in \d+ of \d+ windows", run.output)


async def test_in_a_storm_everybody_connects_again_and_again() -> None:
    run = await load_test("--storm", "--wave", "4", "--minutes", "0.15")
    assert (run.code, run.failures, run.faults) == (0, set(), [])
    connects = re.findall(r"(?m)^(?:WS|SSE) +connect +(\d+) +0\(0.00%\) \|", run.output)
    assert sum(map(int, connects)) > 36 * 1.5


async def test_a_closed_port_is_one_line() -> None:
    async with proxy(0) as nobody:
        nobody.shut = True
        run = await load_test(port=nobody.port)
    assert run.code == 1
    assert re.search(r"(?m)^loadtest: the topics cannot be made: cannot reach http://", run.output)
    assert "Traceback" not in run.output


@pytest.mark.parametrize("options", [("--size", "5"), ("--rate", "0"), ("--topics", "1.5")])
async def test_a_wrong_option_is_one_line(options: tuple[str, str]) -> None:
    run = await load_test(*options)
    name, value = options
    assert run.code != 0
    assert f"argument {name}: '{value}' is not valid: " in run.output
    assert "Traceback" not in run.output


# --- Faulty servers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ({"MAX_CONNECTIONS": "10"}, (), {f"{it} connect: refused: HTTP 503" for it in KINDS}),
        ({"CONNECT_RATE_PER_IP": "1"}, (), {f"{it} connect: refused: HTTP 429" for it in KINDS}),
        (
            {"REQUEST_RATE": "15"},
            ("--rate", "20"),
            {f"{it}: refused: HTTP 429" for it in ("POST /publish", "GET /topics", "GET /stats")},
        ),
        (
            {"MESSAGE_RATE": "1"},
            ("--minutes", "0.25"),
            {"WS publish: refused: RATE_LIMITED", "WS end: closed: 1013 rate_limited"},
        ),
    ],
    ids=["full", "connect rate", "request rate", "message rate"],
)
async def test_refusals_fail(
    settings: dict[str, str], options: tuple[str, ...], expected: set[str]
) -> None:
    run = await load_test(*options, **settings)
    assert run.code == 1
    assert run.failures == expected
    assert "missing" not in run.output


async def test_a_server_that_ends_fails() -> None:
    async with server_process(LOG_LEVEL="debug") as server:
        running = asyncio.create_task(load_test("--minutes", "0.2", port=server.port))
        # The first to subscribe may be streams, which end without a Close.
        await server.wait_for_log("subscribed:.* client_id=loadtest")
        server.terminate()
        await server.read_log()
        run = await running
    assert run.code == 1
    assert "WS end: closed: 1001 going_away" in run.failures
    assert {f"{kind} connect: no answer: Connection refused" for kind in KINDS} <= run.failures


# --- Balancers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [nginx, haproxy, caddy])
async def test_servers_behind_a_balancer_pass(start: Start, tmp_path: Path) -> None:
    with redis_server() as redis:
        settings = {"REDIS_ADDR": f"127.0.0.1:{redis.port}", "TRUSTED_PROXIES": "127.0.0.1"}
        async with (
            server_process(**settings) as one,
            server_process(**settings) as other,
            start(tmp_path, [one.port, other.port]) as balancer,
        ):
            trusted = {"SSL_CERT_FILE": str(balancer.certificate)}
            run = await load_test("--url", balancer.url, **trusted)
    assert (run.code, run.failures, run.faults) == (0, set(), [])


async def test_an_unknown_certificate_is_one_line(tmp_path: Path) -> None:
    async with server_process() as server, nginx(tmp_path, [server.port]) as balancer:
        run = await load_test("--url", balancer.url)
    assert run.code == 1
    assert re.search(
        r"(?m)^loadtest: the topics .*: cannot reach https://.*certificate", run.output
    )


# --- Faulty networks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "options", "failure"),
    [
        (lambda number: 0 if number % 10 == 0 else 1, (), "event: missing"),
        (lambda number: 2 if number % 10 == 0 else 1, (), "event: repeated"),
        (lambda number: 0, ("--silence", "2"), "end: silent: no event in time"),
    ],
    ids=["drops some", "repeats some", "drops all"],
)
async def test_faulty_deliveries_fail(harm: Harm, options: tuple[str, ...], failure: str) -> None:
    async with server_process() as server, harmful_proxy(server.port, harm) as port:
        run = await load_test(*options, port=port)
    assert run.code == 1
    assert run.failures == {f"{kind} {failure}" for kind in KINDS}
    no_event = failure.startswith("end")
    assert [it for it in run.faults if it.endswith("event was delivered")] == [
        f"no {kind} event was delivered" for kind in KINDS if no_event
    ]


async def test_a_slow_network_fails_by_its_percentiles() -> None:
    async with server_process() as server, proxy(server.port) as slow:
        slow.delay = 0.1
        run = await load_test("--max-p95", "50", port=slow.port)
    assert run.code == 1
    assert run.failures == set()
    assert [it.partition(":")[0] for it in run.faults] == ["WS event", "SSE event"]
    assert all("95% within" in it for it in run.faults)


async def test_some_failures_may_be_allowed() -> None:
    run = await load_test("--max-failures", "90", MAX_CONNECTIONS="30")
    assert run.code == 0
    assert "WS connect: refused: HTTP 503" in run.failures


# --- Access ---------------------------------------------------------------------------------------


async def test_a_token_and_a_key_are_used_and_never_shown(tmp_path: Path) -> None:
    token = sign(sub="load", subscribe=["loadtest/#"], publish=["loadtest/#"])
    (tmp_path / "token").write_text(token)
    (tmp_path / "keys").write_text(f"app:{KEY}")
    run = await load_test(
        *("--token-file", str(tmp_path / "token"), "--api-key-file", str(tmp_path / "keys")),
        JWT_SECRET=SECRET,
        API_KEYS=f"app:{KEY}",
    )
    assert (run.code, run.failures, run.faults) == (0, set(), [])
    for text in (run.output, run.report):
        assert token not in text
        assert KEY not in text


async def test_missing_rights_fail(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"app:{KEY}")
    run = await load_test(
        *("--api-key-file", str(tmp_path / "keys")),
        JWT_SECRET=SECRET,
        API_KEYS=f"app:{KEY}",
        BROADCAST_TOKEN=sign(sub="load", publish=["loadtest/#"]),
    )
    assert run.code == 1
    assert run.failures == {
        "WS subscribe: refused: FORBIDDEN",
        "SSE connect: refused: HTTP 403",
    }


# --- The document ---------------------------------------------------------------------------------


def test_every_option_is_in_the_document_with_its_default() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    options = {name: action.default for action in parser._actions for name in action.option_strings}
    rows = [row for heading in ("The load", "Limits") for row in table(DOCUMENT, heading)]
    shown = {code(row[0])[0]: "".join(code(row[1])) for row in rows}
    assert {name: str("" if it is None else it) for name, it in options.items()} == shown
