"""Parsers of queries and header lists that are stricter than aiohttp's."""

import sys
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from handlers.keys import ANONYMOUS, SETTINGS
from hub.access import Principal
from hub.addresses import block, client_address
from hub.errors import Refusal
from hub.event_log import caller_fields

# Set by `authenticate`. PRINCIPAL is the caller that a valid credential names. REFUSED is the
# refusal of an invalid one, if a Close must answer it.
PRINCIPAL: Final = web.RequestKey("principal", Principal)
REFUSED: Final = web.RequestKey("refused", Refusal)

TOKEN_FIELD: Final = "access_token"  # of a query, on the paths of connections


def query_fields(request: web.Request) -> list[tuple[str, str]]:
    """Return the fields of a request's query, in order.

    aiohttp's own decoding accepts bytes that are not UTF-8.

    Raises:
        HTTPBadRequest: the query is not UTF-8.
    """
    query = request.rel_url.raw_query_string
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise web.HTTPBadRequest(text="The query is not UTF-8") from None


def has_token_in_url(request: web.Request) -> bool:
    """Return whether a query may have a TOKEN_FIELD, also one with an encoded name."""
    return TOKEN_FIELD in request.query_string


def caller(request: web.Request) -> Principal:
    """Return the principal that makes a request."""
    return request.get(PRINCIPAL) or request.app[ANONYMOUS]


def address_of(request: web.Request) -> str:
    """Return the address of the client that sent a request; TRUSTED_PROXIES are skipped."""
    trusted = request.app[SETTINGS].trusted_proxies
    forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, ()) if trusted else ()
    # Interned, because each connection keeps the text, and many connections have the same address.
    return sys.intern(client_address(request.remote or "", ",".join(forwarded), trusted))


def request_fields(request: web.Request) -> dict[str, object]:
    """Return the fields of the log for a request, without the query, which may hold a token."""
    return {
        "method": request.method,
        "path": request.rel_url.raw_path,
        "address": address_of(request),
        **caller_fields(caller(request)),
    }


def counted_as(request: web.Request) -> tuple[str, str]:
    """Return the kind and the name under which a caller's requests are counted."""
    who = caller(request)
    if who.key_name:
        return "key", who.key_name
    if who.subject:
        return "subject", who.subject
    return "address", block(address_of(request))


def header_tokens(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return the lower-case members of a list header.

    The list may be spread over several header lines (RFC 9110 section 5.3).
    """
    return [token.lower() for token in header_list(headers, name)]


def header_list(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return the members of a list header, which may be spread over several lines."""
    if name not in headers:
        return []
    return [token.strip() for token in ",".join(headers.getall(name)).split(",")]
