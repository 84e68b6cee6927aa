"""`GET /ws`: the opening handshake of RFC 6455 section 4.2."""

import base64
import binascii
import hashlib
from typing import NoReturn

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDictProxy

from handlers.answers import (
    CONNECT,
    bad_request,
    log_refusal,
    refuse_if_full,
    refuse_while_draining,
)
from handlers.authentication import BEARER, has_credential
from handlers.connection import Connection, Handshake, LimitedConnection, RefusedConnection
from handlers.keys import DISPATCHER, HUB, INFLOW_RATES, SETTINGS
from handlers.limits import limit_connects, limit_subscriptions
from handlers.origins import sender_refusal
from handlers.requests import (
    REFUSED,
    address_of,
    caller,
    has_token_in_url,
    header_list,
    header_tokens,
    query_fields,
)
from handlers.takeover import Shortcut, Upgrade, raise_first_refusal, take_over, unmask
from hub.errors import FORBIDDEN, UNAUTHORIZED, ErrorCode, Refusal
from hub.limits import Inflow
from hub.protocol.connect_requests import decode_connect_query
from hub.protocol.websocket_frames import FrameReader
from hub.wires import WIRES

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3


async def upgrade(request: web.Request) -> NoReturn:
    """Make the request's connection a WebSocket connection of the hub."""
    raise_first_refusal(request)
    take_over(request, _upgrade(request))


def shortcut(app: web.Application) -> Shortcut:
    """Return the shortcut for handshakes that are the first request of a connection."""
    return Shortcut(app, CONNECT, _upgrade_at_once)


def _upgrade_at_once(request: web.Request) -> Upgrade | None:
    """Return the upgrade to WebSocket of a request that no middleware has seen.

    None leaves a request to them that they would refuse, or that has a credential.

    Raises:
        HTTPException: the handshake is refused.
    """
    if sender_refusal(request) is not None:
        return None
    if request.app[SETTINGS].access_on and has_credential(request):
        return None
    return _upgrade(request)


def _upgrade(request: web.Request) -> Upgrade:
    """Check a handshake, and return its answer and the protocol of the connection.

    Raises:
        HTTPException: the handshake is refused.
    """
    refuse_while_draining(request)
    limit_connects(request)
    accept = _accept(request)
    max_topic_bytes = request.app[SETTINGS].max_topic_bytes
    query = decode_connect_query(query_fields(request), max_topic_bytes)
    if isinstance(query, Refusal):
        raise bad_request(query.code, query.text)
    limit_subscriptions(request, len(query.subscribes))
    refuse_if_full(request)
    offered = header_list(request.headers, hdrs.SEC_WEBSOCKET_PROTOCOL)
    wire = next((it for it in offered if it in WIRES), "")
    handshake = Handshake(
        name=query.client_id,
        principal=caller(request),
        address=address_of(request),
        framing=WIRES[wire](),
        subscribes=query.subscribes if REFUSED not in request else (),
    )
    subprotocol = wire or (BEARER if BEARER in offered else "")
    return Upgrade(_head(request, accept, subprotocol), _connection(request, handshake))


def _head(request: web.Request, accept: bytes, subprotocol: str) -> bytes:
    """Return the response that accepts a handshake; an empty `subprotocol` selects none."""
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n" % accept
    )
    if subprotocol:
        head += b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode()
    if has_token_in_url(request):
        head += b"Cache-Control: no-store\r\n"
    return head + b"\r\n"


def _connection(request: web.Request, handshake: Handshake) -> Connection:
    """Return the protocol of a new connection, which is closed at once if its token is refused."""
    app = request.app
    hub, dispatcher, rates = app[HUB], app[DISPATCHER], app[INFLOW_RATES]
    reader = FrameReader(app[SETTINGS].max_message_bytes, unmask)
    refusal = request.get(REFUSED)
    if refusal is not None:
        log_refusal(request, 101, refusal.code, refusal.text)
        hub.observer.refused(refusal.code)
        close = FORBIDDEN if refusal.code is ErrorCode.FORBIDDEN else UNAUTHORIZED
        return RefusedConnection(hub, dispatcher, reader, handshake, close=close)
    if any(rates):
        return LimitedConnection(hub, dispatcher, reader, handshake, inflow=Inflow(rates))
    return Connection(hub, dispatcher, reader, handshake)


def _accept(request: web.Request) -> bytes:
    """Check the headers of the handshake, and return the value of `Sec-WebSocket-Accept`.

    Raises:
        HTTPException: the request is not an upgrade to WebSocket.
    """
    headers = request.headers
    if (
        request.version < HttpVersion11
        or "websocket" not in header_tokens(headers, hdrs.UPGRADE)
        or "upgrade" not in header_tokens(headers, hdrs.CONNECTION)
    ):
        text = "This is a WebSocket endpoint: connect with a WebSocket client"
        raise web.HTTPUpgradeRequired(text=text, headers=_offer(request))
    if _single(headers, hdrs.SEC_WEBSOCKET_VERSION) != "13":
        raise web.HTTPUpgradeRequired(
            text="Sec-WebSocket-Version must be 13",
            headers={**_offer(request), hdrs.SEC_WEBSOCKET_VERSION: "13"},
        )
    key = _single(headers, hdrs.SEC_WEBSOCKET_KEY)
    if not _is_nonce(key):
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in Base64")
    if request.can_read_body:
        raise web.HTTPBadRequest(text="An upgrade request must not have a body")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())


def _offer(request: web.Request) -> dict[str, str]:
    """Return the headers of a 426 (RFC 9110 section 7.8)."""
    connection = "Upgrade" if request.keep_alive else "Upgrade, close"
    return {hdrs.UPGRADE: "websocket", hdrs.CONNECTION: connection}


def _single(headers: CIMultiDictProxy[str], name: str) -> str:
    """Return a header that must not be repeated (RFC 6455 section 11.3), or an empty string.

    Raises:
        HTTPBadRequest: the header is repeated.
    """
    values = headers.getall(name, ("",))
    if len(values) > 1:
        raise web.HTTPBadRequest(text=f"{name} must not be repeated")
    return values[0]


def _is_nonce(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
