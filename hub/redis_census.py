"""The figures of the other nodes, as they have written them with their leases.

State: the newest census, and until when it serves.
"""

import asyncio
from collections import Counter
from typing import Final

import hiredis

from hub.broker import Census
from hub.redis_scripts import Names
from hub.redis_session import Session

SERVES: Final = 1.0  # seconds that a census serves, and that taking it may take


class Figures:
    """Asks Redis: one command for each node, none for a topic, however often somebody asks."""

    def __init__(self, names: Names, node: str) -> None:
        self._names = names
        self._node = node
        self._until = 0.0
        self.newest = Census(node)

    async def take(self, session: Session, poisoned: int) -> Census:
        """The other nodes' figures now, or that they are out of reach."""
        clock = asyncio.get_running_loop().time
        if clock() >= self._until:
            try:
                async with asyncio.timeout(SERVES):
                    self.newest = await self._ask(session)
            except (TimeoutError, ConnectionError, hiredis.ReplyError):
                return Census(self._node, degraded=True)
            self._until = clock() + SERVES
        return self.newest._replace(poisoned=poisoned)

    async def _ask(self, session: Session) -> Census:
        ask, names = session.publisher.ask, self._names
        listed, explicit = await asyncio.gather(
            ask("ZRANGE", names.nodes, 0, -1), ask("SMEMBERS", names.explicit)
        )
        others = [node.decode() for node in listed if node.decode() != self._node]
        leases = await asyncio.gather(*(ask("HGETALL", names.leases(node)) for node in others))
        subscribers: Counter[str] = Counter()
        nodes = clients = 0
        for flat in leases:
            counts = dict(zip(flat[::2], map(int, flat[1::2]), strict=True))
            if b"" in counts:  # else its leases have run out: it is dead
                nodes += 1
                clients += counts.pop(b"")
                subscribers.update({topic.decode(): count for topic, count in counts.items()})
        made = sorted(topic.decode() for topic in explicit)
        return Census(self._node, nodes, clients, subscribers, made)
