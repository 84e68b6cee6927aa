"""Pages of this node's connections, in the order of their numbers.

A node may have tens of thousands of connections, and examining all of them takes too long for one
tick. So they are examined in slices, for one request at a time.

State: the lock that lets requests wait for each other.
"""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, NamedTuple

from hub.delivery.client import Client
from hub.hub import Hub
from hub.ids import ConnectionId
from hub.protocol.list_requests import ConnectionQuery
from hub.slices import slices
from hub.values import Json

SLICE: Final = 2_000  # connections examined in one tick: 1 ms
ROWS: Final = 250  # connections described in one tick: 1 ms

_by_number: Final = attrgetter("number")


class ConnectionRows(NamedTuple):
    """A page of this node's connections."""

    connections: list[dict[str, Json]]
    more: bool  # whether further connections match


class ConnectionList:
    """Lists the connections of this node."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = asyncio.Lock()  # without it each request would take a slice in every tick

    async def page(self, query: ConnectionQuery) -> ConnectionRows:
        """Return the connections that a query selects; some may have ended meanwhile."""
        async with self._lock:
            found = await self._find(query)
            rows: list[dict[str, Json]] = []
            async for part in slices(found[: query.limit], ROWS):
                now = self._hub.clock()
                rows += [self._describe(it, now) for it in part]
        return ConnectionRows(rows, len(found) > query.limit)

    async def _find(self, query: ConnectionQuery) -> list[Client]:
        """Return the first clients that match, one more than the limit if further ones do."""
        hub, last = self._hub, self._last_before(query.after)
        found: list[Client] = []
        if query.topic:
            async for part in slices(hub.subscribers(query.topic), SLICE):
                # They are in the order of their subscribes, so the lowest number may be anywhere.
                end = found[-1].number if len(found) > query.limit else math.inf
                found += _select((it for it in part if last < it.number < end), query.subject)
                found = sorted(found, key=_by_number)[: query.limit + 1]
        else:
            clients = list(hub.clients)  # in the order of their numbers
            first = bisect_right(clients, last, key=_by_number)
            while first < len(clients) and len(found) <= query.limit:
                found += _select(clients[first : first + SLICE], query.subject)
                first += SLICE
                await asyncio.sleep(0)
        return found[: query.limit + 1]

    def _last_before(self, after: ConnectionId | None) -> float:
        """Return the number after which this node's part of a page begins.

        Returns:
            0 for all connections of this node, and infinity for none.
        """
        if after is None or after.node < self._hub.node:
            return 0
        return after.number if after.node == self._hub.node else math.inf

    def _describe(self, client: Client, now: float) -> dict[str, Json]:
        node = self._hub.node
        row: dict[str, Json] = {
            "id": str(ConnectionId(node, client.number)),
            "node": node,
            "address": client.address,
        }
        if client.principal.subject:
            row["sub"] = client.principal.subject
        client_id = client.client_id or client.name
        if client_id:
            row["client_id"] = client_id
        return {
            **row,
            "transport": client.framing.kind,
            "age_sec": int(now - client.joined_at),
            "subscriptions": len(client.topics),
            "queued_messages": client.queued_messages,
            "queued_bytes": client.queued_bytes,
            "slow": client.slow,
        }


def _select(clients: Iterable[Client], subject: str) -> Iterable[Client]:
    """Return the clients of a subject, or all if it is empty."""
    return (it for it in clients if it.principal.subject == subject) if subject else clients
