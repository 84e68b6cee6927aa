"""`GET /stats` and `GET /health`: figures for people, probes and load balancers."""

import asyncio

from aiohttp import web

from handlers.answers import answer
from handlers.keys import HUB, STARTED


async def stats(request: web.Request) -> web.Response:
    """How many clients and topics there are, and the subscribers of each topic."""
    hub = request.app[HUB]
    topics = hub.topics()
    return answer(
        {"total_clients": len(hub.clients), "total_topics": len(topics), "topics": topics}
    )


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
