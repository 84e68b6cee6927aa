"""JSON responses, request bodies, and the errors that all handlers share."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import ETag, HttpVersion11, StreamReader, hdrs, web

from handlers.keys import DRAIN, HUB, OBSERVER, READINESS, SERVICE, SETTINGS, SHUTDOWN
from handlers.requests import PRINCIPAL, has_token_in_url, header_tokens, request_fields
from hub.brokers.base import ClusterStats
from hub.errors import ErrorCode, Refusal, RefusalReason, RequestRefusal
from hub.logs import events
from hub.protocol.http_requests import MAX_BATCH_BYTES
from hub.protocol.replies import encode_answer
from hub.protocol.validation import MAX_ELEMENTS, TOO_MANY_ELEMENTS, has_too_many_elements
from hub.reports import ConnectionKind, Limit
from hub.values import Json

RETRY_AFTER: Final = "5"  # seconds; by then another server is ready, or this one has restarted

# The paths on which a request becomes a client's connection.
CONNECT: Final = "/ws"
EVENTS: Final = "/events"
_KINDS: Final = {CONNECT: ConnectionKind.WEBSOCKET, EVENTS: ConnectionKind.SSE}
BATCH: Final = "/publish/batch"  # the only path whose bodies may be larger than a message

BODY_TIMEOUT: Final = 30.0  # seconds for a body to arrive
_PIECES: Final = 100  # pieces of a body that are taken in one tick

_STATUS: Final = {
    ErrorCode.TOPIC_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.TOPIC_EXISTS: HTTPStatus.CONFLICT,
    ErrorCode.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.LIMIT_EXCEEDED: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}

# The key of a response by which `errors_as_json` knows that the request was refused.
REASON: Final = web.ResponseKey[RefusalReason]("reason")

# The text of the refusal, for the log.
TEXT: Final = web.ResponseKey[str]("text")

# Statuses that are logged on every path. On the paths of connections, every refusal is logged.
_LOGGED: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)

# The reasons of errors that have no REASON, by status. The reason of all others is BAD_REQUEST.
_REASONS: Final[dict[int, RequestRefusal]] = {
    HTTPStatus.FORBIDDEN: RequestRefusal.ORIGIN,
    HTTPStatus.NOT_FOUND: RequestRefusal.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: RequestRefusal.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: RequestRefusal.TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: RequestRefusal.TOO_LARGE,
    HTTPStatus.MISDIRECTED_REQUEST: RequestRefusal.HOST,
}

# Headers of an aiohttp error that are copied to its JSON response.
_KEPT: Final = (
    hdrs.ALLOW,
    hdrs.CONNECTION,
    hdrs.RETRY_AFTER,
    hdrs.SEC_WEBSOCKET_VERSION,
    hdrs.UPGRADE,
    hdrs.WWW_AUTHENTICATE,
)

_Result = TypeVar("_Result")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answer(web.Response):
    """A response that is freed as soon as its connection is lost.

    aiohttp's writer waits for a slow client in a future. The traceback of that future's exception
    has frames that refer to the future, so the body would stay in a reference cycle.
    """

    async def write_eof(self, data: bytes = b"") -> None:
        try:
            await super().write_eof(data)
        except ConnectionError as error:
            raise error.with_traceback(None)  # noqa: B904  it is the same error


def answer(fields: dict[str, Json], status: int = HTTPStatus.OK) -> web.Response:
    """Return a response with `fields` as its JSON body."""
    return answer_json(encode_answer(fields), status)


def answer_file(request: web.Request, body: bytes, content_type: str, etag: str) -> web.Response:
    """Answer with a file, or with 304 if the client has the same version.

    Clients may keep the file, but must ask each time whether it has changed.

    Args:
        request: may have `If-None-Match`.
        body: the content.
        content_type: with the charset, if any.
        etag: names the version.
    """
    known = {it.value for it in request.if_none_match or ()}
    if etag in known or "*" in known:
        response = web.Response(status=HTTPStatus.NOT_MODIFIED)
    else:
        response = Answer(body=body)
        response.headers[hdrs.CONTENT_TYPE] = content_type
    response.etag = ETag(etag)
    response.headers[hdrs.CACHE_CONTROL] = "no-cache"
    return response


def answer_json(body: bytes, status: int = HTTPStatus.OK) -> web.Response:
    """Return a response for a body that is JSON already."""
    return Answer(body=body, status=status, content_type="application/json")


def refuse(refusal: Refusal) -> web.Response:
    """Return the response for a refusal, with the status of its code; 400 if it has none."""
    status = _STATUS.get(refusal.code, HTTPStatus.BAD_REQUEST)
    response = answer({"error": refusal.text}, status)
    response[REASON], response[TEXT] = refusal.code, refusal.text
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers[hdrs.RETRY_AFTER] = RETRY_AFTER
    elif status == HTTPStatus.UNAUTHORIZED:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return response


def bad_request(code: ErrorCode, text: str) -> web.HTTPBadRequest:
    """Return the error for a request that would be refused with `code` as a command."""
    error = web.HTTPBadRequest(text=text)
    error[REASON] = code
    return error


def raise_refusal(refusal: Refusal | None) -> None:
    """Raise the error for a caller that is refused; do nothing if there is no refusal."""
    if refusal is not None:
        raise access_error(refusal)


def access_error(refusal: Refusal) -> web.HTTPException:
    """Return the error for a caller that is unknown (401) or lacks a right (403)."""
    error: web.HTTPException
    if refusal.code is ErrorCode.FORBIDDEN:
        error = web.HTTPForbidden(text=refusal.text)
    else:
        headers = {hdrs.WWW_AUTHENTICATE: "Bearer"}
        error = web.HTTPUnauthorized(text=refusal.text, headers=headers)
    error[REASON] = refusal.code
    return error


def degraded(cluster: ClusterStats | None) -> dict[str, Json]:
    """Return the field that marks an answer in which the stats of other nodes are missing."""
    return {"degraded": True} if cluster is not None and cluster.degraded else {}


def awaitable() -> tuple[asyncio.Future[_Result], Callable[[_Result], None]]:
    """Return a future, and the callback that completes it when the hub or broker is done."""
    future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()

    def done(result: _Result) -> None:
        if not future.done():  # the request may have been cancelled meanwhile
            future.set_result(result)

    return future, done


async def outcome_of(call: Callable[[Callable[[_Result], None]], object]) -> _Result:
    """Make a call of the hub or broker, and return the result that it is done with.

    `call`: the call, without its last argument `done`.
    """
    future: asyncio.Future[_Result]
    future, done = awaitable()
    call(done)
    return await future


def body_limit(request: web.Request) -> int:
    """Return the maximum size of a request's body, in bytes."""
    return MAX_BATCH_BYTES if request.path == BATCH else request.client_max_size


