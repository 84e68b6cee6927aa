"""Fetch the key set of JWT_JWKS_URL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from hub.auth.jwks import FETCH_TIMEOUT, MAX_DOCUMENT_BYTES, FetchError, KeySet

CHECK: Final = 1.0  # seconds between two checks whether a refresh is due


class KeySetClient:
    """Fetches a key set document; its session is open while the application runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: ClientSession

    async def fetch(self) -> bytes:
        """Return the document.

        Raises:
            FetchError: there is none. Its text has no part of the URL, which may hold a secret.
        """
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                if response.status != HTTPStatus.OK:
                    raise FetchError(f"the answer has status {response.status}")
                document = bytearray()
                async for part in response.content.iter_any():
                    document += part
                    if len(document) > MAX_DOCUMENT_BYTES:
                        raise FetchError(f"it has more than {MAX_DOCUMENT_BYTES} bytes")
                return bytes(document)
        except (ClientError, OSError) as error:
            raise FetchError(f"it cannot be fetched ({type(error).__name__})") from None

    @asynccontextmanager
    async def keep_fresh(self, key_set: KeySet) -> AsyncIterator[None]:
        """Fetch the key set, and fetch it again in the background for the time of the block."""
        async with ClientSession(timeout=ClientTimeout(total=FETCH_TIMEOUT)) as self._session:
            await key_set.refresh()
            task = asyncio.create_task(_refresh(key_set))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])


async def _refresh(key_set: KeySet) -> None:
    while True:
        await asyncio.sleep(CHECK)
        if key_set.due:
            await key_set.refresh()
