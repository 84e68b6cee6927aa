"""The keys of a key set document (JWKS, RFC 7517), refreshed regularly.

The caller supplies the fetch. After a failure, the last good keys stay.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from hub.auth.keys import parse_jwk
from hub.auth.tokens import Key
from hub.logs import events

MAX_DOCUMENT_BYTES: Final = 262_144  # the fetch should not read more
MAX_KEYS: Final = 100  # of a document
FETCH_TIMEOUT: Final = 5.0  # seconds
REFRESH: Final = 300.0  # seconds between fetches
MIN_INTERVAL: Final = 30.0  # seconds from one fetch to the next, after a failure or an unknown kid


class FetchError(Exception):
    """The document cannot be fetched; the text is one line for the log, without the URL."""


def parse_key_set(document: bytes) -> tuple[Key, ...]:
    """Return the keys of a document that we use: for signatures, by RS256, ES256 or EdDSA.

    Raises:
        ValueError: it is not a key set, or has no such key.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"it has more than {MAX_DOCUMENT_BYTES} bytes")
    content = orjson.loads(document)
    listed = content.get("keys") if type(content) is dict else None
    if type(listed) is not list or len(listed) > MAX_KEYS:
        raise ValueError(f'it is not a JSON object with at most {MAX_KEYS} "keys"')
    found = (parse_jwk(jwk) for jwk in listed if type(jwk) is dict)
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("it has no key for signatures by RS256, ES256 or EdDSA")
    return keys


class KeySet:
    """The keys of an issuer.

    State: the last good keys, the time of the last fetch and whether it succeeded, and the fetch
    that is under way.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        """Start without keys.

        Args:
            fetch: returns the document, or raises FetchError.
            clock: returns seconds of a monotonic clock.
        """
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetched: float | None = None  # when the last fetch began; None before the first
        self._good = False  # whether the last fetch succeeded
        self._why = ""  # why it failed; empty if it succeeded
        self._fetching: asyncio.Task[None] | None = None

    def current(self) -> tuple[Key, ...]:
        """Return the last good keys."""
        return self._keys

    @property
    def due(self) -> bool:
        """Whether it is time for `refresh`; asked once a second."""
        return self._fetching is None and self._passed(REFRESH if self._good else MIN_INTERVAL)

    async def refresh(self) -> None:
        """Fetch the document; callers at the same time share one fetch. It does not raise."""
        if self._fetching is None:
            self._fetched = self._clock()
            self._fetching = asyncio.create_task(self._replace())
            self._fetching.add_done_callback(self._done)
        # One caller's cancellation does not end the fetch of the others.
        await asyncio.shield(self._fetching)

    async def refresh_for_unknown(self) -> bool:
        """Fetch the document because a token names an unknown key, at most once in MIN_INTERVAL.

        Returns:
            True if the document was fetched, so that the token should be verified again.
        """
        if self._fetching is None and not self._passed(MIN_INTERVAL):
            return False
        await self.refresh()
        return True

    def _passed(self, seconds: float) -> bool:
        return self._fetched is None or self._clock() - self._fetched >= seconds

    async def _replace(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                document = await self._fetch()
            self._keys = parse_key_set(document)
            if not self._good:
                events.KEYS_FETCHED.log(keys=len(self._keys))
            self._good, self._why = True, ""
        except (FetchError, TimeoutError, ValueError) as error:
            self._good = False
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            if why != self._why:
                events.KEYS_NOT_FETCHED.log(detail=why, keys=len(self._keys))
            self._why = why

    def _done(self, _: asyncio.Task[None]) -> None:
        self._fetching = None
