"""Compare two readers of client frames: aiohttp's in C, and ours in Python with its C unmasking.

Print the µs per message for each size: the best of five runs, which other processes disturb the
least. `--messages` is the number of messages in a run.
"""

import argparse
import asyncio
import os
import sys
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

sys.path.insert(0, str(Path(__file__).parents[1]))

from handlers.takeover import unmask
from hub.protocol.websocket_frames import FrameReader

LIMIT = 65_536  # bytes of a message, for both readers
BATCH = 64  # messages that arrive in one chunk
SIZES = (16, 128, 1_024, 16_384)


class Sink(WebSocketDataQueue):
    """Counts the messages of aiohttp's reader instead of queueing them."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol, LIMIT, loop=asyncio.new_event_loop())
        self.count = 0

    def feed_data(self, message: Any, size: int) -> None:
        self.count += 1


def masked_frame(payload: bytes) -> bytes:
    """Return a client's text frame."""
    size = len(payload)
    head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    key = os.urandom(4)
    masked = bytearray(payload)
    unmask(key, masked)
    return head + key + masked


def read_all(reader: FrameReader, chunk: bytes) -> None:
    """Read a chunk as a connection does, in slices."""
    reader.feed(chunk)
    while reader.more:
        reader.read_on()


def cost(read: Callable[[bytes], object], chunk: bytes, chunks: int) -> float:
    """Return the µs per message, the best of five runs."""
    return min(timeit.repeat(lambda: read(chunk), number=chunks, repeat=5)) / chunks / BATCH * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=100_000)
    chunks = max(1, arguments.parse_args().messages // BATCH)
    print(" bytes   aiohttp   ours   (us per message)")
    for size in SIZES:
        chunk = masked_frame(b"x" * size) * BATCH
        sink = Sink(None)
        reader = WebSocketReader(sink, LIMIT + 1, False, False)  # no deflate, no decoding
        theirs = cost(reader.feed_data, chunk, chunks)
        assert sink.count == 5 * chunks * BATCH
        ours = cost(partial(read_all, FrameReader(LIMIT, unmask)), chunk, chunks)
        print(f"{size:6}   {theirs:7.2f}   {ours:4.2f}")


if __name__ == "__main__":
    main()
