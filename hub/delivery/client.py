"""One client: who it is, what it is subscribed to, and how bytes get to it.

State: everything the server remembers of one connection. It writes to its transport and to nothing
else: membership is the hub's, and what is said within a tick is gathered by the fan-out.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from hub.delivery.framing import Ending, Wire
from hub.delivery.send_queue import Bounds, Entry, Outbox

if TYPE_CHECKING:
    from hub.delivery.topic import Topic
    from hub.errors import Refusal
    from hub.protocol.commands import Command


class Transport(Protocol):
    """The part of `asyncio.Transport` that a client needs, its write limits set to (0, 0)."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


class State(Enum):
    """A client's life: down this list only, but for CONGESTED, which may return to FLOWING."""

    FLOWING = "flowing"  # the transport takes all: one write a tick
    CONGESTED = "congested"  # the transport holds bytes: what comes waits in the outbox
    CLOSING = "closing"  # its last frame is queued or sent: nothing more is said or heard
    GONE = "gone"  # the connection is lost


FLOWING: Final = State.FLOWING  # a name of its own: it is looked up once a delivery


class Client:
    """A connection, as the hub sees it. Two connections may share a name."""

    __slots__ = (
        "_bounds",
        "_ending",
        "_outbox",
        "_paused",
        "acknowledged",
        "awaiting",
        "backlog",
        "deadline",
        "end",
        "exclusive",
        "heard",
        "held",
        "idle_since",
        "name",
        "number",
        "pending",
        "pinged",
        "state",
        "taken_at",
        "took",
        "topics",
        "transport",
        "unfinished",
        "unfinished_at",
        "unfinished_seen",
        "unread",
        "wire",
    )

    def __init__(
        self, number: int, transport: Transport, name: str, bounds: Bounds, wire: Wire
    ) -> None:
        self.number = number  # of the connection, counted from the server's start
        self.transport = transport
        self.wire = wire  # how things are said on it
        self.name = name  # given once for the connection; empty where it was not
        self.topics: set[Topic] = set()
        self.state = FLOWING
        self.end = ""  # why the connection ends (hub/errors.py); empty while nothing has ended it
        self._bounds = bounds
        self._paused = False  # whether the transport holds bytes
        self._outbox: Outbox | None = None  # None while nothing waits
        self._ending = wire.ending  # of a CLOSING client
        # Frames of this tick, while FLOWING; the fan-out joins them into one write. None where
        # there are none: an empty list is one more cache line to look at for every delivery.
        self.pending: list[bytes] | None = None

        # Commands, kept in order (hub/command_queue.py).
        self.awaiting = 0  # commands that the broker has yet to complete
        self.exclusive = False  # whether what awaits is no publish: nothing may overtake it
        self.backlog: deque[Command | Refusal] | None = None  # None where nothing queues behind

        self.held = False  # whether reading is paused until some are completed
        # Reads on in what has arrived and was too much for one turn; None where nothing is left.
        # Until then reading is paused too.
        self.unread: Callable[[], None] | None = None
        self.unfinished = 0  # the number of the message that has begun and not ended; 0 for none
        self.unfinished_seen = 0  # that number at the last visit of the keepalive
        self.unfinished_at = 0.0  # the visit that first found it

        # Signs of life (hub/delivery/keepalive.py); times are the sweeper's.
        self.heard = True  # whether a frame has come since the last visit
        self.idle_since = 0.0  # the visit that last found a sign of life
        self.pinged = False  # whether a ping went out since
        self.took = False  # whether the transport has drained or filled since the last visit
        self.acknowledged = 0  # bytes that its side had at the last visit
        self.taken_at = 0.0  # the visit that last found bytes taken
        # Of a CLOSING client: None until its first visit, infinite while the shutdown lets it read.
        self.deadline: float | None = None

    @property
    def open(self) -> bool:
        """Whether it is still spoken and listened to."""
        return self.state is FLOWING or self.state is State.CONGESTED

    def flush(self) -> None:
        """Hand the frames of this tick to the transport, as one write."""
        pending, self.pending = self.pending, None
        if pending is not None:  # it may have left within the tick
            self.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def offer(self, entry: Entry) -> bool:
        """Queue a frame for a CONGESTED client; False where its bounds are overrun."""
        return self._waiting().offer(entry, self.transport.get_write_buffer_size())

    def tell(self, topic: "Topic", said: bytes) -> None:
        """Queue for a CONGESTED client, whatever its bounds, what of a topic is no event."""
        self._waiting().tell(topic, said)

    def tell_first(self, said: bytes) -> None:
        """Queue for a CONGESTED client, ahead of all that waits and whatever its bounds."""
        self._waiting().put_first(said)

    def _waiting(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self._bounds, self.wire)
        return self._outbox

    def unsubscribed(self, topic: "Topic") -> None:
        """Forget a topic; what was dropped of it is told first."""
        self.topics.discard(topic)
        if self._outbox is not None:
            self._outbox.leave(topic)

    def unsubscribed_from_all(self) -> "set[Topic]":
        """Forget every topic, and return them; what was dropped of them is told first."""
        topics, self.topics = self.topics, set()
        if self._outbox is not None:
            self._outbox.leave_all()
        return topics

    def pause_writing(self) -> None:
        """The transport could not pass on all that it was given."""
        self.took = True
        self._paused = True
        if self.state is FLOWING:
            self.state = State.CONGESTED

    def resume_writing(self) -> None:
        """The transport is empty: give it what waits, until it is full again or all is said."""
        self.took = True
        self._paused = False
        while self._outbox and not self._paused:
            self.transport.write(self._outbox.take())
        if self._paused:
            return
        self._outbox = None
        if self.state is State.CONGESTED:
            self.state = FLOWING
        elif self.state is State.CLOSING:
            self._end()

    def drop_backlog(self) -> None:
        """Forget the commands that have not begun; what is heard from here on is the end."""
        self.backlog = None
        self.release()

    def hold(self) -> None:
        """Pause reading: enough commands are under way."""
        if not self.held:
            self.held = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Read again."""
        if self.held:
            self.held = False
            if self.unread is None:
                self.transport.resume_reading()
            else:
                self.unread()

    def finish(self, last: bytes, ending: Ending, why: str) -> None:
        """Say the last words after all that is queued, then end as told."""
        self.end = why
        self.drop_backlog()
        self._ending = ending
        self.took = True  # the time to take it begins here
        if self._paused:
            self._waiting().append(last)
        else:
            pending, self.pending = self.pending or [], None
            self.transport.write(b"".join([*pending, last]))
        self.state = State.CLOSING
        if not self._paused:
            self._end()

    def cut_short(self, last: bytes, why: str) -> None:
        """Drop what waits and say the last words after what the transport already holds."""
        self.end = why
        self.drop_backlog()
        self._outbox = None
        self.took = True  # the time to take it begins here
        self.state = State.CLOSING
        self.transport.write(last)

    def hang_up(self) -> None:
        """Close the transport once it has all that is queued."""
        self._ending = Ending.HANG_UP
        if not self._outbox:
            self._end()

    def abort(self, why: str = "") -> None:
        """Cut the connection now; the transport reports the loss in its own time.

        `why` counts where nothing has ended it before.
        """
        self.end = self.end or why
        self._let_go(State.CLOSING)
        self.transport.abort()

    def lost(self) -> None:
        """The connection is no more."""
        self._let_go(State.GONE)

    def _let_go(self, state: State) -> None:
        """Enter a last state, in which nothing is said or heard: all that waits is forgotten."""
        self.backlog = None
        self._outbox = None
        self.pending = None
        self.state = state

    def _end(self) -> None:
        if self._ending is Ending.HANG_UP:
            self.transport.close()
        elif self._ending is Ending.HALF_CLOSE:
            self.transport.write_eof()
