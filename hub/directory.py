"""The directory: lists of the nodes and of their connections.

Theory of operation. A list asks all other nodes at once (`Broker.ask`), and takes their answers in
the order of the nodes, so that a page has the same order on every node. An answer that is not
needed, because the page is full, is not fetched. A node that does not answer is reported as
missing. `answer` answers the questions of the other nodes.

State: the number of lists under way.
"""

import asyncio
from typing import Any, Final, NamedTuple

from hub.connection_list import ConnectionList
from hub.hub import Hub
from hub.loop_lag import LoopLag
from hub.protocol.list_requests import ConnectionQuery, decode_fields
from hub.values import Json
from hub.version import VERSION

AT_ONCE: Final = 8  # lists under way; each may have two pages of connections in memory
_NODES: Final = {"list": "nodes"}  # a question to other nodes


class NodePage(NamedTuple):
    """The nodes of the deployment."""

    nodes: list[dict[str, Json]]
    missing: list[str]  # nodes that did not answer
    degraded: bool  # whether the other nodes were out of reach


class ConnectionPage(NamedTuple):
    """A page of the connections of all nodes."""

    connections: list[dict[str, Json]]
    next: str  # the page's last connection if more follow, else empty
    missing: list[str]  # nodes that did not answer
    degraded: bool  # whether the other nodes were out of reach


class Directory:
    """Lists nodes and connections, and answers other nodes for this one."""

    def __init__(self, hub: Hub, started: float, lag: LoopLag) -> None:
        """`started`: the time of this node's start, in seconds of the hub's clock."""
        self._hub = hub
        self._started = started
        self._lag = lag
        self._connections = ConnectionList(hub)
        self._under_way = asyncio.Semaphore(AT_ONCE)
        hub.broker.serve_questions(self)

    async def nodes(self) -> NodePage:
        """Return all nodes, in the order of their ids."""
        found: list[dict[str, Json]] = []
        missing: list[str] = []
        async with self._under_way:
            asked = await self._hub.broker.ask(_NODES, "")
            for node in sorted([*asked.nodes, self._hub.node]):
                own = node == self._hub.node
                answer = self._describe() if own else await asked.answer(node)
                if type(answer) is dict and answer.get("id") == node:
                    found.append(answer)
                else:
                    missing.append(node)
        return NodePage(found, missing, asked.degraded)

    async def connections(self, query: ConnectionQuery) -> ConnectionPage:
        """Return a page of connections, in the order of their ids."""
        found: list[dict[str, Json]] = []
        missing: list[str] = []
        start = "" if query.after is None else query.after.node
        question = {"list": "connections", "query": query.fields()}
        more = False
        async with self._under_way:
            asked = await self._hub.broker.ask(question, start)
            for node in sorted([*asked.nodes, self._hub.node]):
                own = node == self._hub.node
                answer = await (self._list(query) if own else asked.answer(node))
                if not _is_page(answer, node):
                    missing.append(node)
                    continue
                found += answer["connections"]
                more = answer["more"] or len(found) > query.limit
                if more:
                    break
        page = found[: query.limit]
        return ConnectionPage(page, page[-1]["id"] if more else "", missing, asked.degraded)

    async def answer(self, question: Json) -> Json:
        """Return this node's answer to a question; None if it does not know the question."""
        if question == _NODES:
            return self._describe()
        if type(question) is dict and question.keys() == {"list", "query"}:
            query = decode_fields(question["query"])
            if question["list"] == "connections" and query is not None:
                return await self._list(query)
        return None

    def _describe(self) -> dict[str, Json]:
        hub = self._hub
        row: dict[str, Json] = {
            "id": hub.node,
            "version": VERSION,
            "uptime_sec": int(hub.clock() - self._started),
            "clients": len(hub.clients),
            "topics": hub.topic_count,
            "subscriptions": hub.subscriptions,
            "lag_ms": round(self._lag.longest * 1_000),
        }
        if hub.broker.round_trip is not None:
            row["redis_ms"] = round(hub.broker.round_trip * 1_000)
        return row

    async def _list(self, query: ConnectionQuery) -> dict[str, Json]:
        return (await self._connections.page(query))._asdict()


def _is_page(answer: Any, node: str) -> bool:
    """Return whether an answer is a page of a node's connections."""
    if type(answer) is not dict:
        return False
    rows, more = answer.get("connections"), answer.get("more")
    if type(rows) is not list or type(more) is not bool or (more and not rows):
        return False
    return all(_is_of(row, node) for row in rows)


def _is_of(row: Any, node: str) -> bool:
    return type(row) is dict and str(row.get("id")).startswith(f"{node}-")
