"""`GET /events`: topics as a stream of Server-Sent Events."""

from email.utils import formatdate
from typing import Final

from aiohttp import hdrs, web

from handlers.answers import (
    REASON,
    TEXT,
    bad_request,
    refuse,
    refuse_if_full,
    refuse_while_draining,
)
from handlers.connection import Link
from handlers.keys import DRAIN, SERVICE, SETTINGS
from handlers.limits import limit_connects, limit_subscriptions
from handlers.requests import address_of, caller, query_fields
from handlers.takeover import Upgrade, take_over
from hub.delivery.client import Client, Transport
from hub.errors import Refusal
from hub.event_stream import Stream, preamble
from hub.protocol.connect_requests import StreamQuery, decode_stream_query

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # else nginx buffers events until it has more of them
    hdrs.CONNECTION: "close",  # the body ends with it
}


class _StreamConnection(Link):
    """The protocol of a stream's connection. Bytes after the request are ignored."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.hub)
        self._stream = stream

    def _join(self, transport: Transport) -> Client:
        return self._stream.open(transport)


async def events(request: web.Request) -> web.Response:
    """Make the request's connection a stream of the hub.

    If the server is full, or the client's address is over a limit, a browser gets a stream that
    ends after its `retry` field, because `EventSource` does not reconnect after a status other than
    200.
    """
    refuse_while_draining(request)
    app = request.app
    try:
        limit_connects(request)
        query = _query(request)
        refuse_if_full(request)
    except (web.HTTPTooManyRequests, web.HTTPServiceUnavailable) as error:
        if "text/event-stream" not in request.headers.get(hdrs.ACCEPT, ""):
            raise
        response = web.Response(body=preamble(), headers=_HEADERS)
        response[REASON], response[TEXT] = error[REASON], error.text or error.reason
        response.force_close()
        return response
    who = caller(request)
    refusal = app[SERVICE].check_stream(who, query.topics)
    if refusal is not None:
        return refuse(refusal)
    head = await _head(request)
    stream = Stream(app[SERVICE], app[DRAIN], who, address_of(request), query)
    return take_over(request, Upgrade(head + preamble(), _StreamConnection(stream)))


def _query(request: web.Request) -> StreamQuery:
    """Return the topics and positions that a request asks for.

    Raises:
        HTTPBadRequest: the query is invalid, or has more topics than a client may have.
    """
    last_event_id = request.headers.get("Last-Event-ID", "")
    max_topic_bytes = request.app[SETTINGS].max_topic_bytes
    query = decode_stream_query(query_fields(request), last_event_id, max_topic_bytes)
    if isinstance(query, Refusal):
        raise bad_request(query.code, query.text)
    limit_subscriptions(request, len(query.topics))
    return query


async def _head(request: web.Request) -> bytes:
    """Return the head of the response, with the CORS headers that every response has."""
    response = web.Response(headers={hdrs.DATE: formatdate(usegmt=True), **_HEADERS})
    await request.app.on_response_prepare.send(request, response)
    lines = [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("utf-8", "surrogateescape")
