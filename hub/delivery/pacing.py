"""Flow control of bursts: requests that publish many messages at once.

Theory of operation. The kernel takes some hundred KB for a client. A burst would overflow the send
queue even of a client that reads without a pause, because the client's process is not scheduled in
time. So a burst is published in parts, and each part is delayed until the congested subscribers
have drained. A client that takes nothing for PATIENCE is slow: bursts do not wait for it until it
has drained.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from hub.delivery.client import Client, State
from hub.delivery.topic import Topic

PART_ITEMS: Final = 64  # messages in a part
PART_BYTES: Final = 131_072  # of the encoded events in a part
# Bytes a second for subscribers on other nodes, whose congestion this node cannot see.
NODES_RATE: Final = 4_194_304
PATIENCE: Final = 1.0  # seconds within which a client must take bytes
LIMIT: Final = 5.0  # seconds that one burst waits for subscribers on this node, in total


class _Wait:
    """The clients that one burst waits for, each with the bytes in its transport."""

    def __init__(self, clients: dict[Client, int]) -> None:
        self.clients = clients
        self.news = asyncio.Event()


class Pacing:
    """State: the bursts that wait, and the slow clients."""

    def __init__(self) -> None:
        self._waits: dict[_Wait, None] = {}
        self._slow: dict[Client, None] = {}

    def drained(self, client: Client) -> None:
        """Record that a client has drained, or has left."""
        self._slow.pop(client, None)
        for wait in self._waits:
            if wait.clients.pop(client, None) is not None and not wait.clients:
                wait.news.set()

    async def drain(self, topics: Sequence[Topic[Client]], deadline: float) -> None:
        """Wait until the congested subscribers of `topics` have drained, except slow ones.

        `deadline`: the time at which the wait ends, in seconds of the loop's clock.
        """
        clock = asyncio.get_running_loop().time
        # First let the parts of other bursts be written: only then are their subscribers congested.
        while clock() < deadline and any(map(_has_part, topics)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        wait = _Wait(self._congested(topics))
        self._waits[wait] = None
        try:
            while wait.clients and (left := deadline - clock()) > 0:
                try:
                    async with asyncio.timeout(min(PATIENCE, left)):
                        await wait.news.wait()
                except TimeoutError:
                    self._give_up(wait)
        finally:
            del self._waits[wait]

    def _congested(self, topics: Iterable[Topic[Client]]) -> dict[Client, int]:
        return {
            client: client.transport.get_write_buffer_size()
            for topic in topics
            for client in topic.subscribers()
            if client.state is State.CONGESTED and client not in self._slow
        }

    def _give_up(self, wait: _Wait) -> None:
        """Stop waiting for clients that have taken nothing since the last check."""
        for client, held in list(wait.clients.items()):
            holds = client.transport.get_write_buffer_size()
            if holds == held:
                self._slow[client] = None
                del wait.clients[client]
            else:
                wait.clients[client] = holds


def _has_part(topic: Topic[Client]) -> bool:
    """Return whether a topic's batch has as many bytes as a part of a burst."""
    return sum(map(len, topic.batch)) >= PART_BYTES
