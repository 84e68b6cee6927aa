"""HTTP calls to the server, for requests that have no WebSocket command.

State: an HTTP session, whose connections are reused.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from io import BytesIO
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
        self._limits: set[asyncio.Timeout] = set()  # the time limits of the calls under way
        self._over = False

    async def get(
        self,
        path: str,
        query: Mapping[str, str],
        timeout: float | None,
        fields: Set[str],
        missing: str = "NOT_FOUND",
    ) -> dict[str, Any]:
        """Return the answer to a GET.

        Args:
            path: begins with a slash, and is URL-encoded.
            query: its fields.
            timeout: maximum time in seconds; None for no limit.
            fields: the fields that the answer must have.
            missing: the code of the error for a 404 of the server.

        Raises:
            RefusedError: there is no answer, or it is an error.
        """
        try:
            async with self._limit(timeout):
                return await self._ask("GET", path, fields, missing, params=query)
        except TimeoutError:
            raise RefusedError("TIMEOUT", f"no answer within {timeout:g} s") from None

    async def post(
        self, path: str, body: bytes, timeout: float | None, fields: Set[str]
    ) -> dict[str, Any]:
        """Return the answer to a POST.

        The call is repeated while the server is unavailable, so the body must have idempotency
        keys. The arguments and errors are those of `get`.
        """
        began, attempt, why = time.time(), 0, ""
        try:
            async with self._limit(timeout):
                while True:
                    try:  # as a file, since aiohttp warns of large bytes
                        return await self._ask("POST", path, fields, data=BytesIO(body))
                    except RefusedError as error:
                        if error.code != "UNAVAILABLE":
                            raise
                        why = f": {error.text}"
                        wait = (error.retry_after_ms or 0) / 1000 or pause(attempt)
                    attempt += 1
                    if time.time() + wait - began > REPEATABLE:
                        text = f"not repeated after {REPEATABLE:g} s{why}"
                        raise RefusedError("UNKNOWN", f"{text}; it may have been carried out")
                    await asyncio.sleep(wait)
        except TimeoutError:
            text = f"no answer within {timeout:g} s{why}; it may have been carried out"
            raise RefusedError("TIMEOUT", text) from None

    async def close(self) -> None:
        """End all calls."""
        self._over = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0)  # a time in the past: the call ends at once
        await self._session.close()

    @asynccontextmanager
    async def _limit(self, timeout: float | None) -> AsyncIterator[None]:
        """Limit a call to `timeout` seconds, and to the life of the client.

        Raises:
            RefusedError: CLOSED, if the client was closed before or meanwhile.
            TimeoutError: the time is over.
        """
        closed = RefusedError("CLOSED", "the client was closed")
        if self._over:
            raise closed
        limit = asyncio.timeout(timeout)
        self._limits.add(limit)
        try:
            async with limit:
                yield
        except (RefusedError, TimeoutError):
            if self._over:
                raise closed from None
            raise
        finally:
            self._limits.discard(limit)

    async def _ask(
        self,
        method: str,
        path: str,
        fields: Set[str],
        missing: str = "NOT_FOUND",
        **content: Any,
    ) -> dict[str, Any]:
        url = self._server.http_url(path)
        try:
            headers = self._server.headers(await self._server.token.fetch())
            async with self._session.request(
                method, url, headers=headers, ssl=self._server.ssl, allow_redirects=False, **content
            ) as response:
                return _read(response, await response.read(), fields, missing)
        except TokenError as error:
            raise RefusedError("UNAVAILABLE", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            why = f"no answer of {self._server.shown}: {describe_failure(error)}"
            raise RefusedError("UNAVAILABLE", why) from None


def _read(
    response: aiohttp.ClientResponse, body: bytes, fields: Set[str], missing: str
) -> dict[str, Any]:
    """Return the answer in a response.

    Raises:
        RefusedError: the response is an error, or not from a broadcast server.
    """
    status = response.status
    try:
        answer = json.loads(body)
    except ValueError:  # it is not JSON, for example because it is from a proxy
        answer = None
    if status == 200 and isinstance(answer, dict) and fields <= answer.keys():
        return answer
    said = answer.get("error") if isinstance(answer, dict) else None
    if status == 200:
        where = f"{response.url.origin()}{response.url.raw_path}"
        raise RefusedError("NOT_FOUND", f"no broadcast server answers at {where}")
    if status == 404 and said:
        raise RefusedError(missing, str(said))
    if status in REDIRECTS:
        location = response.headers.get("Location", "")
        raise RefusedError("REFUSED", describe_redirect(status, location))
    code = _CODES.get(status, "UNAVAILABLE" if status >= 500 else "REFUSED")
    seconds = response.headers.get("Retry-After", "")
    retry_after_ms = int(seconds) * 1000 if seconds.isdecimal() else None
    raise RefusedError(code, str(said or f"HTTP status {status}"), retry_after_ms)
