"""`POST /disconnect`: close the connections of a subject or a client id, on all nodes."""

from functools import partial

from aiohttp import web

from handlers.answers import answer, outcome_of, raise_refusal, read_body, refuse
from handlers.keys import SERVICE
from handlers.requests import caller
from hub.errors import Refusal
from hub.protocol.http_requests import decode_disconnect
from hub.sessions import rfc3339
from hub.values import Json


async def disconnect(request: web.Request) -> web.Response:
    """Close connections, and ban their subject if the request has a `for`."""
    service, who = request.app[SERVICE], caller(request)
    raise_refusal(service.check_all(who))
    target = decode_disconnect(await read_body(request))
    if isinstance(target, Refusal):
        return refuse(target)
    result = await outcome_of(partial(service.disconnect, who, target))
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
