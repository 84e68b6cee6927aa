"""The keepalive: it pings silent clients, and cuts dead and stalled ones.

Theory of operation. Each second every client is visited once, in SLICES sweeps, so no connection
needs a timer. A client without a sign of life for PING_INTERVAL is pinged, and cut at
IDLE_TIMEOUT. A congested or closing client is alive while its TCP acknowledges bytes; if bytes are
outstanding and none is acknowledged for WRITE_TIMEOUT, it is cut. An SSE client cannot answer a
ping, so the TCP acknowledgement of the ping counts. A closing client is cut at the latest
WRITE_TIMEOUT after the first visit that found it closing, or, in a shutdown, CLOSE_TIMEOUT after it
has acknowledged everything. A client whose message is incomplete for MESSAGE_TIMEOUT is closed. The
caller passes the time, in seconds.
"""

import math
from collections.abc import Callable, Collection
from typing import Final

from hub.delivery.client import FLOWING, Client, Discard, Progress, State
from hub.errors import IDLE_TIMEOUT, MESSAGE_TIMEOUT, WRITE_TIMEOUT, Close
from hub.settings import Settings

SLICES: Final = 8  # sweeps in one second
# Seconds for a client to answer the Close of a shutdown, after it has acknowledged everything.
CLOSE_TIMEOUT: Final = 3.0


class Keepalive:
    """State: the round of visits under way."""

    def __init__(
        self,
        settings: Settings,
        clients: Collection[Client],
        *,
        send: Callable[[Client, bytes], None],
        fail: Callable[[Client, Close], None],
        rights_due: Callable[[Client, float], None],
        progress: Progress,
        discard: Discard,
    ) -> None:
        """Connect it to the hub and the sockets.

        Args:
            settings: with the timeouts.
            clients: the hub's collection of clients, which changes while the hub runs.
            send: sends an encoded message to a client.
            fail: ends a connection with a Close.
            rights_due: called with a client whose rights must be looked at, and the time.
            progress: returns the bytes that a client has acknowledged, and whether more are
                outstanding.
            discard: makes the kernel drop a client's unacknowledged bytes when it is cut.
        """
        self._ping_interval = settings.ping_interval
        self._idle_timeout = settings.idle_timeout
        self._write_timeout = settings.write_timeout
        self._message_timeout = settings.message_timeout
        self._clients = clients
        self._send = send
        self._fail = fail
        self._rights_due = rights_due
        self._progress = progress
        self._discard = discard
        self._round: list[Client] = []
        self._turn = 0

    def sweep(self, now: float) -> None:
        """Visit the next slice of clients at `now`, in seconds of a monotonic clock."""
        if self._turn == 0:
            self._round = list(self._clients)
        for client in self._round[self._turn :: SLICES]:
            self._visit(client, now)
        self._turn = (self._turn + 1) % SLICES

    def _visit(self, client: Client, now: float) -> None:
        if client.state is not FLOWING and not self._is_open(client, now):
            return
        life = client.liveness
        if now >= life.rights_due:
            self._rights_due(client, now)
            return
        if life.incomplete and self._is_overdue(client, now):
            self._fail(client, MESSAGE_TIMEOUT)
        elif life.heard:
            life.heard = False
            life.pinged = False
            life.idle_since = now
        elif not life.pinged:  # no client is cut without having been pinged
            if now - life.idle_since >= self._ping_interval:
                life.pinged = True
                if not client.framing.answers_pings:
                    self._start_clock(client, now)
                self._send(client, client.framing.ping)
        elif client.framing.answers_pings:
            if now - life.idle_since >= self._idle_timeout:
                self._cut(client, IDLE_TIMEOUT)
        elif self._stalled(client, now):
            self._cut(client, WRITE_TIMEOUT)

    def _is_overdue(self, client: Client, now: float) -> bool:
        """Return whether a message is incomplete for too long; pauses of reading do not count."""
        life, commands = client.liveness, client.commands
        paused = commands.held or commands.unread is not None
        if life.incomplete != life.incomplete_seen or paused:
            life.incomplete_seen = life.incomplete
            life.incomplete_since = now
        return now - life.incomplete_since >= self._message_timeout

    def _is_open(self, client: Client, now: float) -> bool:
        """Visit a client that is not flowing; return whether it is still open."""
        if client.state is State.GONE:
            return False
        if self._stalled(client, now):
            self._cut(client, WRITE_TIMEOUT)
            return False
        if client.state is State.CLOSING:
            self._wait_for_end(client, now)
            return False
        return True

    def _stalled(self, client: Client, now: float) -> bool:
        """Return whether bytes are outstanding and none was acknowledged for WRITE_TIMEOUT."""
        life = client.liveness
        acknowledged, outstanding = self._progress(client.transport)
        if life.took or acknowledged != life.acknowledged or not outstanding:
            life.took = False
            life.heard = True
            life.acknowledged = acknowledged
            life.taken_at = now
            return False
        return now - life.taken_at >= self._write_timeout

    def _cut(self, client: Client, reason: str = "") -> None:
        """End a connection without a Close.

        Unacknowledged bytes are dropped; otherwise the kernel would keep them for five minutes.
        """
        if self._progress(client.transport)[1]:
            self._discard(client.transport)
        client.abort(reason)

    def _start_clock(self, client: Client, now: float) -> None:
        """Start the write timeout of a client that was pinged."""
        life = client.liveness
        life.took = False
        life.acknowledged, _ = self._progress(client.transport)
        life.taken_at = now

    def _wait_for_end(self, client: Client, now: float) -> None:
        """Cut a closing client at its deadline.

        In a shutdown the deadline begins once the client has everything that was queued for it.
        """
        life = client.liveness
        if life.deadline is None:
            life.deadline = now + self._write_timeout
        elif life.deadline == math.inf:
            if not self._progress(client.transport)[1]:
                life.deadline = now + CLOSE_TIMEOUT
        elif now >= life.deadline:
            self._cut(client)
