"""Headers that clients forge, through a real nginx that is a trusted proxy."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hub.addresses import parse_networks
from hub.settings import Settings
from tests.support.balancers import nginx
from tests.support.raw import RawClient, until
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, settings, sign
from tests.support.ways import ACCEPTED, REFUSED, WAYS, Headers, get, present, status, upgrade

LOCAL = parse_networks("127.0.0.1")
GOOD = sign().encode()
SPOOFED: list[Headers] = [
    [(b"X-Forwarded-For", b"203.0.113.9")],
    [(b"X-Forwarded-For", b"127.0.0.1")],
    [(b"X-Forwarded-For", b"203.0.113.9, 127.0.0.1")],
    [(b"X-Forwarded-For", b"203.0.113.9"), (b"X-Forwarded-For", b"198.51.100.7")],
    [(b"X-Forwarded-For", b"unknown, ::1, [::1]:80, 256.1.1.1")],
    [(b"X-Forwarded-For", b",".join([b"127.0.0.1"] * 100))],
    [(b"X-Real-IP", b"203.0.113.9"), (b"Forwarded", b"for=203.0.113.9")],
]


@asynccontextmanager
async def behind_nginx(wanted: Settings, folder: Path) -> AsyncIterator[tuple[Running, int]]:
    """Serve behind nginx with deploy/nginx/plain.conf; yield the server and nginx's port."""
    async with running(wanted) as server, nginx(folder, [server.port], plain=True) as balancer:
        yield server, balancer.port


async def dial_from(source: str, port: int) -> RawClient:
    """Connect from another address of this machine's loopback."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return RawClient(sock)


async def test_a_client_cannot_choose_its_address(tmp_path: Path) -> None:
    """nginx appends the address of the client to what the client sends."""
    limited = replace(settings(), max_connections_per_ip=1, trusted_proxies=LOCAL)
    async with behind_nginx(limited, tmp_path) as (server, port):
        first = await dial_from("127.0.0.2", port)
        await first.send(upgrade(headers=SPOOFED[0]))
        assert b" 101 " in await first.read_head()
        for headers in SPOOFED:
            client = await dial_from("127.0.0.2", port)
            await client.send(upgrade(headers=headers))
            assert b" 429 " in await client.read_head()
            client.close()
        other = await dial_from("127.0.0.3", port)
        await other.send(upgrade())
        assert b" 101 " in await other.read_head()
        assert [it.address for it in server.hub.clients] == ["127.0.0.2", "127.0.0.3"]
        first.close()
        other.close()
        await until(lambda: not server.hub.clients)


async def test_without_trusted_proxies_the_header_is_ignored(tmp_path: Path) -> None:
    limited = replace(settings(), max_connections_per_ip=1)
    async with behind_nginx(limited, tmp_path) as (server, port):
        client = await RawClient.dial(port)
        await client.send(upgrade())
        assert b" 101 " in await client.read_head()
        for headers in SPOOFED:
            assert await status(port, upgrade(headers=headers)) == "429"
        assert [it.address for it in server.hub.clients] == ["127.0.0.1"]
        client.close()
        await until(lambda: not server.hub.clients)


async def test_each_credential_passes_nginx(tmp_path: Path) -> None:
    async with behind_nginx(settings(), tmp_path) as (server, port):
        for way in WAYS:
            assert await present(port, way, GOOD) == ACCEPTED
            assert await present(port, way, FOREIGN.encode()) == REFUSED[way]
        await until(lambda: not server.hub.clients)


async def test_requests_that_two_servers_could_read_differently_are_refused(
    tmp_path: Path,
) -> None:
    """Smuggling: what is behind the first request is never carried out with its credential."""
    hidden = get(b"/topics/secret", [(b"X-API-Key", b"x")]).replace(b"GET", b"DELETE", 1)
    heads: list[list[tuple[bytes, bytes]]] = [
        [(b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"xchunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity")],
        [(b"Content-Length", b"0"), (b"Content-Length", b"%d" % len(hidden))],
        [(b"Content-Length", b"+0")],
    ]
    async with behind_nginx(settings(), tmp_path) as (server, port):
        for at in (port, server.port):
            for head in heads:
                client = await RawClient.dial(at)
                request = get(b"/publish", [*head]).replace(b"GET", b"POST", 1)
                await client.send(request + b"0\r\n\r\n" + hidden)
                answer = await client.read_to_end()
                client.close()
                assert answer[9:12] in (b"400", b"401", b"405", b"501"), (head, answer)
