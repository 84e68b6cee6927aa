"""`/stats` for people; `/health`, `/live` and `/ready` for probes and load balancers."""

from http import HTTPStatus

from aiohttp import hdrs, web

from handlers.answers import RETRY_AFTER, answer, degraded, refuse_while_draining
from handlers.keys import HUB, READ_STATUS, SERVICE
from handlers.requests import caller
from hub.protocol.list_requests import TopicQuery
from hub.topic_list import TopicPage
from hub.values import Json


async def stats(request: web.Request) -> web.Response:
    """Answer with the numbers of clients and topics of all nodes, and the first topics."""
    hub, service, who = request.app[HUB], request.app[SERVICE], caller(request)
    page, cluster = await service.topics(who, TopicQuery())
    fields: dict[str, Json] = {
        "total_clients": len(hub.clients),
        "total_topics": page.total,
        **_topics(page),
    }
    if cluster is not None:
        fields["total_clients"] += cluster.clients
        fields["nodes"] = 1 + cluster.nodes
        fields["node"] = {
            "id": cluster.node,
            "clients": len(hub.clients),
            **_topics(await service.own_topics(who, TopicQuery())),
            "poisoned": cluster.poisoned,
        }
    return answer({**fields, **degraded(cluster)})


def _topics(page: TopicPage) -> dict[str, Json]:
    """Return the fields for the first topics, with a mark if there are more."""
    return {"topics": page.topics, **({"topics_truncated": True} if page.next else {})}


async def health(request: web.Request) -> web.Response:
    """Answer with the uptime and the numbers of topics and subscribers; 503 while draining."""
    refuse_while_draining(request)
    status = await request.app[READ_STATUS]()
    return answer(
        {
            "status": "ok",
            "uptime_sec": int(status.uptime),
            "topics": status.topics,
            "subscribers": status.subscribers,
        }
    )


async def live(_request: web.Request) -> web.Response:
    """Answer 200 while the event loop runs; without an answer, the process may be killed."""
    return answer({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Answer 200 if this server accepts new clients and requests, else 503, with all checks."""
    status = await request.app[READ_STATUS]()
    checks: dict[str, Json] = {**status.checks}
    if not status.refusal:
        return answer({"status": "ok", "checks": checks})
    response = answer({"error": status.refusal, "checks": checks}, HTTPStatus.SERVICE_UNAVAILABLE)
    response.headers[hdrs.RETRY_AFTER] = RETRY_AFTER
    return response
