"""One client's connection: its state, its subscriptions, and its outgoing messages.

Theory of operation. A client is FLOWING while its transport takes everything: the fan-out gathers
the messages of a tick in `pending` and writes them at once. When the transport pauses, the client
is CONGESTED and messages go to its send queue until the transport has drained. After the server's
last message, or the client's own Close, it is CLOSING; when the connection is lost it is GONE.

    FLOWING <-> CONGESTED
       |            |
       +--> CLOSING <+       and each of the three -> GONE

The transport's write limits are (0, 0), so it pauses as soon as the kernel does not take
everything. `CommandQueue` holds the state of its commands, `Liveness` that of the keepalive.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol

from hub.access import Principal
from hub.addresses import UNKNOWN
from hub.delivery.command_queue import CommandQueue
from hub.delivery.framing import Encoding, Ending, Framing
from hub.delivery.liveness import Liveness
from hub.delivery.send_queue import Bounds, Entry, SendQueue
from hub.delivery.topic import Topic
from hub.reports import DropReason


class Transport(Protocol):
    """The methods of `asyncio.Transport` that the hub needs."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


def peer_address(transport: Transport) -> str:
    """Return the address of the other side of a connection as text for the log."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return UNKNOWN
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Returns the number of bytes that a transport's peer has acknowledged, and whether more bytes wait
# for their acknowledgement.
Progress = Callable[[Transport], tuple[int, bool]]

# Writes bytes to a file descriptor, and returns how many of them the kernel has taken. It raises
# OSError if the kernel takes none, or if the connection is broken.
Send = Callable[[int, bytes], int]

# Makes the kernel drop the unacknowledged bytes of a transport when it is aborted.
Discard = Callable[[Transport], None]


class State(Enum):
    """The states of a client, in their order."""

    FLOWING = "flowing"  # the transport takes everything: one write a tick
    CONGESTED = "congested"  # the transport holds bytes: messages are queued
    CLOSING = "closing"  # no new message is sent or handled; those queued still leave
    GONE = "gone"  # the connection is lost


NO_DESCRIPTOR: Final = -1  # of a transport without a socket; a send to it fails

FLOWING: Final = State.FLOWING  # a name of its own: it is looked up once a delivery


class Client:
    """The hub's record of a connection. Two connections may have the same name."""

    __slots__ = (
        "_bounds",
        "_ending",
        "_paused",
        "_queue",
        "address",
        "client_id",
        "commands",
        "descriptor",
        "encoding",
        "end_reason",
        "framing",
        "joined_at",
        "liveness",
        "name",
        "number",
        "pending",
        "principal",
        "state",
        "topics",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        *,
        number: int,
        joined_at: float,
        name: str,
        principal: Principal,
        address: str,
        bounds: Bounds,
        framing: Framing,
    ) -> None:
        """Create the record of a connection.

        Args:
            transport: writes to the connection.
            number: the connection's number, counted from the server's start.
            joined_at: the time at which it joined, in seconds of the hub's clock.
            name: the client id given for the connection; empty if there is none.
            principal: the caller of the commands that arrive on it.
            address: of the client. Behind a proxy it is not that of the transport.
            bounds: the limits of its send queue.
            framing: writes its messages.
        """
        self.number = number
        self.joined_at = joined_at
        self.principal = principal
        self.address = address
        self.transport = transport
        sock = transport.get_extra_info("socket")
        # Valid until `lost`: asyncio and uvloop close the socket after `connection_lost`.
        self.descriptor = NO_DESCRIPTOR if sock is None else sock.fileno()
        self.framing = framing
        self.encoding: Encoding = framing.encoding  # a slot: it is looked up once a reply
        self.name = name
        self.client_id = ""  # the newest one in a subscribe; empty if none has had one
        # A list: it takes 130 bytes less than a set, and `client in topic` is as quick.
        self.topics: list[Topic[Client]] = []
        # Whether the transport holds bytes. It may hold answers to earlier requests that the client
        # has not read. Then it is paused already, and does not call `pause_writing`.
        self._paused = transport.get_write_buffer_size() > 0
        self.state = State.CONGESTED if self._paused else FLOWING
        # The reason for the end (hub/errors.py); empty until something ends the connection.
        self.end_reason = ""
        self.commands = CommandQueue()
        self.liveness = Liveness()
        self._bounds = bounds
        self._queue: SendQueue | None = None  # None while nothing is queued
        self._ending = framing.ending  # how the connection of a CLOSING client ends
        # Messages of this tick, while FLOWING. None if there are none: an empty list would cost one
        # more cache line in every delivery.
        self.pending: list[bytes] | None = None

    @property
    def open(self) -> bool:
        """Whether it still gets messages, and its own messages are still handled."""
        return self.state is FLOWING or self.state is State.CONGESTED

    @property
    def slow(self) -> bool:
        """Whether its socket takes no more bytes now, so that its messages are queued."""
        return self._paused

    @property
    def queued_messages(self) -> int:
        """The number of messages in its send queue."""
        return 0 if self._queue is None else self._queue.messages

    @property
    def queued_bytes(self) -> int:
        """The bytes in its send queue and in the transport, as the bounds count them."""
        size = 0 if self._queue is None else self._queue.size
        return size + self.transport.get_write_buffer_size()

    # Messages to the client.

    def flush(self, send: Send) -> bool:
        """Write the messages of this tick at once, while FLOWING.

        The transport of a FLOWING client is empty, so these bytes overtake none of its bytes.
        `send` costs less than the transport's `write` (docs/decisions/0063).

        Returns:
            False if the transport is closed.
        """
        pending, self.pending = self.pending, None
        if pending is None:  # it has left within the tick
            return True
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        try:
            sent = send(self.descriptor, data)
        except OSError:  # the kernel takes nothing, or the connection is broken
            sent = 0
        return sent == len(data) or self.write_rest(data[sent:])

    def write_rest(self, data: bytes) -> bool:
        """Give the bytes that the kernel did not take to the transport.

        Returns:
            False if the transport is closed.
        """
        try:
            self.transport.write(data)
        except RuntimeError:  # raised by uvloop when the transport is closed
            return False
        return True

    def offer(self, entry: Entry) -> bool:
        """Queue a message for a CONGESTED client; see `SendQueue.offer`."""
        queue = self._queued()
        had_dropped = queue.has_dropped
        fits = queue.offer(entry, self.transport.get_write_buffer_size())
        if queue.has_dropped and not had_dropped:
            self._bounds.dropping(self)
        return fits

    def tell(self, topic: "Topic[Client]", message: bytes) -> None:
        """Queue a message about a topic, other than an event, regardless of the bounds."""
        self._queued().tell(topic, message)

    def tell_first(self, message: bytes) -> None:
        """Queue a message ahead of all others, regardless of the bounds."""
        self._queued().put_first(message)

    def _queued(self) -> SendQueue:
        if self._queue is None:
            self._queue = SendQueue(self._bounds, self.framing)
        return self._queue

    # Subscriptions.

    def unsubscribed(self, topic: "Topic[Client]") -> None:
        """Remove a topic. The client still gets the notice about its dropped events."""
        self.topics.remove(topic)
        if self._queue is not None:
            self._queue.leave(topic)

    def unsubscribed_from_all(self) -> "list[Topic[Client]]":
        """Remove and return all topics. The client still gets the notices about dropped events."""
        topics, self.topics = self.topics, []
        if self._queue is not None:
            self._queue.leave_all()
        return topics

    # The transport.

    def pause_writing(self) -> None:
        """Handle a pause of the transport: the kernel did not take everything."""
        self.liveness.took = True
        self._paused = True
        if self.state is FLOWING:
            self.state = State.CONGESTED

    def resume_writing(self) -> None:
        """Handle an empty transport: write from the send queue until it pauses again."""
        self.liveness.took = True
        self._paused = False
        while self._queue and not self._paused:
            self.transport.write(self._queue.take())
        if self._paused:
            return
        self._queue = None
        if self.state is State.CONGESTED:
            self.state = FLOWING
        elif self.state is State.CLOSING:
            self._close_transport()

    def hold(self) -> None:
        """Pause reading, because enough commands are under way."""
        if not self.commands.held:
            self.commands.held = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Resume reading after `hold`."""
        if self.commands.held:
            self.commands.held = False
            if self.commands.unread is None:
                self.transport.resume_reading()
            else:
                self.commands.unread()

    def drop_backlog(self) -> None:
        """Drop the commands that have not begun, and resume reading for the client's Close."""
        self.commands.backlog = None
        self.release()

    # The end.

    def finish(self, last: bytes, ending: Ending, reason: str) -> None:
        """Send a last message after everything that is queued, then end the connection.

        Args:
            last: the encoded message; empty for none.
            ending: how to end the connection after it.
            reason: recorded as the reason for the end (hub/errors.py).

        Raises:
            RuntimeError: the transport is closed (uvloop).
        """
        self.end_reason = reason
        self.drop_backlog()
        self._ending = ending
        self.liveness.took = True  # the write timeout begins here
        if self._paused:
            self._queued().append(last)
        else:
            pending, self.pending = self.pending or [], None
            self.transport.write(b"".join([*pending, last]))
        self.state = State.CLOSING
        if not self._paused:
            self._close_transport()

    def finish_now(self, last: bytes, reason: str) -> None:
        """Drop the queued messages, and send a last one after the bytes in the transport.

        Args:
            last: the encoded message.
            reason: recorded as the reason for the end (hub/errors.py).

        Raises:
            RuntimeError: the transport is closed (uvloop).
        """
        self.end_reason = reason
        self.drop_backlog()
        self._drop_queue(DropReason.SLOW_CONSUMER)
        self.liveness.took = True  # the write timeout begins here
        self.state = State.CLOSING
        self.transport.write(last)

    def hang_up(self) -> None:
        """Close the transport when all queued messages have been written to it."""
        self._ending = Ending.HANG_UP
        if not self._queue:
            self._close_transport()

    def abort(self, reason: str = "") -> None:
        """Cut the connection now; the transport calls `connection_lost` later.

        `reason` is recorded, unless another reason for the end is recorded already.
        """
        self.end_reason = self.end_reason or reason
        self._forget(State.CLOSING)
        self.transport.abort()

    def lost(self) -> None:
        """Handle the loss of the connection."""
        self.commands.unread = None  # it refers to the connection, which refers to this client
        self._forget(State.GONE)

    def _forget(self, state: State) -> None:
        """Enter a final state, and drop everything that is queued."""
        self.commands.backlog = None
        self._drop_queue(DropReason.LOST)
        self.pending = None
        self.state = state

    def _drop_queue(self, reason: DropReason) -> None:
        queue, self._queue = self._queue, None
        if queue:
            self._bounds.dropped(reason, queue.messages)

    def _close_transport(self) -> None:
        if self._ending is Ending.HANG_UP:
            self.transport.close()
        elif self._ending is Ending.HALF_CLOSE:
            self.transport.write_eof()
