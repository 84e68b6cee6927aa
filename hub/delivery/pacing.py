"""Bursts of publishes: each part of one waits until the subscribers that read have taken the last.

State: the bursts that wait, and the clients that are waited for no more.

A burst that was published in one turn would overrun the bounds of clients that read without pause:
the kernel takes some hundred KB for each, and what is behind that comes faster than they are run.
So a burst is published in parts, and before each it waits for the congested subscribers. One that
takes nothing for PATIENCE is too slow to be waited for, until it has drained.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from hub.delivery.client import Client, State
from hub.delivery.topic import Topic

PART_ITEMS: Final = 64  # messages of one part
PART_BYTES: Final = 131_072  # of one part, in encoded events
# Bytes a second of a burst where other nodes have subscribers: their congestion is not seen here.
NODES_RATE: Final = 4_194_304
PATIENCE: Final = 1.0  # seconds for a client to take something
LIMIT: Final = 5.0  # seconds that one burst waits in all


class _Wait:
    """The clients that one burst waits for, each with the bytes that its transport held."""

    def __init__(self, clients: dict[Client, int]) -> None:
        self.clients = clients
        self.news = asyncio.Event()


class Pacing:
    """Lets a burst go on when its subscribers can take more."""

    def __init__(self) -> None:
        self._waits: dict[_Wait, None] = {}
        self._slow: dict[Client, None] = {}

    def drained(self, client: Client) -> None:
        """A client has taken all that it was given, or has left."""
        self._slow.pop(client, None)
        for wait in self._waits:
            if wait.clients.pop(client, None) is not None and not wait.clients:
                wait.news.set()

    async def drain(self, topics: Sequence[Topic], deadline: float) -> None:
        """Wait until the subscribers of `topics` that read have taken what they were given.

        `deadline`: when to go on in any case, by the loop's clock.
        """
        clock = asyncio.get_running_loop().time
        # A part of another burst may be about to be written.
        while any(sum(map(len, topic.batch)) >= PART_BYTES for topic in topics):  # noqa: ASYNC110
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

    def _congested(self, topics: Iterable[Topic]) -> dict[Client, int]:
        return {
            client: client.transport.get_write_buffer_size()
            for topic in topics
            for clients in (topic.subscribers, topic.streams)
            for client in clients
            if client.state is State.CONGESTED and client not in self._slow
        }

    def _give_up(self, wait: _Wait) -> None:
        """Wait no more for clients that have taken nothing since the last look."""
        for client, held in list(wait.clients.items()):
            holds = client.transport.get_write_buffer_size()
            if holds == held:
                self._slow[client] = None
                del wait.clients[client]
            else:
                wait.clients[client] = holds
