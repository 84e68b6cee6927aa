"""A proxy that blocks WebSocket and passes on HTTP, as some networks do."""

import asyncio
import contextlib
import math
from contextlib import AbstractAsyncContextManager

from tests.support.proxy import Proxy, listening

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BlockingProxy(Proxy):
    """A proxy that refuses WebSocket handshakes, swallows them, or passes them on.

    `blocks`: "refuse", "swallow", or "" to pass them on. `upgrades` counts the handshakes; those
    after the first `most` are passed on.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.blocks = "refuse"
        self.upgrades = 0
        self.most = math.inf

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        is_upgrade = b"upgrade: websocket" in head.lower()
        self.upgrades += is_upgrade
        blocks = self.blocks if is_upgrade and self.upgrades <= self.most else ""
        if blocks == "refuse":
            writer.write(REFUSAL)
            writer.close()
        elif blocks == "swallow":
            with contextlib.suppress(ConnectionError):
                await reader.read()  # until the client gives up
            writer.close()
        else:
            await self.join(reader, writer, head)


def blocking_proxy(target: int) -> AbstractAsyncContextManager[BlockingProxy]:
    return listening(BlockingProxy(target))
