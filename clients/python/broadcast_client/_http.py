"""HTTP calls to the server, for what the WebSocket has no command.

State: an HTTP session, whose connections are reused.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import aiohttp

from broadcast_client._connection import REPEATABLE, pause
from broadcast_client._items import RefusedError
from broadcast_client._server import REDIRECTS, Server, describe_failure, describe_redirect
from broadcast_client._token import TokenError

# The codes of refusals by HTTP status. 408 and 5xx are UNAVAILABLE, and all others REFUSED.
_CODES: Final = {
    400: "INVALID_MESSAGE",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "UNAVAILABLE",
    410: "GONE",
    413: "TOO_BIG",
    429: "RATE_LIMITED",
}


class Http:
    """The HTTP calls of a client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        self._over = asyncio.Event()

    async def get(
        self, path: str, query: Mapping[str, str], timeout: float | None
    ) -> dict[str, Any]:
        """Return the answer to a GET.

        Args:
            path: begins with a slash, and is URL-encoded.
            query: its fields.
            timeout: maximum time in seconds; None for no limit.

        Raises:
            RefusedError: there is no answer, or it is an error.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._ask("GET", path, params=query)
        except TimeoutError:
            raise RefusedError("TIMEOUT", f"no answer within {timeout:g} s") from None

    async def post(self, path: str, body: bytes, timeout: float | None) -> dict[str, Any]:
        """Return the answer to a POST, which is repeated while the server is unavailable.

        So the body must have idempotency keys. The arguments and errors are those of `get`.
        """
        began, attempt, why = time.time(), 0, ""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self._ask("POST", path, data=body)
                    except RefusedError as error:
                        if error.code != "UNAVAILABLE":
                            raise
                        why = f": {error.text}"
                        wait = (error.retry_after_ms or 0) / 1000 or pause(attempt)
                    attempt += 1
                    if time.time() + wait - began > REPEATABLE:
                        text = f"no answer in {REPEATABLE:g} s{why}; it may have been carried out"
                        raise RefusedError("UNKNOWN", text)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._over.wait()
        except TimeoutError:
            text = f"no answer within {timeout:g} s{why}; it may have been carried out"
            raise RefusedError("TIMEOUT", text) from None

    async def close(self) -> None:
        """End all calls."""
        self._over.set()
        await self._session.close()

    async def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        closed = RefusedError("CLOSED", "the client was closed")
        if self._over.is_set():
            raise closed
        url = self._server.http_url(path)
        try:
            headers = self._server.headers(await self._server.token.fetch())
            async with self._session.request(
                method, url, headers=headers, ssl=self._server.ssl, allow_redirects=False, **content
            ) as response:
                return _read(response, await response.read())
        except TokenError as error:
            raise RefusedError("UNAVAILABLE", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            if self._over.is_set():
                raise closed from None
            why = f"no answer of {self._server.shown}: {describe_failure(error)}"
            raise RefusedError("UNAVAILABLE", why) from None


def _read(response: aiohttp.ClientResponse, body: bytes) -> dict[str, Any]:
    """Return the answer that a response has.

    Raises:
        RefusedError: it has none.
    """
    status = response.status
    try:
        answer = json.loads(body)
    except ValueError:  # from a proxy
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    if status == 200:
        raise RefusedError("NOT_FOUND", "the answer is not that of a broadcast server")
    if status in REDIRECTS:
        location = response.headers.get("Location", "")
        raise RefusedError("REFUSED", describe_redirect(status, location))
    code = _CODES.get(status, "UNAVAILABLE" if status >= 500 else "REFUSED")
    said = answer.get("error") if isinstance(answer, dict) else None
    seconds = response.headers.get("Retry-After", "")
    retry_after_ms = int(seconds) * 1000 if seconds.isdecimal() else None
    raise RefusedError(code, str(said or f"HTTP status {status}"), retry_after_ms)
