"""The renewal of a token on an open connection, before the token ends.

State: the task that renews the token, and the auth that the server has not answered.
"""

import asyncio
import itertools
import logging
import time
from typing import Any, Final

from broadcast_client._connection import Connection, pause
from broadcast_client._items import RefusedError
from broadcast_client._server import Server
from broadcast_client._token import TokenError
from broadcast_client._topic import refusal_of

log = logging.getLogger("broadcast_client")

MAX_REFUSALS: Final = 2  # invalid tokens in a row on one connection
REPLACE_EVERY: Final = 5.0  # seconds: minimum between the starts of two renewals


class _Auth:
    """An unanswered auth."""

    def __init__(self, request_id: str, token: str) -> None:
        self.request_id = request_id
        self.token = token
        self.answer: asyncio.Future[RefusedError | None] = (
            asyncio.get_running_loop().create_future()
        )


class TokenRenewal:
    """Replaces the token of the open connection, when the server says that it is about to end."""

    def __init__(self, connection: Connection, server: Server) -> None:
        self._connection = connection
        self._server = server
        self._numbers = itertools.count(1)
        self._auth: _Auth | None = None
        self._task: asyncio.Task[None] | None = None
        self._began = -REPLACE_EVERY  # monotonic time at which the last renewal began

    def start(self) -> None:
        """Renew the token; a renewal that is under way is given up."""
        self.cancel()
        self._task = asyncio.create_task(self._renew())

    def cancel(self) -> None:
        """End the renewal, because its connection has ended or another one begins."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Wait until the token function has ended, after the renewal was cancelled."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def answer(self, request_id: str, message: dict[str, Any]) -> bool:
        """Handle a message that answers an auth; return False if it does not.

        The task that sent the auth may have been cancelled meanwhile.
        """
        auth = self._auth
        if auth is None or request_id != auth.request_id:
            return False
        self._auth = None
        is_ack = message["type"] == "ack"
        if is_ack:
            self._server.token.current = auth.token
        if not auth.answer.done():
            auth.answer.set_result(None if is_ack else refusal_of(message))
        return True

    async def _renew(self) -> None:
        """Fetch another token and send it on the open connection, until the server accepts one.

        The server closes the connection at the third invalid token in a row, so this gives up after
        the second: the connection then lasts until the old token ends.
        """
        await asyncio.sleep(self._began + REPLACE_EVERY - time.monotonic())
        self._began = time.monotonic()
        invalid = 0
        for attempt in itertools.count():
            try:
                refusal = await self._authenticate()
            except TokenError as error:
                why = str(error)
            else:
                if refusal is None:
                    return
                why = str(refusal)
                invalid += refusal.code == "UNAUTHORIZED"
                if refusal.code == "FORBIDDEN" or invalid == MAX_REFUSALS:
                    log.warning("%s: the token was not replaced: %s", self._server.shown, why)
                    return
            wait = pause(attempt)
            text = "%s: the token was not replaced: %s; asking again in %.1f s"
            log.warning(text, self._server.shown, why, wait)
            await asyncio.sleep(wait)

    async def _authenticate(self) -> RefusedError | None:
        """Fetch a token, send it, and return the server's refusal if there is one.

        Raises:
            TokenError: there is no other token.
        """
        token = await self._server.token.fetch()
        if token is None or token == self._server.token.current:
            raise TokenError("the token function returned the same token")
        self._auth = auth = _Auth(f"a{next(self._numbers)}", token)
        message = {"type": "auth", "token": token, "request_id": auth.request_id}
        self._connection.say(message)
        return await auth.answer
