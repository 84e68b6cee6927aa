"""`GET /stats` and `GET /health`: figures for people, probes and load balancers."""

import asyncio

from aiohttp import web

from handlers.answers import answer, degraded
from handlers.keys import HUB, STARTED
from hub.inbound import Json


async def stats(request: web.Request) -> web.Response:
    """How many clients and topics there are, on all nodes, and the subscribers of each topic."""
    hub = request.app[HUB]
    census = await hub.broker.census()
    topics = census.added_to(hub.topics()) if census else hub.topics()
    fields: dict[str, Json] = {
        "total_clients": len(hub.clients),
        "total_topics": len(topics),
        "topics": topics,
    }
    if census is not None:
        fields["total_clients"] += census.clients
        fields["nodes"] = 1 + census.nodes
        fields["node"] = {
            "id": census.node,
            "clients": len(hub.clients),
            "topics": hub.topics(),
            "poisoned": census.poisoned,
        }
    return answer({**fields, **degraded(census)})


async def health(request: web.Request) -> web.Response:
    """That the server is there, since when, and how much it serves."""
    topics = request.app[HUB].topics()
    uptime = asyncio.get_running_loop().time() - request.app[STARTED]
    return answer(
        {
            "status": "ok",
            "uptime_sec": int(uptime),
            "topics": len(topics),
            "subscribers": sum(topics.values()),
        }
    )
