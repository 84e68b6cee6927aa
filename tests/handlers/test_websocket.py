"""The opening handshake, on plain sockets."""

import json
from typing import Any

import pytest

from tests.support.raw import HANDSHAKE, RawClient, until
from tests.support.server import Running


async def answer(port: int, handshake: bytes) -> tuple[bytes, bytes]:
    """Send a handshake, and return the head and the body of the answer."""
    client = await RawClient.dial(port)
    await client.send(handshake)
    head = await client.read_head()
    if b" 101 " in head.splitlines()[0]:
        client.close()
        return head, b""
    size = next(
        int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"Content-Length")
    )
    body = await client.read_exactly(size)
    client.close()
    return head, body


async def test_the_answer_has_the_accept_value_of_the_key(server: Running) -> None:
    head, _ = await answer(server.port, HANDSHAKE)
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Upgrade: websocket", b"upgrade:  WebSocket"),
        (b"Connection: Upgrade", b"Connection: keep-alive, UPGRADE"),
        (b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"),
        (b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
        (b"Host: test", b"Host: test\r\nOrigin: https://anywhere.example"),
        (b"Host: test", b"Host: test\r\nSec-WebSocket-Extensions: permessage-deflate"),
        (b"?client_id=raw", b""),
        (b"?client_id=raw", b"?client_id="),
        (b"?client_id=raw", b"?client_id=" + b"%C3%A9" * 127),
    ],
)
async def test_valid_handshakes_are_accepted(server: Running, old: bytes, new: bytes) -> None:
    assert old in HANDSHAKE
    head, _ = await answer(server.port, HANDSHAKE.replace(old, new))
    assert b" 101 " in head.splitlines()[0]
    assert b"Extensions" not in head


@pytest.mark.parametrize(
    ("old", "new", "status", "header"),
    [
        (b"Upgrade: websocket\r\n", b"", 426, b"Upgrade: websocket"),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426, b"Upgrade: websocket"),
        (b"Connection: Upgrade", b"Connection: keep-alive", 426, b"Upgrade: websocket"),
        (b"HTTP/1.1", b"HTTP/1.0", 426, b"Upgrade: websocket"),
        (b"Version: 13", b"Version: 8", 426, b"Sec-WebSocket-Version: 13"),
        (b"Version: 13", b"Version: 13, 8", 426, b"Sec-WebSocket-Version: 13"),
        (b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 13", 400, b""),
        (b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 8", 400, b""),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426, b"Sec-WebSocket-Version: 13"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400, b""),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j", 400, b""),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400, b""),
        (b"==\r\n", b"==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400, b""),
        (b"Host: test", b"Host: test\r\nContent-Length: 2", 400, b""),
        (b"?client_id=raw", b"?client_id=" + b"%C3%A9" * 128, 400, b""),
        (b"?client_id=raw", b"?client_id=%ff", 400, b""),
    ],
)
async def test_invalid_handshakes_are_refused(
    server: Running, old: bytes, new: bytes, status: int, header: bytes
) -> None:
    assert old in HANDSHAKE
    head, body = await answer(server.port, HANDSHAKE.replace(old, new))
    assert int(head.split()[1]) == status
    assert header in head
    if status == 426:
        assert b"Upgrade: websocket" in head
        assert b"Connection: Upgrade" in head
    assert list(json.loads(body)) == ["error"]
    assert not server.hub.clients


async def test_a_426_closes_the_connection_if_the_client_asks_for_it(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert b"\r\nConnection: Upgrade, close\r\n" in await client.read_to_end()
    client.close()


async def test_a_valid_handshake_may_follow_a_refused_one(server: Running) -> None:
    client = await RawClient.dial(server.port)
    await client.send(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
    assert b" 426 " in await client.read_head()
    await client.read_exactly(len(b'{"error":"Sec-WebSocket-Version must be 13"}'))
    await client.send(HANDSHAKE)
    assert b" 101 " in await client.read_head()
    client.close()


async def test_a_disconnect_during_the_handshake_leaves_no_client(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    clients: list[Any] = []
    for _ in range(50):
        client = await RawClient.dial(server.port)
        await client.send(HANDSHAKE)
        client.reset()
        clients.append(client)
    assert server.runner.server is not None
    connections = server.runner.server
    await until(lambda: not connections.connections and not server.hub.clients)
    assert caplog.records == []
