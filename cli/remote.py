"""Requests to a running server."""

import http.client
import json
import select
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

from cli.address import Address
from cli.output import CommandError, Exit
from hub.version import VERSION

TIMEOUT: Final = 30.0  # seconds for a connect, and for an answer
_NOT_ALLOWED: Final = (401, 403)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_WRONG_HOST: Final = 421
_NO_HANDSHAKE: Final = 426  # a request for /ws that is no handshake
_TOO_MANY: Final = 429


class RefusedError(CommandError):
    """The server has not carried out a request."""

    def __init__(self, status: int, text: str, retry_after: int | None) -> None:
        super().__init__(_code(status), text)
        self.status = status  # of HTTP
        self.retry_after = retry_after  # seconds after which it may succeed


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Remote:
    """A server, and a connection to it that stays open until the end of a `with` block."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._headers = {"User-Agent": f"websocket-broadcast/{VERSION}"}
        if address.credential is not None:
            self._headers["Authorization"] = f"Bearer {address.credential}"
        kind = http.client.HTTPSConnection if address.secure else http.client.HTTPConnection
        self._connection = kind(address.host, address.port, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def probe(self) -> None:
        """Ask for `/live`, which shows whether the server is there and accepts the credential.

        A proxy that does not pass `/live` on is no error.

        Raises:
            RefusedError: the credential is not accepted.
            CommandError: there is no answer, or a redirect.
        """
        answer = self._send("GET", "/live", None, {})
        if answer.status in _NOT_ALLOWED or answer.status in _REDIRECTS:
            self._read(answer, ())

    def explain(self) -> None:
        """Find out why a handshake was refused, by a plain request for `/ws`.

        Raises:
            CommandError: with the reason, if the answer has one.
        """
        answer = self._send("GET", "/ws", None, {})
        if answer.status != _NO_HANDSHAKE:
            self._read(answer, ())

    def get(self, path: str, *fields: str, **query: str) -> dict[str, Any]:
        """Return the answer to a GET request; the errors are those of `post`.

        Args:
            path: of the request.
            fields: which the answer must have.
            query: its fields.
        """
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, fields)

    def delete(self, path: str) -> dict[str, Any]:
        """Return the answer to a DELETE request; the errors are those of `post`."""
        return self._call("DELETE", path, ("status",))

    def post(self, path: str, body: bytes, *, key: str = "") -> dict[str, Any]:
        """Send a body, and return the object in the answer.

        Args:
            path: of the request.
            body: JSON.
            key: an idempotency key.

        Raises:
            RefusedError: the server did not carry the request out.
            CommandError: the server cannot be reached, or is not one of ours.
        """
        headers = {"Idempotency-Key": key} if key else {}
        return self._call("POST", path, ("status",), body, headers)

    def _call(
        self,
        method: str,
        path: str,
        fields: Sequence[str],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        return self._read(self._send(method, path, body, headers or {}), fields)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> _Answer:
        path = self._address.path + path
        try:
            return self._exchange(method, path, body, {**self._headers, **headers})
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(_reason(error)) from None

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> _Answer:
        used = self._connection.sock
        if used is not None and select.select([used], [], [], 0)[0]:
            self._connection.close()  # the server has closed it; the request opens another one
        try:
            self._connection.request(method, path, body, headers)
        except ConnectionError:
            if self._connection.sock is None:  # no connection could be made
                raise
            # The server may have answered before it had the whole body, for example with 413.
        response = self._connection.getresponse()
        return _Answer(response.status, response.headers, response.read())

    def _read(self, answer: _Answer, fields: Sequence[str]) -> dict[str, Any]:
        if answer.status in _REDIRECTS:
            place = answer.headers.get("Location", "another place")
            raise self._unreachable(f"it redirects to {place}, which is not followed")
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        needed = fields if answer.status < 300 else ("error",)
        if not isinstance(content, dict) or any(name not in content for name in needed):
            raise self._unreachable(f"it is not a server of this kind (HTTP {answer.status})")
        if answer.status < 300:
            return content
        text = str(content["error"])
        if answer.status == _WRONG_HOST:
            text += " (--url must have one of its ALLOWED_HOSTS)"
        wait = answer.headers.get("Retry-After", "")
        seconds = int(wait) if wait.isascii() and wait.isdigit() else None
        if seconds is not None:
            text += f" (try again in {seconds} s)"
        raise RefusedError(answer.status, text, seconds)

    def _unreachable(self, why: str) -> CommandError:
        return CommandError(Exit.UNREACHABLE, f"cannot reach {self._address.url('http')}: {why}")


def _code(status: int) -> Exit:
    if status in _NOT_ALLOWED:
        return Exit.NOT_ALLOWED
    if status == _TOO_MANY or status >= 500:
        return Exit.UNREACHABLE
    return Exit.REFUSED


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT:g} s"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "it closed the connection without an answer"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"it does not speak HTTP ({type(error).__name__})"
