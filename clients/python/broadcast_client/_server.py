"""The server of a client: its address, and the headers and TLS context of each request.

Handshakes and HTTP calls both use it. They follow no redirect, because a redirect could send the
token and the headers to another host.
"""

import os
import re
from collections.abc import Mapping
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from broadcast_client._token import Token

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})  # HTTP statuses

_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
_NAME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # of a header (RFC 9110, 5.6.2)
_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]*")


class Server:
    """The address of a server, with the headers and the TLS context for requests to it."""

    def __init__(
        self, url: str, token: Token, headers: Mapping[str, str] | None, ssl: SSLContext | None
    ) -> None:
        """Check the options of `connect`.

        Raises:
            TypeError: the headers are no mapping of strings.
            ValueError: an option cannot be used. The text has no secret.
        """
        shown = url.partition("?")[0].rpartition("@")[2]
        try:
            parts = urlsplit(url)
            known = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
            folder = parts.path.rpartition("/")[0]  # of HTTP calls: "/push" of "/push/ws"
            self._http = URL(f"{_SCHEMES.get(parts.scheme)}://{parts.netloc}{folder}")
            (parts.hostname or "").encode("idna")  # as for its look-up
        except ValueError:  # such as a port that is no number, or a name with an empty part
            known = None
        if not known:
            raise ValueError(f"url must be like ws://localhost:8080/ws, and not {shown!r}")
        self.url = url
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.ssl: SSLContext | bool = True if ssl is None else ssl
        self.token = token
        self._headers = _checked(headers or {})
        authorizations = {
            "token": token.given,
            "the header Authorization": any(it.lower() == "authorization" for it in self._headers),
            "a user in the url": parts.username is not None,
        }
        given = [name for name, is_given in authorizations.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")

    def headers(self, token: str | None) -> dict[str, str]:
        """Return the headers of a request with this token."""
        if token is None:
            return self._headers
        return {**self._headers, "Authorization": f"Bearer {token}"}

    def http_url(self, path: str) -> URL:
        """Return the URL of an HTTP call.

        `path`: URL-encoded, with a slash at the beginning.
        """
        whole = self._http.raw_path.rstrip("/") + path
        return self._http.with_path(whole, encoded=True)  # not normalised: a topic may be ".."


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise TypeError('headers must be a mapping such as {"X-Tenant": "blue"}')
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"headers: {name!r} and its value must be strings")
        if not _NAME.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name} has a control character")
    return dict(headers)


def describe_redirect(status: int, location: str) -> str:
    """Return a reason for people, without the query of the redirect, which may have a secret."""
    target = location.partition("?")[0]
    return f"HTTP status {status}: a redirect to {target}, which is not followed"


def describe_failure(error: aiohttp.ClientError | OSError) -> str:
    """Return a reason for people, without URLs and headers, which may have a secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = getattr(error.certificate_error, "verify_message", error.certificate_error)
        return f"the certificate is not trusted: {said}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"no TLS connection: {getattr(error.os_error, 'reason', None) or error.os_error}"
    if isinstance(error, aiohttp.ClientResponseError):
        what = error.message.partition("\n")[0].rstrip(":")
        return f"no valid answer ({type(error).__name__} {what})"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server hung up without an answer"
    if isinstance(error, OSError) and error.errno:
        # Negative numbers are those of getaddrinfo.
        words = os.strerror(error.errno) if error.errno > 0 else error.strerror
        return str(words)[:1].lower() + str(words)[1:]
    return f"no connection ({type(error).__name__})"
