"""Take over a connection from aiohttp. Only this module uses private names of aiohttp.

aiohttp keeps two tasks and a parser for each connection, also while it is idle. A connection with
a protocol of ours needs none of them. It works with aiohttp 3.14.5, which requirements.lock pins;
tests/handlers/test_takeover.py fails if an upgrade breaks it.

A new connection begins with `FirstRequest`. If its first bytes are the request of an upgrade, it
is taken over at once. Any other connection is given to aiohttp, whose handler may take it over.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final, NamedTuple, NoReturn, cast

from aiohttp import StreamReader, hdrs, web

# `unmask(mask, data)` unmasks `data` in place, in C (RFC 6455 section 5.3).
from aiohttp._websocket.helpers import websocket_mask as unmask
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from handlers.answers import answer

# The protocol that has taken over the connection of a request.
TAKEN_OVER: Final = web.RequestKey("taken_over", asyncio.Protocol)

__all__ = [
    "TAKEN_OVER",
    "FirstRequest",
    "Shortcut",
    "Upgrade",
    "close_idle",
    "close_longest_idle",
    "late_heads",
    "raise_first_refusal",
    "take_over",
    "unmask",
]

# Bytes of a request's path and query. With 64 topics of 255 bytes, all URL-encoded, the topics of
# a WebSocket take 49 KB, their positions 6 KB and a token 8 KB.
MAX_TARGET_BYTES: Final = 65_536
MAX_HEADER_BYTES: Final = 9_216  # bytes of a header, which may have a token of 8,192
_HEAD_END: Final = b"\r\n\r\n"
_PARSER: Final = 65_536  # bytes of a body that aiohttp's parser buffers; an upgrade has no body


class Upgrade(NamedTuple):
    """The end of HTTP on a connection: its last response, and the protocol that follows."""

    response: bytes
    protocol: asyncio.Protocol  # handles the bytes after the request


class Shortcut:
    """Upgrades connections by their first request, without the tasks of aiohttp.

    It costs half of what an upgrade by a handler costs (docs/decisions/0061).
    """

    def __init__(
        self,
        app: web.Application,
        path: str,
        upgrade: Callable[[web.Request], Upgrade | None],
    ) -> None:
        """Create the shortcut for GET requests of a path.

        Args:
            app: the application, with all routes.
            path: of a route without variables.
            upgrade: returns the upgrade, or None if the middlewares and the handler must see the
                request. It raises the HTTPException that the handler is to raise.
        """
        self._app = app
        self._start = f"{hdrs.METH_GET} {path}".encode()
        self._path = path
        self._upgrade = upgrade
        (route,) = (
            it
            for it in app.router.routes()
            if it.method == hdrs.METH_GET and it.resource and it.resource.canonical == path
        )
        self._match = UrlMappingMatchInfo({}, route)
        self._match.add_app(app)
        self._match.freeze()

    def may_match(self, data: bytes) -> bool:
        """Return whether the first bytes of a connection may be a head for this shortcut.

        Nothing may follow the head: only aiohttp's protocol can take a body.
        """
        return data.startswith(self._start) and data.find(_HEAD_END) == len(data) - len(_HEAD_END)

    def upgrade(self, data: bytes, connection: "FirstRequest") -> Upgrade | None:
        """Return the upgrade that a connection asks for; None to leave the connection to aiohttp.

        Raises:
            HTTPException: the upgrade is refused.
        """
        loop = asyncio.get_running_loop()
        # aiohttp's parser and request need a protocol: `connection` has the attributes they use.
        protocol = cast(RequestHandler, connection)
        parser = HttpRequestParser(
            protocol,
            loop,
            _PARSER,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_msg_queue_size=2,
            auto_decompress=False,
        )
        try:
            messages, upgraded, _ = parser.feed_data(data)
        except HttpProcessingError:
            return None
        if not upgraded:
            return None
        ((message, payload),) = messages
        if message.url.raw_path != self._path:
            return None
        nothing: Any = None  # there is no writer and no task
        request = web.Request(message, payload, protocol, nothing, nothing, loop)
        request._match_info = self._match
        return self._upgrade(request)


class FirstRequest(asyncio.Protocol):
    """The protocol of a new connection until its first bytes have arrived.

    Until then it is one of the connections of aiohttp's server, and has the methods of a
    RequestHandler that the server calls. So the server can close it like an idle connection.
    """

    __slots__ = ("_server", "_shortcut", "head_since", "transport")

    # The attributes of a protocol that aiohttp's requests read.
    ssl_context = None
    sockname = None
    _task_handler = None

    def __init__(self, server: web.Server, shortcut: Shortcut | None) -> None:
        self._server = server
        self._shortcut = shortcut

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport | None = cast(asyncio.Transport, transport)
        self.head_since = asyncio.get_running_loop().time()
        self._server.connection_made(cast(RequestHandler, self), self.transport)

    def data_received(self, data: bytes) -> None:
        transport, refusal = self.transport, None
        if transport is None:
            return
        if self._shortcut is not None and self._shortcut.may_match(data):
            try:
                upgrade = self._shortcut.upgrade(data, self)
            except web.HTTPException as error:
                # Without the traceback, which refers to this frame and so to the error.
                refusal = error.with_traceback(None)
            else:
                if upgrade is not None:
                    self._leave()
                    transport.write(upgrade.response)
                    transport.set_protocol(upgrade.protocol)
                    upgrade.protocol.connection_made(transport)
                    return
        self._leave()
        protocol = _http_protocol(self._server)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.head_since, protocol.refusal = self.head_since, refusal
        protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        """Give up the transport, and leave the connections of aiohttp's server."""
        self.transport = None
        self._server.connection_lost(cast(RequestHandler, self))

    @property
    def peername(self) -> Any:
        """The address of the other side."""
        return None if self.transport is None else self.transport.get_extra_info("peername")

    @property
    def idle_since(self) -> float | None:
        """The time since which no request is in progress."""
        return self.head_since

    def force_close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.close()

    close = force_close

    async def shutdown(self, _timeout: float | None = None) -> None:
        """Close the connection, as aiohttp's server asks for at its end."""
        self.force_close()


