"""The rights of open connections: how they begin, are renewed and end.

Theory of operation. A connection has the principal of its handshake until a valid `auth` message
replaces it. Subscriptions that the new rights do not allow end then. 30 s before a token ends the
client is notified, and at its end the connection is closed. A client without any right must send a
token within AUTH_TIMEOUT. No connection has a timer: the keepalive calls `due` for one whose time
has come. A banned subject is refused until its ban ends (hub/bans.py); a broker with other nodes
notifies them of bans, and this node of theirs.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from hub.access import Principal, Verb
from hub.auth.authenticator import Authenticator
from hub.auth.tokens import Problem
from hub.bans import MAX_BANS, Bans
from hub.delivery.client import Client, Transport
from hub.delivery.framing import Framing
from hub.delivery.topic import Topic
from hub.errors import (
    AUTH_TIMEOUT,
    DISCONNECTED,
    FORBIDDEN,
    INTERNAL_ERROR,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    Close,
    ErrorCode,
    Refusal,
)
from hub.event_log import client_fields
from hub.hub import Hub
from hub.logs import events

WARNING: Final = 30.0  # seconds before the end of a token at which its client is notified
ATTEMPTS: Final = 3  # invalid tokens in a row, of which the last closes the connection
SLICE: Final = 1_000  # clients or topics that are examined in one tick

BANNED: Final = Refusal(ErrorCode.FORBIDDEN, "The subject of the token is banned")
_EXPIRED: Final = Refusal(ErrorCode.UNAUTHORIZED, "Token is not valid: it has expired")

AuthDone = Callable[[Principal | Refusal], None]
Found = Callable[[int], None]


def _ignore(_: int) -> None:
    """Ignore the number of connections that a disconnect has found."""


class Sessions:
    """State: the banned subjects, and the verifications under way.

    It receives the disconnects of other nodes from the broker.
    """

    def __init__(
        self,
        hub: Hub,
        authenticator: Authenticator | None,
        auth_timeout: float,
        wall: Callable[[], float],
    ) -> None:
        """Start without bans.

        Args:
            hub: has the clients.
            authenticator: verifies tokens; None if access is off.
            auth_timeout: seconds for a client without any right to send a token.
            wall: returns seconds since the epoch.
        """
        self._hub = hub
        self._authenticator = authenticator
        self._auth_timeout = auth_timeout
        self._wall = wall
        self._bans = Bans(wall)
        self._verifying: set[asyncio.Task[None]] = set()
        hub.broker.serve_disconnects(self)

    def open(
        self,
        principal: Principal,
        transport: Transport,
        *,
        name: str = "",
        framing: Framing,
        address: str,
    ) -> Client:
        """Add a connection to the hub, with the rights of its handshake.

        The arguments are those of `Hub.join`.
        """
        client = self._hub.join(
            transport, name=name, framing=framing, principal=principal, address=address
        )
        self._schedule(client)
        return client

    def is_banned(self, principal: Principal) -> bool:
        """Return whether a principal's subject is refused now."""
        return self.ban_end(principal.subject) is not None

    def ban_end(self, subject: str) -> float | None:
        """Return the end of a subject's ban, in seconds since the epoch; None if not banned now."""
        return self._bans.end(subject)

    def refusal(self, principal: Principal) -> Refusal | None:
        """Return the refusal of a principal that is banned or whose token has ended, or None.

        A request calls this again after each wait, since both may happen meanwhile.
        """
        if self.is_banned(principal):
            return BANNED
        return _EXPIRED if self.seconds_left(principal) <= 0 else None

    def seconds_left(self, principal: Principal) -> float:
        """Return the seconds until a principal's token ends; infinity if it never does."""
        return math.inf if principal.ends_at is None else principal.ends_at - self._wall()

    def may_connect(self, principal: Principal) -> bool:
        """Return whether a principal may connect: it has a right, or may still send a token."""
        if principal.is_anonymous:
            return True
        return any(principal.rights) and not self.is_banned(principal)

    # Renewal.

    def authenticate(self, client: Client, token: str, done: AuthDone) -> None:
        """Replace a client's rights by those of a token.

        The connection is closed after ATTEMPTS invalid tokens in a row. It is also closed if the
        token is valid, but its subject is banned or has no rights.

        Args:
            client: the client.
            token: the JWT.
            done: called with the client's principal, or with the refusal of the token.
        """
        if self._authenticator is None:
            done(client.principal)
            return
        verifying = self._authenticate(self._authenticator, client, token, done)
        task = asyncio.get_running_loop().create_task(self._contain(client, verifying))
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    async def _contain(self, client: Client, verifying: Coroutine[None, None, None]) -> None:
        try:
            await verifying
        except Exception as fault:
            # A fault of the server may be any exception. It must end this connection alone.
            events.CONNECTION_FAULT.log(fault, **client_fields(client))
            if client.open:
                self._end(client, INTERNAL_ERROR)

    async def _authenticate(
        self, authenticator: Authenticator, client: Client, token: str, done: AuthDone
    ) -> None:
        result = await authenticator.verify_token(token)
        if not client.open:
            done(Refusal(ErrorCode.UNAUTHORIZED, "The connection has ended"))
        elif isinstance(result, Problem):
            done(Refusal(ErrorCode.UNAUTHORIZED, f"Token is not valid: {result.text}"))
            client.liveness.invalid_tokens += 1
            if client.liveness.invalid_tokens >= ATTEMPTS and client.open:
                self._end(client, UNAUTHORIZED)
        elif not client.principal.is_anonymous and client.principal.subject != result.subject:
            text = "The connection belongs to another subject: open a new one"
            done(Refusal(ErrorCode.FORBIDDEN, text))
        elif not self.may_connect(result):
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
            # Regardless of the bounds: there is at most one for each subscription.
            self._hub.fanout.tell(client, topic, client.encoding.message(info))

    # Ends.

    def due(self, client: Client, now: float) -> None:
        """Notify or end a client whose `rights_due` has come.

        `now`: the time, in seconds of the hub's clock.
        """
        principal = client.principal
        if self.is_banned(principal):
            self._disconnect(client)
            return
        if principal.expires_at is None:
            self._end(client, AUTH_TIMEOUT)
            return
        end = self._hub.clock() + self.seconds_left(principal)
        if now >= end:
            self._end(client, TOKEN_EXPIRED, self._hub.notices.token_expired())
        else:
            client.liveness.rights_due = end
            info = self._hub.notices.token_expires(rfc3339(principal.expires_at))
            self._hub.fanout.send(client, client.encoding.message(info))

    def _schedule(self, client: Client) -> None:
        """Set the time at which the keepalive calls `due`."""
        principal = client.principal
        if self.is_banned(principal):  # since its handshake was accepted
            seconds = 0.0
        elif principal.is_anonymous and not any(principal.rights):
            seconds = self._auth_timeout
        else:
            seconds = self.seconds_left(principal) - WARNING
        client.liveness.rights_due = self._hub.clock() + seconds

    def _end(self, client: Client, close: Close, info: bytes = b"") -> None:
        """Close a connection; a stream has no Close and gets `info` instead."""
        framing = client.framing
        last = framing.close(close) or (info and framing.encoding.message(info))
        self._hub.close(client, last, framing.ending, close.reason)

    # Disconnects by an operator.

    @property
    def bans(self) -> Mapping[str, float]:
        """The ends of the bans on this node, in seconds since the epoch, by subject."""
        return self._bans.ends

    def has_room_for_ban(self, subject: str) -> bool:
        """Return whether a subject can be banned: at most MAX_BANS are banned at a time."""
        return self._bans.has_room(subject)

    def disconnect(self, subject: str, client_id: str, found: Found = _ignore) -> None:
        """Close the connections of a subject or of a client id on this node.

        Args:
            subject: the subject; empty if a client id is given.
            client_id: the client id; empty if a subject is given.
            found: called with the number of connections.
        """

        def matches(client: Client) -> bool:
            if subject:
                return client.principal.subject == subject
            return client_id in (client.name, client.client_id)

        self._hub.turns.start(self._close_all(matches, found))

    def ban(self, bans: Mapping[str, float]) -> None:
        """Refuse subjects on this node until their bans end, and close their connections.

        If a subject is banned for longer already, the longer ban stays.

        Args:
            bans: the end of each ban by subject, in seconds since the epoch.
        """
        if sum(self._bans.add(subject, end) for subject, end in bans.items()):
            self._hub.turns.start(self._close_all(lambda it: self.is_banned(it.principal)))
        if not all(map(self._bans.has_room, bans)):
            events.BANS_FULL.log(limit=MAX_BANS)

    def ban_for(self, subject: str, seconds: float) -> float:
        """Refuse a subject on this node for so many seconds; `disconnect` closes its connections.

        Returns:
            The end of its ban, in seconds since the epoch. If it was banned for longer already,
            that is the end of the longer ban.
        """
        until = math.ceil(self._wall() + seconds)
        self._bans.add(subject, until)
        return max(until, self._bans.ends.get(subject, until))

    def sweep(self) -> None:
        """Forget the bans that have ended."""
        self._bans.sweep()

    def _close_all(
        self, matches: Callable[[Client], bool], found: Found = _ignore
    ) -> Iterator[None]:
        count = 0
        for number, client in enumerate(list(self._hub.clients), 1):
            if client.open and matches(client):
                self._disconnect(client)
                count += 1
            if number % SLICE == 0:
                yield
        found(count)

    def _disconnect(self, client: Client) -> None:
        """Close a connection, with Close 3003 if its subject is banned."""
        until = self.ban_end(client.principal.subject)
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
