"""The rights of open connections: how they begin, are renewed and end.

Theory of operation. A connection has the principal of its handshake until a valid `auth` message
replaces it. Subscriptions that the new rights do not allow end then. 30 s before a token ends the
client is told, and at its end the connection is closed. A client without any right must send a
token within AUTH_TIMEOUT. No connection has a timer: the keepalive calls `due` for one whose time
has come. A banned subject is refused until its ban ends.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from hub.access import Access, Principal, Verb
from hub.auth.authenticator import Authenticator
from hub.auth.tokens import Problem
from hub.delivery.client import Client, Transport
from hub.delivery.framing import WEBSOCKET, Framing
from hub.delivery.topic import Topic
from hub.errors import (
    AUTH_TIMEOUT,
    DISCONNECTED,
    FORBIDDEN,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    Close,
    ErrorCode,
    Refusal,
)
from hub.event_log import described
from hub.hub import Hub

log = logging.getLogger(__name__)

WARNING: Final = 30.0  # seconds before the end of a token at which its client is told
ATTEMPTS: Final = 3  # invalid tokens in a row, of which the last closes the connection
SLICE: Final = 1_000  # clients that are looked at, and topics that are checked, in one turn

AuthDone = Callable[[Principal | Refusal], None]


class Sessions:
    """State: the banned subjects, each with the end of its ban, and the verifications under way."""

    def __init__(
        self,
        hub: Hub,
        access: Access,
        authenticator: Authenticator | None,
        auth_timeout: float,
        wall: Callable[[], float],
    ) -> None:
        """Start without bans.

        Args:
            authenticator: None if access is off.
            auth_timeout: seconds for a client without any right to send a token.
            wall: returns seconds since the epoch.
        """
        self._hub = hub
        self._access = access
        self._authenticator = authenticator
        self._auth_timeout = auth_timeout
        self._wall = wall
        self._bans: dict[str, float] = {}
        self._verifying: set[asyncio.Task[None]] = set()

    def open(
        self,
        principal: Principal,
        transport: Transport,
        *,
        name: str = "",
        framing: Framing = WEBSOCKET,
        address: str,
    ) -> Client:
        """Add a connection to the hub, with the rights of its handshake."""
        client = self._hub.join(transport, name, framing, principal, address)
        self._schedule(client)
        return client

    def is_banned(self, principal: Principal) -> bool:
        """Whether a principal's subject is refused now."""
        until = self._bans.get(principal.subject)
        if until is None:
            return False
        if self._wall() < until:
            return True
        del self._bans[principal.subject]
        return False

    def may_connect(self, principal: Principal) -> bool:
        """Whether a principal may have a connection: it has a right, or may still send a token."""
        if principal.is_anonymous:
            return True
        return any(principal.rights) and not self.is_banned(principal)

    # Renewal.

    def authenticate(self, client: Client, token: str, done: AuthDone) -> None:
        """Replace a client's rights by those of a token.

        `done` is called with the client's principal, or with the refusal of the token. The
        connection is closed after ATTEMPTS invalid tokens in a row, or if the token is valid and
        the subject is banned or has no rights.
        """
        if self._authenticator is None:
            done(client.principal)
            return
        verifying = self._authenticate(self._authenticator, client, token, done)
        task = asyncio.get_running_loop().create_task(verifying)
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    async def _authenticate(
        self, authenticator: Authenticator, client: Client, token: str, done: AuthDone
    ) -> None:
        result = await authenticator.verify_token(token)
        if not client.open:
            done(Refusal(ErrorCode.UNAUTHORIZED, "The connection has ended"))
        elif isinstance(result, Problem):
            log.info("%s sent an invalid token: %s", described(client), result.reason)
            done(Refusal(ErrorCode.UNAUTHORIZED, f"Token is not valid: {result.text}"))
            client.liveness.invalid_tokens += 1
            if client.liveness.invalid_tokens >= ATTEMPTS and client.open:
                self._end(client, UNAUTHORIZED)
        elif not client.principal.is_anonymous and client.principal.subject != result.subject:
            log.info("%s sent the token of another subject", described(client))
            text = "The connection belongs to another subject: open a new one"
            done(Refusal(ErrorCode.FORBIDDEN, text))
        elif not self.may_connect(result):
            log.info("%s sent a token without rights", described(client))
            done(Refusal(ErrorCode.FORBIDDEN, "The token gives no rights"))
            if client.open:
                self._end(client, FORBIDDEN)
        else:
            self._replace(client, result, done)

    def _replace(self, client: Client, principal: Principal, done: AuthDone) -> None:
        client.principal = principal
        client.liveness.invalid_tokens = 0
        self._schedule(client)
        self._hub.turns.start(self._revoke(client, principal, done))

    def _revoke(self, client: Client, principal: Principal, done: AuthDone) -> Iterator[None]:
        """End the subscriptions that are not allowed any more, then complete the `auth`."""
        for number, topic in enumerate(list(client.topics), 1):
            if not principal.may(Verb.SUBSCRIBE, topic.name):
                self._end_subscription(client, topic)
            if number % SLICE == 0:
                yield
        done(principal)

    def _end_subscription(self, client: Client, topic: Topic[Client]) -> None:
        if topic in client.topics:
            self._hub.unsubscribe(client, topic.name)
            info = self._hub.notices.forbidden(topic.name)
            self._hub.fanout.send(client, client.encoding.message(info))

    # Ends.

    def due(self, client: Client, now: float) -> None:
        """Tell or end a client whose time has come, at `now` by the hub's clock."""
        principal = client.principal
        if principal.expires_at is None or principal.ends_at is None:
            self._end(client, AUTH_TIMEOUT)
            return
        end = self._hub.clock() + principal.ends_at - self._wall()
        if now >= end:
            self._end(client, TOKEN_EXPIRED, self._hub.notices.token_expired())
        else:
            client.liveness.rights_due = end
            info = self._hub.notices.token_expires(rfc3339(principal.expires_at))
            self._hub.fanout.send(client, client.encoding.message(info))

    def _schedule(self, client: Client) -> None:
        """Set the time at which the keepalive calls `due`."""
        principal = client.principal
        due = math.inf
        if principal.ends_at is not None:
            due = self._hub.clock() + principal.ends_at - self._wall() - WARNING
        elif principal.is_anonymous and not any(principal.rights):
            due = self._hub.clock() + self._auth_timeout
        client.liveness.rights_due = due

    def _end(self, client: Client, close: Close, info: bytes = b"") -> None:
        """Close a connection; a stream is told by `info`, because it has no Close."""
        framing = client.framing
        last = framing.close(close) or (info and framing.encoding.message(info))
        self._hub.close(client, last, framing.ending, close.reason)

    # Disconnects by an operator.

    def disconnect(self, subject: str, client_id: str, until: float | None) -> None:
        """Close the connections of a subject or of a client id on this node.

        `until`: the end of the subject's ban, in seconds since the epoch; None for no ban.
        """
        if until is not None:
            self._bans[subject] = until
        self._hub.turns.start(self._disconnect(subject, client_id, until))

    def _disconnect(self, subject: str, client_id: str, until: float | None) -> Iterator[None]:
        for number, client in enumerate(list(self._hub.clients), 1):
            principal = client.principal
            if client.open and (
                (subject and principal.subject == subject)
                or (client_id and client.name == client_id)
            ):
                self._disconnect_client(client, until)
            if number % SLICE == 0:
                yield

    def _disconnect_client(self, client: Client, until: float | None) -> None:
        info = self._hub.notices.disconnected(None if until is None else rfc3339(until))
        if until is None:
            self._end(client, DISCONNECTED, info)
        else:
            self._hub.fanout.send(client, client.encoding.message(info))
            if client.open:
                self._end(client, FORBIDDEN)


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since the epoch as RFC 3339 in UTC, in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