class _TimedHeads(RequestHandler):
    """aiohttp's protocol of a connection, which also knows since when a head has been arriving.

    Bytes that belong to no body and complete no head are a part of a head. If such a part arrives
    in one read together with the end of the request before it, it is noticed only when the next
    part arrives. Until then the connection counts as idle, and aiohttp's keepalive_timeout ends it.
    """

    __slots__ = ("_body", "head_since", "refusal")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._body: StreamReader | None = None  # of the newest request
        self.head_since: float | None = self._loop.time()  # None while no head is arriving
        self.refusal: web.HTTPException | None = None  # of the first request, by the shortcut
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        in_body = self._body is not None and not self._body.is_eof()
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self.head_since = None
            self._body = self._messages[-1][1] if self._messages else None
        elif in_body or self._upgraded:
            self.head_since = None
        elif data and self.head_since is None:
            self.head_since = self._loop.time()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP without quoting it, as aiohttp would: it may have a token."""
        if message is None or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, LineTooLong):
            response = _answer_long_head(exc)
        else:
            response = web.Response(status=status, text="The request is not valid HTTP")
        response.force_close()
        return response

    @property
    def idle_since(self) -> float | None:
        """The time since which no request is in progress; None if one is."""
        waiting = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time - self._keepalive_timeout if waiting else None


def _answer_long_head(error: LineTooLong) -> web.Response:
    """Return the answer to a target or header that is too long; the error's limit says which."""
    _, limit, *_ = error.args
    if limit == MAX_TARGET_BYTES:
        status, part = HTTPStatus.REQUEST_URI_TOO_LONG, "Path and query are"
    else:
        status, part = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "A header is"
    return answer({"error": f"{part} too long: at most {limit} bytes are allowed"}, status)


def _http_protocol(server: web.Server) -> _TimedHeads:
    return _TimedHeads(server, loop=server._loop, **server._kwargs)


def raise_first_refusal(request: web.Request) -> None:
    """Raise the refusal of a request, if the shortcut has refused it already.

    The shortcut has counted and reported the refusal, so the handler must not check again.
    """
    protocol = request.protocol
    assert isinstance(protocol, _TimedHeads)
    refusal, protocol.refusal = protocol.refusal, None
    if refusal is not None:
        try:
            raise refusal
        finally:
            del refusal  # its traceback refers to this frame


def late_heads(servers: Iterable[web.Server], since: float) -> list[asyncio.Transport]:
    """Return the connections on which a request's head began to arrive at `since` or before.

    `since`: in seconds of the loop's clock. Connections with a request in progress are left out.
    """
    return [
        it.transport
        for server in servers
        for it in _idle(server)
        if it.transport is not None and it.head_since is not None and it.head_since <= since
    ]


def close_idle(server: web.Server) -> None:
    """Close the connections of a server that have no request in progress."""
    for connection in _idle(server):
        connection.force_close()


def close_longest_idle(server: web.Server) -> None:
    """Close an eighth of the idle connections, those that have been idle for longest.

    Each call scans all connections. It closes many of them, so that not every new connection needs
    a call.
    """
    idle = sorted(_idle(server), key=lambda it: it.idle_since or 0.0)
    for connection in idle[: len(idle) // 8 + 1]:
        connection.force_close()


def _idle(server: web.Server) -> Iterator[FirstRequest | _TimedHeads]:
    for connection in cast(list[FirstRequest | _TimedHeads], server.connections):
        if connection.idle_since is not None:
            yield connection


def take_over(request: web.Request, upgrade: Upgrade) -> NoReturn:
    """Write the response to a request's connection, and replace the connection's protocol.

    Call the protocol's `connection_made`, then `data_received` with the bytes after the request,
    if any. Neither is called if the client has disconnected.

    Raises:
        CancelledError: always; it ends aiohttp's task for the request without another response.
    """
    transport = request.transport
    if transport is None:
        raise asyncio.CancelledError
    was = request.protocol
    tail = was._message_tail
    response, protocol = upgrade
    transport.write(response)
    transport.set_protocol(protocol)
    request[TAKEN_OVER] = protocol
    # This frees aiohttp's task, its parser and its entry in the server's connections. Without a
    # transport it cannot close the socket.
    was.transport = None
    was.connection_lost(None)
    transport.resume_reading()  # aiohttp has paused it if much has arrived after the request
    protocol.connection_made(transport)  # which may pause it again
    if tail:
        protocol.data_received(tail)
    raise asyncio.CancelledError
