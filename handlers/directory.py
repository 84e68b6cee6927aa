"""`GET /nodes` and `GET /connections`: the nodes of the deployment, and their connections."""

from aiohttp import web

from handlers.answers import answer, refuse
from handlers.keys import SERVICE, SETTINGS
from handlers.requests import caller, query_fields
from hub.directory import ConnectionPage, NodePage
from hub.errors import Refusal
from hub.protocol.list_requests import decode_connection_query
from hub.values import Json


async def list_nodes(request: web.Request) -> web.Response:
    """Answer with all nodes."""
    page = await request.app[SERVICE].nodes(caller(request))
    if isinstance(page, Refusal):
        return refuse(page)
    return answer({"nodes": page.nodes, **_left_out(page)})


async def list_connections(request: web.Request) -> web.Response:
    """Answer with a page of the connections of all nodes."""
    fields = dict(query_fields(request))
    query = decode_connection_query(fields, request.app[SETTINGS].max_topic_bytes)
    if isinstance(query, Refusal):
        return refuse(query)
    page = await request.app[SERVICE].connections(caller(request), query)
    if isinstance(page, Refusal):
        return refuse(page)
    more = {"next": page.next} if page.next else {}
    return answer({"connections": page.connections, **more, **_left_out(page)})


def _left_out(page: NodePage | ConnectionPage) -> dict[str, Json]:
    """Return the fields that say which nodes an answer lacks."""
    fields: dict[str, Json] = {"missing": page.missing} if page.missing else {}
    if page.degraded:
        fields["degraded"] = True
    return fields
