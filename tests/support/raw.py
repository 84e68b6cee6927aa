"""A client on a plain socket, which can send any bytes, and need not read."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import aiohttp

from tests.support.frames import CLOSE, TEXT, client_frame, take_frames
from tests.support.patience import PATIENCE

HANDSHAKE = (
    b"GET /ws?client_id=raw HTTP/1.1\r\n"
    b"Host: test\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class RawClient:
    """One TCP connection, with the bytes received and not yet parsed."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._stream = bytearray()
        self._frames: list[tuple[int, bytes]] = []

    @classmethod
    async def dial(cls, port: int, *, receive_buffer: int | None = None) -> "RawClient":
        """Connect and send nothing; `receive_buffer` is the size of SO_RCVBUF in bytes."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return await cls.dial_with(sock, port)

    @classmethod
    async def dial_with(cls, sock: socket.socket, port: int) -> "RawClient":
        """Connect a socket, and send nothing; close it if that fails."""
        with ExitStack() as failed:
            failed.callback(sock.close)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            failed.pop_all()
        return cls(sock)

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> "RawClient":
        """Connect and upgrade."""
        client = await cls.dial(port, receive_buffer=receive_buffer)
        await client.send(HANDSHAKE)
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def say(self, message: Any) -> None:
        """Send one message as JSON in a text frame."""
        await self.send(client_frame(TEXT, json.dumps(message).encode()))

    async def read_head(self) -> bytes:
        """Return the head of an HTTP response, and keep the bytes after it."""
        return await self.read_until(b"\r\n\r\n")

    async def read_until(self, mark: bytes) -> bytes:
        """Return the bytes before a mark, or before the end; keep the bytes after the mark."""
        async with asyncio.timeout(PATIENCE):
            while (end := self._stream.find(mark)) < 0:
                data = await self._loop.sock_recv(self.sock, 65_536)
                if not data:
                    end = len(self._stream)
                    break
                self._stream += data
        before = bytes(self._stream[:end])
        del self._stream[: end + len(mark)]
        return before

    async def read_exactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        async with asyncio.timeout(PATIENCE):
            while len(self._stream) < size:
                data = await self._loop.sock_recv(self.sock, 65_536)
                assert data, "the stream ended"
                self._stream += data
        data = bytes(self._stream[:size])
        del self._stream[:size]
        return data

    async def read_some(self, size: int) -> None:
        """Receive at most `size` bytes, and keep them."""
        async with asyncio.timeout(PATIENCE):
            data = await self._loop.sock_recv(self.sock, size)
            assert data, "the stream ended"
            self._stream += data

    async def read_to_end(self) -> bytes:
        """Return all bytes up to the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while data := await self._loop.sock_recv(self.sock, 65_536):
                self._stream += data
        return bytes(self._stream)

    async def frame(self) -> tuple[int, bytes] | None:
        """Return the next frame as (opcode, payload), or None at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                self._frames = take_frames(self._stream)
                if self._frames:
                    break
                try:
                    data = await self._loop.sock_recv(self.sock, 1_048_576)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._stream += data
        return self._frames.pop(0)

    async def hear(self) -> Any:
        """Return the next message, or ("close", code, reason), or None at the end."""
        frame = await self.frame()
        if frame is None:
            return None
        opcode, payload = frame
        if opcode == TEXT:
            return json.loads(payload)
        if opcode == CLOSE:
            return ("close", int.from_bytes(payload[:2], "big"), payload[2:].decode())
        return frame

    async def rest(self) -> list[Any]:
        """Return all messages up to the end of the stream."""
        heard = []
        while (message := await self.hear()) is not None:
            heard.append(message)
        return heard

    async def rest_until_close(self) -> list[Any]:
        """Return all messages up to the server's Close, which is the last."""
        heard = [await self.hear()]
        while heard[-1] is not None and not isinstance(heard[-1], tuple):
            heard.append(await self.hear())
        return heard

    async def subscribe(self, *topics: str) -> None:
        """Subscribe to topics, and wait for each ack."""
        for topic in topics:
            await self.say({"type": "subscribe", "topic": topic})
            assert (await self.hear())["type"] == "ack"

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the socket with a RST, and drop unread bytes."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


@asynccontextmanager
async def raw_client(port: int, **options: Any) -> AsyncIterator[RawClient]:
    """Open an upgraded connection, and close it at the end of the block."""
    client = await RawClient.connect(port, **options)
    try:
        yield client
    finally:
        client.close()


async def stalled_client(port: int) -> RawClient:
    """Return a client that reads nothing, with more bytes queued than its socket takes."""
    client = await RawClient.connect(port, receive_buffer=4_096)
    await client.subscribe("big")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(12):
            body = {"topic": "big", "payload": "x" * 60_000}
            async with session.post("/publish", json=body) as answer:
                assert answer.status == 200
    return client


async def until(condition: Callable[[], bool]) -> None:
    """Run the loop until `condition()` returns True."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0)
