"""Signs of life: who is asked for one, and who is given up.

State: the round of visits under way. One sweep of a slice every 1/SLICES second visits every client
once a second, whatever their number, so no connection needs a timer. Time is an argument.
"""

import math
from collections.abc import Callable, Collection
from typing import Final

from hub.delivery.client import FLOWING, Client, State
from hub.delivery.unread import Discard, Progress
from hub.errors import IDLE_TIMEOUT, MESSAGE_TIMEOUT, WRITE_TIMEOUT, Close
from hub.settings import Settings

SLICES: Final = 8  # a second's work in parts, so that no tick is long
# Seconds that a client has to answer the Close of a shutdown, once it has been given everything.
CLOSE_TIMEOUT: Final = 3.0


class Keepalive:
    """Pings the silent and cuts the dead."""

    def __init__(
        self,
        settings: Settings,
        clients: Collection[Client],
        send: Callable[[Client, bytes], None],
        fail: Callable[[Client, Close], None],
        progress: Progress,
        discard: Discard,
    ) -> None:
        """`clients` is the hub's own live collection.

        `send` sends a frame to one of them, `fail` ends a connection that broke a rule.
        """
        self._ping_interval = settings.ping_interval
        self._idle_timeout = settings.idle_timeout
        self._write_timeout = settings.write_timeout
        self._clients = clients
        self._send = send
        self._fail = fail
        self._message_timeout = settings.message_timeout
        self._progress = progress
        self._discard = discard
        self._round: list[Client] = []
        self._turn = 0

    def sweep(self, now: float) -> None:
        """Visit the next slice at `now`, in seconds of any clock that only goes forward."""
        if self._turn == 0:
            self._round = list(self._clients)
        for client in self._round[self._turn :: SLICES]:
            self._visit(client, now)
        self._turn = (self._turn + 1) % SLICES

    def _visit(self, client: Client, now: float) -> None:
        if client.state is not FLOWING and not self._may_speak(client, now):
            return
        if client.unfinished and self._is_overdue(client, now):
            self._fail(client, MESSAGE_TIMEOUT)
            return
        if client.heard:
            client.heard = False
            client.pinged = False
            client.idle_since = now
        elif not client.pinged:  # nobody is given up without having been asked
            if now - client.idle_since >= self._ping_interval:
                client.pinged = True
                if not client.wire.answers:  # then an acknowledgement by TCP is the answer
                    self._start_clock(client, now)
                self._send(client, client.wire.ping)
        elif client.wire.answers:
            if now - client.idle_since >= self._idle_timeout:
                client.abort(IDLE_TIMEOUT)
        elif self._stalled(client, now):
            self._cut(client)

    def _is_overdue(self, client: Client, now: float) -> bool:
        """Whether a message has been arriving for too long; while reading is paused it cannot."""
        if client.unfinished != client.unfinished_seen or client.held or client.unread is not None:
            client.unfinished_seen = client.unfinished
            client.unfinished_at = now
        return now - client.unfinished_at >= self._message_timeout

    def _may_speak(self, client: Client, now: float) -> bool:
        """Whether a client that is not flowing is still one to listen to."""
        if client.state is State.GONE:
            return False
        if self._stalled(client, now):
            self._cut(client)
            return False
        if client.state is State.CLOSING:
            self._wait_for_end(client, now)
            return False
        return True

    def _stalled(self, client: Client, now: float) -> bool:
        """Whether its socket has taken no byte for too long while some wait.

        Every byte that it takes is a sign of life.
        """
        acknowledged, waiting = self._progress(client.transport)
        if client.took or acknowledged != client.acknowledged or not waiting:
            client.took = False
            client.heard = True
            client.acknowledged = acknowledged
            client.taken_at = now
            return False
        return now - client.taken_at >= self._write_timeout

    def _cut(self, client: Client) -> None:
        """Cut a client that takes nothing; the kernel would keep its bytes for five minutes."""
        self._discard(client.transport)
        client.abort(WRITE_TIMEOUT)

    def _start_clock(self, client: Client, now: float) -> None:
        """From here on a byte that it takes counts."""
        client.took = False
        client.acknowledged, _ = self._progress(client.transport)
        client.taken_at = now

    def _wait_for_end(self, client: Client, now: float) -> None:
        """A client that was told to go has as long as a stalled one, then it is cut.

        In a shutdown it may go on for as long as it takes what is queued for it.
        """
        if client.deadline is None:
            client.deadline = now + self._write_timeout
        elif client.deadline == math.inf:
            if not self._progress(client.transport)[1]:
                client.deadline = now + CLOSE_TIMEOUT
        elif now >= client.deadline:
            client.abort()
