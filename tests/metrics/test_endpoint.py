"""`GET /metrics`: who may read it, where, and in which format."""

import re
import socket
from contextlib import ExitStack

import pytest
from aiohttp import ClientConnectionError, ClientSession
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hub.settings import Settings
from hub.version import VERSION
from tests.support.eventually import eventually
from tests.support.metrics import named, scrape
from tests.support.process import ServerProcess, server_process
from tests.support.raw import RawClient
from tests.support.redis import free_port
from tests.support.server import Running, running
from tests.support.tokens import BACK_END, FOREIGN, KEY, settings, sign

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
# What Prometheus 2.42 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- Access ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(FOREIGN), 401),
        (bearer(sign(subscribe=["#"], publish=["#"])), 403),
        (bearer(sign(manage=["news/#"])), 403),
        (bearer(sign(manage=["#"])), 200),
        (BACK_END, 200),
        ({"X-API-Key": KEY}, 200),
    ],
)
async def test_with_access_on_it_needs_a_key_or_every_right(
    headers: dict[str, str], status: int
) -> None:
    async with (
        running(settings()) as server,
        ClientSession(server.url) as session,
        session.get("/metrics", headers=headers) as answer,
    ):
        assert answer.status == status
        assert ("broadcast_topics" in await answer.text()) == (status == 200)


async def test_with_access_off_everybody_may_read_it(server: Running) -> None:
    async with ClientSession(server.url) as session:
        assert named(await scrape(session, server.url), "connections") == 0


async def test_the_rate_of_requests_does_not_concern_it() -> None:
    async with running(Settings(request_rate=1)) as server, ClientSession(server.url) as session:
        for _ in range(5):
            await scrape(session, server.url)


# --- Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping="),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; "),
        ("application/openmetrics-text;version=one", PLAIN),
        ("application/openmetrics-text;version=1.0.x", PLAIN),
        ("application/openmetrics-text;version=1.0.0\udcff", PLAIN),
    ],
)
async def test_accept_selects_the_format(server: Running, accept: str, content_type: str) -> None:
    client = await RawClient.dial(server.port)
    head = f"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    await client.send(head.encode("utf-8", "surrogateescape"))
    answer = (await client.read_head()).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    found = re.search(r"(?im)^content-type: (.*?)\r?$", answer)
    assert found is not None
    assert found[1].startswith(content_type)
    text = (await client.read_to_end()).decode()
    parse = parse_openmetrics if found[1].startswith("application/") else parse_text
    assert any(sample.value for family in parse(text) for sample in family.samples)
    names = re.findall(r"(?m)^# TYPE (\S+) ", text)
    assert len(names) == len(set(names)) > 30
    client.close()


async def test_it_has_no_name_but_those_that_are_meant(server: Running) -> None:
    async with ClientSession(server.url) as session:
        figures = await scrape(session, server.url)
    prefixes = {re.match(r"broadcast_|process_|python_gc_|", name)[0] for name, _ in figures}  # type: ignore[index]
    assert prefixes == {"broadcast_", "process_", "python_gc_"}


async def test_it_counts_the_file_descriptors(server: Running) -> None:
    async with ClientSession(server.url) as session:
        before = named(await scrape(session, server.url), "open_fds")
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(socket.socket())
            assert named(await scrape(session, server.url), "open_fds") >= before + 50


# --- A port of its own ----------------------------------------------------------------------------


async def own_port(server: ServerProcess) -> str:
    """Return the URL of METRICS_PORT, which the log names after that of PORT."""
    return (await server.wait_for_log(r"(http://127\.0\.0\.1:\d+)"))[1]


async def test_with_a_port_of_its_own_it_is_there_alone_and_needs_no_right() -> None:
    port = free_port()
    keys = {"API_KEYS": f"app:{KEY}", "METRICS_PORT": str(port)}
    async with server_process(**keys) as server, ClientSession() as session:
        url = await own_port(server)
        assert url == f"http://127.0.0.1:{port}"
        assert named(await scrape(session, url), "build_info", version=VERSION) == 1
        main = f"http://127.0.0.1:{server.port}"
        async with session.get(f"{main}/metrics", headers=BACK_END) as answer:
            assert answer.status == 404
        for path in ("/stats", "/publish", "/ws"):
            async with session.get(url + path, headers=BACK_END) as answer:
                assert answer.status == 404
                assert "error" in await answer.json()
        assert named(await scrape(session, url), "refused_total", reason="NOT_FOUND") == 4


async def test_the_host_of_its_own_port_can_be_chosen() -> None:
    other = {"METRICS_PORT": str(free_port()), "METRICS_HOST": "127.0.0.2"}
    async with server_process(**other) as server, ClientSession() as session:
        await server.wait_for_log(r"http://127\.0\.0\.2:")
        url = f"http://{other['METRICS_HOST']}:{other['METRICS_PORT']}"
        assert named(await scrape(session, url), "draining") == 0
        with pytest.raises(ClientConnectionError):
            await scrape(session, f"http://127.0.0.1:{other['METRICS_PORT']}")


async def test_its_own_port_answers_during_a_shutdown() -> None:
    async with (
        server_process(METRICS_PORT=str(free_port())) as server,
        ClientSession() as session,
    ):
        url = await own_port(server)
        client = await RawClient.connect(server.port)  # which will not answer the Close
        server.terminate()
        await server.wait_for_log("shutting down")
        await eventually(lambda: is_refused(server.port))
        figures = await scrape(session, url)
        assert (named(figures, "draining"), named(figures, "connections")) == (1, 1)
        client.close()
        assert await server.exit_code() == 0


def is_refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_slow_heads_on_its_own_port_are_ended() -> None:
    fast = {"METRICS_PORT": str(free_port()), "HEADER_TIMEOUT": "0.2"}
    async with server_process(**fast) as server, ClientSession() as session:
        url = await own_port(server)
        slow = await RawClient.dial(int(url.rpartition(":")[2]))
        await slow.send(b"GET /metrics HTTP/1.1\r\nHost:")
        assert await slow.read_to_end() == b""
        slow.close()
        assert named(await scrape(session, url), "limited_total", limit="HEADER_TIMEOUT") == 1
