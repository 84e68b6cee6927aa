"""Turns the credential of a caller into a principal."""

from collections.abc import Awaitable, Callable

from hub.access import Principal
from hub.auth.api_keys import ApiKeys
from hub.auth.tokens import Problem, Reason, Verifier


class Authenticator:
    """Knows API keys and tokens.

    State: none of its own.
    """

    def __init__(
        self,
        api_keys: ApiKeys,
        verifier: Verifier,
        now: Callable[[], float],
        refresh: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Create an authenticator.

        Args:
            api_keys: finds the callers of API keys.
            verifier: verifies tokens.
            now: returns seconds since the epoch.
            refresh: `KeySet.refresh_for_unknown`; None without a key set.
        """
        self.find_key = api_keys.find
        self._verify = verifier.verify
        self._now = now
        self._refresh = refresh

    async def verify_bearer(self, credential: str) -> Principal | Problem:
        """Return the principal of an API key or a token, as in `Authorization: Bearer`."""
        return self.find_key(credential) or await self.verify_token(credential)

    async def verify_token(self, token: str) -> Principal | Problem:
        """Verify a token; wait only if the token names a key that must be fetched first."""
        result = self._verify(token, self._now())
        if (
            isinstance(result, Problem)
            and result.reason is Reason.UNKNOWN_KEY
            and self._refresh is not None
            and await self._refresh()
        ):
            return self._verify(token, self._now())
        return result