async def read_body(request: web.Request) -> bytes:
    """Read a request's body.

    Raises:
        HTTPException: the body is too large, encoded, malformed or slow. Or the caller was banned,
            or its token ended, while the body arrived.
        CancelledError: the client has disconnected.
    """
    if not {"", "identity"}.issuperset(header_tokens(request.headers, hdrs.CONTENT_ENCODING)):
        # The message does not quote the encoding: a header may hold bytes that are not text.
        raise web.HTTPUnsupportedMediaType(text="A body with a Content-Encoding is not understood")
    limit = body_limit(request)
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit)
    try:
        if "100-continue" in header_tokens(request.headers, hdrs.EXPECT):
            await _continue(request)
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await _collect(request.content, limit)
    except TimeoutError:
        request.app[HUB].observer.limited(Limit.BODY_TIMEOUT)
        raise web.HTTPRequestTimeout(text="The body did not arrive in time") from None
    except web.RequestPayloadError:
        raise web.HTTPBadRequest(text="The body is not what its headers say") from None
    except ConnectionError as error:
        # aiohttp keeps the error in the body's reader, and the traceback refers to the reader.
        error.with_traceback(None)
        raise asyncio.CancelledError from None  # there is no client to answer
    if len(body) > MAX_ELEMENTS:
        if has_too_many_elements(body):
            request.app[HUB].observer.limited(Limit.ELEMENTS)
            raise bad_request(ErrorCode.INVALID_MESSAGE, TOO_MANY_ELEMENTS)
        await asyncio.sleep(0)  # parsing 4 MB is enough work for one tick
    who = request.get(PRINCIPAL)
    if who is not None:
        raise_refusal(request.app[SERVICE].sessions.refusal(who))
    return body


async def _collect(content: StreamReader, limit: int) -> bytes:
    """Return a whole body of at most `limit` bytes, taken in slices.

    A piece is a chunk of a chunked body, or else the bytes of one read of the socket. One read may
    bring 43,000 chunks of one byte. aiohttp's `Request.read` takes all of them in one tick, and
    parses more meanwhile: that takes 85 ms (measured on 2026-11-25).
    """
    body = bytearray()
    pieces = 0
    while not content.at_eof():
        piece, _ = await content.readchunk()
        body += piece
        if len(body) > limit:
            raise web.HTTPRequestEntityTooLarge(limit)
        pieces += 1
        if pieces % _PIECES == 0:
            await asyncio.sleep(0)
    return bytes(body)


