"""The token of a client: a string, or a function that is called for each connection.

State: the token of the current connection, and the number of refusals in a row. No log line and no
exception has a token in it, nor the text of an exception that a token function raised.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final

FETCH_WITHIN: Final = 10.0  # seconds for a token function to return
MAX_REFUSALS: Final = 2  # refusals in a row of the same token; then the client ends
PRINTABLE: Final = re.compile(r"[!-~]+")  # what an HTTP header can hold, without spaces

Source = str | Callable[[], str | Awaitable[str]]


class TokenError(Exception):
    """A token function has returned no usable token; the text says why."""


class Token:
    """The source of a client's tokens."""

    def __init__(self, source: Source | None) -> None:
        """Check the source of the tokens.

        Args:
            source: a token, or a function that returns one; None for a client without a token.

        Raises:
            TypeError: `source` is neither a string nor a function.
            ValueError: `source` is a string that no HTTP header can hold.
        """
        if not (source is None or isinstance(source, str) or callable(source)):
            raise TypeError("token must be a string, or a function that returns one")
        if isinstance(source, str) and PRINTABLE.fullmatch(source) is None:
            text = "token must be printable ASCII without spaces or line ends, and not be empty"
            raise ValueError(text)
        self._source = source
        self._refusals = 0
        self.current: str | None = None  # the last one that the current connection has sent

    @property
    def given(self) -> bool:
        """Whether the client has a token."""
        return self._source is not None

    @property
    def renewable(self) -> bool:
        """Whether another token can be fetched."""
        return callable(self._source)

    async def fetch(self) -> str | None:
        """Return a token for a connection; None for a client without one.

        Raises:
            TokenError: the function raised, took too long, or returned no token.
        """
        if self._source is None or isinstance(self._source, str):
            return self._source
        try:
            async with asyncio.timeout(FETCH_WITHIN):
                token = await _call(self._source)
        except TimeoutError:
            raise TokenError(f"the token function took over {FETCH_WITHIN:g} s") from None
        if not isinstance(token, str) or PRINTABLE.fullmatch(token) is None:
            raise TokenError("the token function returned no string of printable ASCII")
        return token

    def refused(self) -> bool:
        """Record that the server refused the token.

        Returns:
            True if there is no other token to try, and the client must end.
        """
        self._refusals += 1
        return not self.renewable and self._refusals >= MAX_REFUSALS

    def accepted(self) -> None:
        """Record that the server has accepted the token."""
        self._refusals = 0


async def _call(source: Callable[[], str | Awaitable[str]]) -> object:
    """Call a token function, and return its result.

    Raises:
        TokenError: the function raised. The text has only the class of its exception, since the
            exception's own text may have a token.
    """
    try:
        token = source()
        return await token if inspect.isawaitable(token) else token
    except Exception as error:  # the user's function may raise any exception
        name = type(error).__name__
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():  # this task is cancelled, not the function
            raise
        name = type(error).__name__
    raise TokenError(f"the token function raised {name}")
