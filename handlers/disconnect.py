"""`POST /disconnect`: close the connections of a subject or a client id, on all nodes."""

import asyncio

from aiohttp import web

from handlers.answers import answer, awaitable, raise_refusal, read_body, refuse
from handlers.keys import SERVICE
from handlers.requests import caller
from hub.errors import Refusal
from hub.protocol.http_requests import decode_disconnect
from hub.service import Disconnected
from hub.sessions import rfc3339
from hub.values import Json


async def disconnect(request: web.Request) -> web.Response:
    """Close connections, and ban their subject if the request has a `for`."""
    service, who = request.app[SERVICE], caller(request)
    raise_refusal(service.check_all(who))
    target = decode_disconnect(await read_body(request))
    if isinstance(target, Refusal):
        return refuse(target)
    outcome: asyncio.Future[Disconnected | Refusal]
    outcome, done = awaitable()
    service.disconnect(who, target, done)
    result = await outcome
    if isinstance(result, Refusal):
        return refuse(result)
    fields: dict[str, Json] = {"status": "disconnected"}
    if target.subject:
        fields["sub"] = target.subject
    else:
        fields["client_id"] = target.client_id
    fields["clients"] = result.clients
    if result.until is not None:
        fields["until"] = rfc3339(result.until)
    if result.degraded:
        fields["degraded"] = True
    return answer(fields)
