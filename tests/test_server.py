"""The server process: its start, errors at the start, and its end."""

import asyncio
import signal
import socket

import aiohttp
import pytest
from aiohttp.web_protocol import RequestHandler

from handlers.lifetime import HTTP_KEEPALIVE
from handlers.sockets import SEND_BUFFER, listen
from hub.logs import events
from tests.support.frames import CLOSE, client_frame
from tests.support.process import ServerProcess, server_process, spawn
from tests.support.raw import RawClient, stalled_client, until
from tests.support.server import Running

TEXT = "Server is shutting down. Please disconnect gracefully."


async def answer_close(client: RawClient) -> list[object]:
    """Read up to the Close and answer it; return the payloads before it."""
    heard = []
    while not isinstance(message := await client.hear(), tuple):
        assert message is not None, "the end came before the Close"
        heard.append(message["message"]["payload"])
    assert message == ("close", 1001, "going_away")
    await client.send(client_frame(CLOSE, b"\x03\xe9"))
    assert await client.hear() is None
    client.close()
    return heard


async def test_sigterm_drains_500_clients_and_cuts_the_one_that_does_not_read() -> None:
    async with server_process(SHUTDOWN_TIMEOUT="2") as server:
        stalled = await stalled_client(server.port)
        clients = [await RawClient.connect(server.port) for _ in range(499)]
        for client in clients:
            await client.subscribe("t")
        for number in range(3):
            await clients[number].say({"type": "publish", "topic": "t", "payload": number})
            answers = [await clients[number].hear() for _ in range(number + 1)]
            while answers[-1]["type"] != "ack":
                answers.append(await clients[number].hear())
        server.terminate()
        await server.wait_for_log("shutting down: clients=500")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        heard = await asyncio.gather(*(answer_close(client) for client in clients[3:]))
        assert heard == [[0, 1, 2, TEXT]] * 496
        await asyncio.gather(*(answer_close(client) for client in clients[:3]))
        assert await server.exit_code() == 0
        assert f"{events.CUTTING.text}: clients=1 seconds=2\n" in "".join(server.log)
        stalled.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_ends_when_all_clients_have_disconnected(number: signal.Signals) -> None:
    async with server_process(SHUTDOWN_TIMEOUT="3600") as server:
        clients = [await RawClient.connect(server.port) for _ in range(5)]
        server.process.send_signal(number)
        for client in clients:
            assert await answer_close(client) == [TEXT]
        assert await server.exit_code() == 0


async def test_without_clients_idle_rest_connections_do_not_delay_the_end() -> None:
    async with (
        server_process(SHUTDOWN_TIMEOUT="3600") as server,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"http://127.0.0.1:{server.port}/stats") as answer:
            assert answer.status == 200
        server.terminate()
        assert await server.exit_code() == 0


async def test_a_second_signal_ends_the_process_at_once() -> None:
    async with server_process(SHUTDOWN_TIMEOUT="3600") as server:
        stalled = await stalled_client(server.port)
        server.terminate()
        await server.wait_for_log("shutting down: clients=1")
        server.terminate()
        assert await server.exit_code() == 128 + signal.SIGTERM
        stalled.close()


async def refused_start(code: int = 1, **settings: str) -> str:
    """Start a server that must fail, and return the one line of its log."""
    server: ServerProcess = await spawn(**settings)
    assert await server.exit_code() == code
    (line,) = "".join(server.log).splitlines()
    return line


@pytest.mark.parametrize(
    ("settings", "says", "warns"),
    [
        ({}, "access: off, everybody may", False),
        ({"API_KEYS": "app:0123456789abcdef"}, "access: on (API_KEYS), without a token: ", True),
    ],
)
async def test_the_log_says_what_is_open(settings: dict[str, str], says: str, warns: bool) -> None:
    async with server_process(**settings) as server:
        log = "".join(server.log)
        assert says in log
        assert ("ALLOWED_ORIGINS is *" in log) == warns
        assert "0123456789abcdef" not in log


