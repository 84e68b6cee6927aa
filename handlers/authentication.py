"""The credentials of requests: where they are found, and how an invalid one is answered."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Final, NamedTuple

from aiohttp import hdrs, web

from handlers.answers import CONNECT, EVENTS, access_error, bad_request
from handlers.keys import AUTHENTICATOR, SERVICE
from handlers.limits import limit_guesses
from handlers.requests import (
    PRINCIPAL,
    REFUSED,
    TOKEN_FIELD,
    has_token_in_url,
    header_list,
    query_fields,
)
from hub.access import Principal
from hub.auth.tokens import Problem
from hub.errors import ErrorCode, Refusal
from hub.sessions import BANNED

BEARER: Final = "bearer"  # the subprotocol before a token, and the scheme of `Authorization`
_API_KEY: Final = "X-API-Key"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Credential(NamedTuple):
    """A token or API key, as a request has it."""

    text: str
    is_key: bool = False  # sent as X-API-Key
    is_visible: bool = True  # whether the client sees the status that refuses it


@web.middleware
async def authenticate(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Identify the caller of a request by its credential.

    A request with an invalid credential gets 401, and one of a banned subject 403. Browsers hide
    the status of a failed handshake from a page, so `/ws` accepts the connection and closes it,
    if the credential was in the query or the subprotocol.
    """
    credential = find_credential(request)
    if credential is not None:
        refusal = await _identify(request, credential)
        if refusal is not None:
            if credential.is_visible or request.path != CONNECT:
                limit_guesses(request)
                raise access_error(refusal)
            request[REFUSED] = refusal
    return await handler(request)


def has_credential(request: web.Request) -> bool:
    """Return whether a request has a credential, or one that cannot be read."""
    try:
        return find_credential(request) is not None
    except web.HTTPBadRequest:
        return True


def find_credential(request: web.Request) -> Credential | None:
    """Return the credential of a request; None if it has none.

    Raises:
        HTTPBadRequest: it has more than one.
    """
    found = [
        Credential(text.strip())
        for value in request.headers.getall(hdrs.AUTHORIZATION, ())
        for scheme, _, text in [value.partition(" ")]
        if scheme.lower() == BEARER
    ]
    found += [Credential(it, is_key=True) for it in request.headers.getall(_API_KEY, ())]
    if request.path in (CONNECT, EVENTS):
        if has_token_in_url(request):
            found += [
                Credential(value, is_visible=False)
                for name, value in query_fields(request)
                if name == TOKEN_FIELD
            ]
        if request.path == CONNECT:
            found += [Credential(it, is_visible=False) for it in _subprotocol_tokens(request)]
    if len(found) > 1:
        text = "There is more than one token or API key: send one"
        raise bad_request(ErrorCode.INVALID_MESSAGE, text)
    return found[0] if found else None


def _subprotocol_tokens(request: web.Request) -> list[str]:
    """Return the tokens: the entry after each `bearer` in `Sec-WebSocket-Protocol`."""
    offered = header_list(request.headers, hdrs.SEC_WEBSOCKET_PROTOCOL)
    return [token for name, token in pairwise(offered) if name == BEARER]


async def _identify(request: web.Request, credential: Credential) -> Refusal | None:
    """Set the request's principal, or return why the credential is refused."""
    authenticator, sessions = request.app[AUTHENTICATOR], request.app[SERVICE].sessions
    result: Principal | Problem | None
    if credential.is_key:
        result = authenticator.find_key(credential.text)
    elif credential.is_visible:
        result = await authenticator.verify_bearer(credential.text)
    else:  # an API key is not for URLs
        result = await authenticator.verify_token(credential.text)
    if result is None:
        return Refusal(ErrorCode.UNAUTHORIZED, "The API key is not valid")
    if isinstance(result, Problem):
        return Refusal(ErrorCode.UNAUTHORIZED, f"Token is not valid: {result.text}")
    if sessions.is_banned(result):
        return BANNED
    if request.path in (CONNECT, EVENTS) and not sessions.may_connect(result):
        return Refusal(ErrorCode.FORBIDDEN, "The token gives no rights")
    request[PRINCIPAL] = result
    return None