async def _continue(request: web.Request) -> None:
    """Send `100 Continue` (RFC 9110 section 10.1.1) if the client speaks HTTP/1.1."""
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # else aiohttp would count it as a part of the response


def refuse_while_draining(request: web.Request) -> None:
    """Raise 503 if the server shuts down."""
    if request.app[DRAIN].begun:
        raise unavailable("Server is shutting down", RequestRefusal.SHUTDOWN)


def refuse_if_full(request: web.Request) -> None:
    """Raise 503 if there are MAX_CONNECTIONS WebSockets and streams."""
    if request.app[READINESS].full:
        request.app[HUB].observer.limited(Limit.MAX_CONNECTIONS)
        events.FULL.log(limit=request.app[SETTINGS].max_connections)
        raise unavailable("Server is full", RequestRefusal.FULL)


def too_many(refusal: Refusal) -> web.HTTPTooManyRequests:
    """Return a 429 with a `Retry-After` header, in whole seconds."""
    seconds = math.ceil(refusal.retry_after_ms / 1_000)
    headers = {hdrs.RETRY_AFTER: str(seconds) if seconds else RETRY_AFTER}
    error = web.HTTPTooManyRequests(text=refusal.text, headers=headers)
    error[REASON] = refusal.code
    return error


def unavailable(why: str, reason: RequestRefusal) -> web.HTTPServiceUnavailable:
    """Return a 503 with a `Retry-After` header."""
    error = web.HTTPServiceUnavailable(text=why, headers={hdrs.RETRY_AFTER: RETRY_AFTER})
    error[REASON] = reason
    return error


@web.middleware
async def close_in_shutdown(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Close the connection after each response once the shutdown has been announced."""
    response = await handler(request)
    if request.app[SHUTDOWN].announced:
        response.force_close()
    return response


@web.middleware
async def errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error of a request into a response with the body `{"error": …}`.

    Report every request that was refused, by an error or by a response with a REASON.
    """
    # From Python 3.12 on, aiohttp serves all requests that arrived in one read in one tick,
    # unless a handler awaits something.
    await asyncio.sleep(0)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _answer_error(request, error)
    except Exception as fault:
        # A fault of the server may be any exception. Without this, aiohttp would answer in HTML.
        events.REQUEST_FAULT.log(fault, **request_fields(request))
        return answer({"error": "Internal server error"}, HTTPStatus.INTERNAL_SERVER_ERROR)
    if REASON in response:
        _report(request, response)
    if request.path in (CONNECT, EVENTS) and has_token_in_url(request):
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def _report(request: web.Request, response: web.StreamResponse) -> None:
    """Report a refusal to the observer, and log it if it concerns access or a connection."""
    observer = request.app[OBSERVER]
    observer.refused(response[REASON])
    kind = _KINDS.get(request.path)
    if kind is not None:
        observer.not_connected(kind, response[REASON])
    if response[REASON] is RequestRefusal.FULL:
        return  # `refuse_if_full` has logged it
    if request.path in (CONNECT, EVENTS) or response.status in _LOGGED:
        log_refusal(request, response.status, response[REASON], response[TEXT])


def log_refusal(request: web.Request, status: int, reason: RefusalReason, detail: str) -> None:
    """Log that a request is refused; `detail` is for people."""
    events.REQUEST_REFUSED.log(
        **request_fields(request), status=status, reason=reason, detail=detail
    )


def _answer_error(request: web.Request, error: web.HTTPException) -> web.Response:
    response = answer({"error": _text(request, error)}, error.status)
    for name in _KEPT:
        if name in error.headers:
            response.headers[name] = error.headers[name]
    if error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.REQUEST_TIMEOUT):
        response.force_close()
    by_status = _REASONS.get(error.status, RequestRefusal.BAD_REQUEST)
    response[REASON], response[TEXT] = error.get(REASON, by_status), error.text or error.reason
    return response


def _text(request: web.Request, error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return f"Method {request.method} is not allowed here: {allowed}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return f"Body is too large: at most {body_limit(request)} bytes are allowed"
    if isinstance(error, web.HTTPNotFound):
        return f"No such path: {request.path}"
    return error.text or error.reason
