"""How the Python client reaches a server: its URL, redirects, headers and TLS."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from broadcast_client import Client, Event, RefusedError, connect

from hub.settings import Settings
from tests.support.balancers import caddy
from tests.support.behind import BEHIND
from tests.support.double import double
from tests.support.eventually import eventually
from tests.support.python_client import error_of
from tests.support.server import running

SECRET = "secret"  # in each credential


pytestmark = pytest.mark.usefixtures("hasty")


async def failure_of(client: Client) -> RefusedError:
    """Wait until an attempt has failed; return the error that says why."""
    await eventually(lambda: client.state in ("waiting", "closed"))
    return await error_of(client.ready(timeout=0))


# --- Redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_neither_at_first_nor_on_a_reconnect(status: int) -> None:
    is_final = status in (301, 308)
    async with double() as server, double() as other, connect(server.url, token="secret") as client:
        server.location = f"{other.url.replace('ws', 'http', 1)}?code=secret"
        peer = await server.peer()
        server.status = status
        await peer.close(1001)
        if is_final:
            error = await error_of(client.ended())
            assert error.code == "REFUSED"
        else:
            await eventually(lambda: server.refused > 1)  # it tries this server again
            await eventually(lambda: client.state == "waiting")
            error = await error_of(client.ready(timeout=0))
        assert f"HTTP status {status}" in error.text
        assert f"to http://127.0.0.1:{other.port}/ws" in error.text
        assert "secret" not in error.text
        assert (other.unseen, other.refused) == (0, 0)


# --- Other servers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the server hung up without an answer"),
        (b"+OK ready\r\n\r\n", "no valid answer (ClientResponseError Bad status line)"),
    ],
)
async def test_a_server_of_another_protocol_is_named(answer: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/ws") as client:
            error = await failure_of(client)
            assert said in error.text
            assert "\n" not in error.text
            failed = await error_of(client.topics())
            assert (failed.code, said in failed.text) == ("UNAVAILABLE", True)


# --- URLs and headers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nowhere",
        "localhost:8080/ws",
        "ftp://localhost/ws",
        "ws:///ws",
        "ws://localhost:x/ws",
        "ws://a..b/ws",
    ],
)
async def test_what_is_no_url_of_a_server_is_named_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(url))) as caught:
        await connect(f"{url}?access_token={SECRET}").__aenter__()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("path", "status"), [("", 200), ("/", 200), ("/socket", 404)])
async def test_a_path_without_a_websocket_is_named(path: str, status: int) -> None:
    async with running(Settings()) as server:
        async with connect(server.ws.removesuffix("/ws") + path) as client:
            error = await failure_of(client)
        said = f"HTTP status {status}, and no WebSocket: is the path of the URL right?"
        assert f"{said} The server's is /ws" in error.text


async def test_a_user_in_the_url_is_sent_and_not_shown() -> None:
    async with double() as server:
        url = server.url.replace("//", f"//ann:{SECRET}@")
        server.status = 503
        async with connect(url) as client:
            assert (await server.refusals.get()).startswith("Basic ")
            error = await failure_of(client)
            assert server.url in error.text
            assert SECRET not in error.text


async def test_headers_are_sent_with_each_handshake() -> None:
    async with double() as server, connect(server.url, headers={"X-Tenant": "blue"}):
        peer = await server.peer()
        assert peer.headers["X-Tenant"] == "blue"
        await peer.close(1001)
        assert (await server.peer()).headers["X-Tenant"] == "blue"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"headers": {"a b": "c"}}, "'a b' is no name of a header"),
        ({"headers": {"a": f"{SECRET}\r\nb: c"}}, "the value of a has a control character"),
        ({"headers": {"authorization": SECRET}, "token": SECRET}, "token and the header Author"),
        ({"headers": {"Authorization": SECRET}, "url": "ws://a:b@c/ws"}, "and a user in the url"),
    ],
)
async def test_headers_that_cannot_be_sent_are_an_error_at_once(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        await connect(**{"url": "ws://localhost:1/ws", **options}).__aenter__()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "wrong", "said"),
    [
        ("headers", ["a"], "headers must be a mapping"),
        ("headers", {"X-Tenant": 7}, "headers: 'X-Tenant' and its value must be strings"),
        ("on_state", "print", "a state listener must be a function"),
        ("token", 7, "token must be a string, or a function"),
    ],
)
async def test_an_option_of_another_type_is_an_error_at_once(
    option: str, wrong: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        await connect("ws://localhost:1/ws", **{option: wrong}).__aenter__()


# --- TLS ------------------------------------------------------------------------------------------


async def test_a_private_authority_is_trusted_by_a_context_and_by_nothing_else(
    tmp_path: Path,
) -> None:
    async with running(BEHIND) as server, caddy(tmp_path, [server.port]) as balancer:
        url = f"{balancer.url.replace('http', 'ws', 1)}/ws"
        async with connect(url, ssl=balancer.tls) as client:
            await client.ready()
            news = client.subscribe("news")
            (result,) = await client.publish_batch([{"topic": "news", "payload": "by TLS"}])
            assert not isinstance(result, RefusedError)
            item = await anext(news)
            assert isinstance(item, Event)
            assert item.payload == "by TLS"
            assert (await client.topics()).topics == {"news": 1}
        async with connect(url) as client:
            error = await failure_of(client)
            assert error.code == "TIMEOUT"
            said = "the certificate is not trusted: unable to get local issuer certificate"
            assert said in error.text
            with pytest.raises(RefusedError, match=f"UNAVAILABLE: no answer of {url}: {said}"):
                await client.topics()
        assert {client.client_id for client in server.hub.clients} == set()


async def test_a_server_without_tls_on_the_port_is_named() -> None:
    async with (
        running(Settings()) as server,
        connect(server.ws.replace("ws", "wss", 1)) as client,
    ):
        error = await failure_of(client)
        assert "no TLS connection: " in error.text