@pytest.mark.parametrize(
    ("proxies", "warnings"),
    [("10.0.0.0/8,::1", 0), ("0.0.0.0/0,::/0", 1), ("::ffff:0:0/96", 1)],
)
async def test_the_log_warns_of_proxies_that_are_everybody(proxies: str, warnings: int) -> None:
    async with server_process(TRUSTED_PROXIES=proxies) as server:
        assert "".join(server.log).count("WARNING server: TRUSTED_PROXIES has every") == warnings


async def test_a_bad_setting_stops_the_start_with_one_line() -> None:
    assert await refused_start(2, PORT="http") == (
        "PORT='http' is not valid: a whole number from 0 to 65535 is allowed"
    )


async def test_all_bad_settings_are_named_at_once() -> None:
    server = await spawn(PORT="http", MAX_TOPICS="0")
    assert await server.exit_code() == 2
    assert "".join(server.log).splitlines() == [
        "PORT='http' is not valid: a whole number from 0 to 65535 is allowed",
        "MAX_TOPICS='0' is not valid: a whole number from 1 to 10000000 is allowed",
    ]


async def test_variables_that_are_ignored_are_warnings_in_the_log() -> None:
    variables = {"REDIS_ADRR": "secret", "REDIS_PORT": "6379", "METRICS_PORT": "tcp://10.0.0.1:90"}
    async with server_process(**variables) as server:
        warnings = [line.partition("WARNING server: settings: ")[2] for line in server.log]
        assert list(filter(None, warnings)) == [
            "METRICS_PORT is ignored: Kubernetes set it for a service named 'metrics'\n",
            "REDIS_ADRR is not a setting, and is ignored: did you mean REDIS_ADDR?\n",
        ]


@pytest.mark.parametrize("of", ["", "METRICS_"])
async def test_an_address_in_use_stops_the_start_with_one_line(of: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = await refused_start(**{f"{of}PORT": port})
    where = f"{of}HOST='127.0.0.1' {of}PORT={port}"
    assert line.startswith(f"{where}: cannot listen: Address already in use")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 70])  # not ours; no names at all
async def test_an_invalid_host_stops_the_start_with_one_line(host: str) -> None:
    line = await refused_start(HOST=host)
    assert line.startswith(f"HOST={host!r} PORT=0: cannot listen: ")


async def test_malformed_http_does_not_fill_the_log() -> None:
    async with server_process() as server:
        for data in (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
            client = await RawClient.dial(server.port)
            await client.send(data)
            assert b" 400 " in await client.read_head()
            client.close()
        server.terminate()
        assert await server.exit_code() == 0
        assert "ERROR" not in "".join(server.log)


async def test_a_closing_client_keeps_its_write_timeout_in_the_shutdown() -> None:
    async with server_process(WRITE_TIMEOUT="0.5", SHUTDOWN_TIMEOUT="3600") as server:
        client = await RawClient.connect(server.port)
        await client.send(client_frame(3))
        assert await client.hear() == ("close", 1002, "protocol_error")
        server.terminate()
        assert await server.exit_code() == 0
        client.close()


async def test_the_keepalive_runs_by_itself() -> None:
    async with server_process(PING_INTERVAL="0.1", IDLE_TIMEOUT="0.2") as server:
        silent = await RawClient.connect(server.port)
        assert await silent.frame() == (9, b"")
        assert await silent.frame() is None
        silent.close()
        server.terminate()
        assert await server.exit_code() == 0


async def test_aiohttp_accepts_all_arguments(server: Running) -> None:
    """A misspelt one raises an error for each connection."""
    client = await RawClient.dial(server.port)
    await client.send(b"GET ")
    await until(lambda: any(isinstance(it, RequestHandler) for it in server.requests))
    (handler,) = server.requests
    client.close()
    assert handler.keepalive_timeout == HTTP_KEEPALIVE
    assert handler.access_logger is None


async def test_the_send_buffer_of_every_client_is_bounded() -> None:
    """The bounds of the send queue do not count the bytes in the kernel's buffer."""
    (listener,) = listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            size = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert size == 2 * SEND_BUFFER  # Linux doubles it for its own needs


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_the_ipv6_wildcard_address_accepts_ipv4() -> None:
    (listener,) = listen("::", 0)
    port = listener.getsockname()[1]
    with listener:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port)):
                pass
