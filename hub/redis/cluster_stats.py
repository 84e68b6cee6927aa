"""Statistics of the other nodes, read from their leases.

State: the newest stats, the time until which they are served, and the task that reads them.
"""

import asyncio
from typing import Any, Final

import hiredis

from hub.brokers.base import ClusterStats
from hub.redis.keys import Keys
from hub.redis.session import Session

SERVES: Final = 1.0  # seconds for which stats are reused; also the time limit of one reply
PAGE: Final = 1_000  # topics of one reply: a million at once would stall Redis and this node


class ClusterStatsReader:
    """Reads stats at most once in SERVES seconds, with one command for each PAGE of a node."""

    def __init__(self, keys: Keys, node: str) -> None:
        self._keys = keys
        self._node = node
        self._until = 0.0
        self._reading: asyncio.Task[ClusterStats] | None = None  # running, or done

    async def read(self, session: Session, poisoned: int) -> ClusterStats:
        """Return the stats of the other nodes, with `degraded` if Redis does not answer.

        `poisoned`: the number of messages that this node has dropped as foreign.
        """
        reading = self._reading
        if reading is None or (reading.done() and asyncio.get_running_loop().time() >= self._until):
            reading = self._reading = asyncio.create_task(self._read(session))
        newest = await asyncio.shield(reading)  # other callers may await it too
        return newest._replace(poisoned=poisoned)

    def forget(self) -> None:
        """Drop the newest stats, because this node has just changed a topic."""
        self._reading = None

    async def _read(self, session: Session) -> ClusterStats:
        try:
            stats = await self._ask(session)
        except (TimeoutError, ConnectionError, hiredis.ReplyError):
            return ClusterStats(self._node, degraded=True)
        self._until = asyncio.get_running_loop().time() + SERVES
        return stats

    async def _ask(self, session: Session) -> ClusterStats:
        keys = self._keys
        listed = await _ask(session, "ZRANGE", keys.nodes, 0, -1)
        total: dict[str, int] = {}
        nodes = clients = 0
        for node in listed:
            if node.decode() == self._node:
                continue
            counts = await _leases(session, keys.leases(node.decode()), total)
            if "" in counts:  # else its leases have expired: the node is dead
                nodes += 1
                clients += counts[""]
        total.pop("", None)
        await _explicit(session, keys.explicit, total)
        await _living(session, keys.lives, total)
        return ClusterStats(self._node, nodes, clients, total)


async def _leases(session: Session, key: str, total: dict[str, int]) -> dict[str, int]:
    """Read a node's subscribers by topic, and add them to the total.

    HSCAN may return a topic twice; it is counted once.
    """
    counts: dict[str, int] = {}
    cursor = b"0"
    while True:
        cursor, flat = await _ask(session, "HSCAN", key, cursor, "COUNT", PAGE)
        for name, count in zip(flat[::2], map(int, flat[1::2]), strict=True):
            topic = name.decode()
            total[topic] = total.get(topic, 0) + count - counts.get(topic, 0)
            counts[topic] = count
        if cursor == b"0":
            return counts


async def _explicit(session: Session, key: str, total: dict[str, int]) -> None:
    """Add the explicitly created topics to the total."""
    cursor = b"0"
    while True:
        cursor, page = await _ask(session, "SSCAN", key, cursor, "COUNT", PAGE)
        for topic in page:
            total.setdefault(topic.decode(), 0)
        if cursor == b"0":
            return


async def _living(session: Session, key: str, total: dict[str, int]) -> None:
    """Add the topics whose history lives on, with or without subscribers."""
    seconds, micros = map(int, await _ask(session, "TIME"))
    now = seconds * 1_000 + micros // 1_000
    start = 0
    while True:
        part = ("LIMIT", start, PAGE)
        page = await _ask(session, "ZRANGEBYSCORE", key, f"({now}", "+inf", *part)
        for topic in page:
            total.setdefault(topic.decode(), 0)
        if len(page) < PAGE:
            return
        start += PAGE


async def _ask(session: Session, *words: Any) -> Any:
    async with asyncio.timeout(SERVES):
        return await session.commands.ask(*words)
