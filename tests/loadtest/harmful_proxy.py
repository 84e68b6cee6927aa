"""A proxy that drops or repeats events on their way to subscribers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hub.protocol.websocket_frames import TEXT, text_frame
from tests.support.frames import take_frames

Harm = Callable[[int], int]  # how often to deliver an event, by its number in its connection


def split_frames(stream: bytearray) -> list[bytes]:
    """Remove the complete frames of a server from a stream."""
    return [
        text_frame(payload) if opcode == TEXT else bytes((0x80 | opcode, len(payload))) + payload
        for opcode, payload in take_frames(stream)
    ]


def split_stream(stream: bytearray) -> list[bytes]:
    """Remove the complete messages from a stream of Server-Sent Events."""
    *messages, rest = bytes(stream).split(b"\n\n")
    stream[:] = rest
    return [message + b"\n\n" for message in messages]


def whole(stream: bytearray) -> list[bytes]:
    """Remove everything."""
    data = bytes(stream)
    stream.clear()
    return [data]


async def pass_on(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, harm: Harm | None
) -> None:
    """Pass bytes on until their end; with `harm`, the events of a server's response."""
    try:
        split = whole
        if harm is not None:
            head = await source.readuntil(b"\r\n\r\n")
            sink.write(head)
            if head.startswith(b"HTTP/1.1 101"):
                split = split_frames
            elif b"text/event-stream" in head:
                split = split_stream
        stream, events = bytearray(), 0
        while data := await source.read(65_536):
            stream += data
            for part in split(stream):
                times = 1
                if harm is not None and b'"type":"event"' in part:
                    events += 1
                    times = harm(events)
                sink.write(part * times)
            await sink.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the other direction notices the end, too
    finally:
        sink.close()


@asynccontextmanager
async def harmful_proxy(target: int, harm: Harm) -> AsyncIterator[int]:
    """Run a proxy for a port of the loopback, and yield its own port."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", target)
        tasks.add(asyncio.create_task(pass_on(reader, there[1], None)))
        tasks.add(asyncio.create_task(pass_on(there[0], writer, harm)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
