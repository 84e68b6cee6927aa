"""The protocols of client connections: flow control, and the messages of a WebSocket."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

from hub.access import Principal
from hub.delivery.client import Client, State, Transport
from hub.delivery.framing import Framing
from hub.dispatcher import Dispatcher
from hub.errors import INTERNAL_ERROR, TOO_FAST, Close
from hub.event_log import client_fields
from hub.hub import Hub
from hub.limits import Inflow
from hub.logs import events
from hub.protocol.commands import Subscribe
from hub.protocol.websocket_frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    FrameReader,
    close_reply,
    pong_frame,
)
from hub.reports import Limit


class Link(asyncio.Protocol):
    """The asyncio protocol of a client's connection, which passes all of its events to the hub."""

    __slots__ = ("_client", "_hub", "ended")

    _client: Client  # from connection_made on

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.ended: Callable[[Client], None] | None = None  # called when the connection is lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._client = self._join(transport)
        # With limits of (0, 0), asyncio calls pause_writing after each write that the kernel does
        # not take completely, and resume_writing when the transport's buffer is empty. The buffer
        # may hold earlier answers now; resume_writing follows for these, too.
        transport.set_write_buffer_limits(high=0, low=0)

    def _join(self, transport: Transport) -> Client:
        """Return a new client for the connection."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        # A client that closed only its sending side may still read its queued frames.
        self._hub.client_closed(self._client, b"")
        return True  # the hub closes the transport

    def pause_writing(self) -> None:
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._client.resume_writing()
        self._hub.recovery.resume(self._client)
        if self._client.state is not State.CONGESTED:
            self._hub.pacing.drained(self._client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.leave(self._client)
        if self.ended is not None:
            self.ended(self._client)


class Handshake(NamedTuple):
    """The results of the opening handshake of a WebSocket connection."""

    name: str  # the `client_id`, or empty
    principal: Principal
    address: str  # of the client, which is not the transport's behind a proxy
    framing: Framing
    subscribes: Sequence[Subscribe] = ()  # for the topics in the URL


class Connection(Link):
    """The protocol of a WebSocket connection: it parses frames and handles them in slices.

    A slice is the frames that are handled in one tick. Reading is paused while frames that have
    arrived are not handled yet. A client is held while enough of its commands await the broker; its
    next slice follows when it is released.
    """

    __slots__ = ("_dispatcher", "_handshake", "_queued", "_reader")

    def __init__(
        self, hub: Hub, dispatcher: Dispatcher, reader: FrameReader, handshake: Handshake
    ) -> None:
        super().__init__(hub)
        self._dispatcher = dispatcher
        self._reader = reader
        self._handshake = handshake  # until the client is made
        self._queued = False  # whether slices are queued in the hub's turns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        subscribes = self._handshake.subscribes
        super().connection_made(transport)
        if subscribes:
            self._dispatcher.begin(self._client, subscribes)

    def _join(self, transport: Transport) -> Client:
        shake = self._handshake
        del self._handshake
        return self._dispatcher.sessions.open(
            shake.principal,
            transport,
            name=shake.name,
            framing=shake.framing,
            address=shake.address,
        )

    def data_received(self, data: bytes) -> None:
        self._handle(self._reader.feed(data))
        if self._reader.more:
            self._pause_for_slices()

    def _pause_for_slices(self) -> None:
        """Pause reading until all frames of the last read are handled."""
        client = self._client
        if client.commands.unread is None:
            client.commands.unread = self._read_on
            client.transport.pause_reading()
            if not client.commands.held:
                self._read_on()

    def _read_on(self) -> None:
        if not self._queued:
            self._queued = True
            self._hub.turns.queue(self._slices())

    def _slices(self) -> Iterator[None]:
        client, reader = self._client, self._reader
        while not client.commands.held and client.state is not State.GONE:
            self._handle(reader.read_on())
            if not reader.more:
                self._all_read()
                break
            yield
        self._queued = False

    def _all_read(self) -> None:
        """Resume reading after the last slice."""
        self._client.commands.unread = None
        if not self._client.commands.held:
            self._client.transport.resume_reading()

    def _handle(self, messages: list[tuple[int, bytearray]]) -> None:
        client, reader = self._client, self._reader
        liveness = client.liveness
        liveness.incomplete = reader.incomplete
        try:
            for opcode, payload in messages:
                liveness.heard = True
                if opcode == CLOSE:
                    self._hub.client_closed(client, close_reply(payload))
                    return
                if not client.open:  # the server has sent a Close: ignore all but the answer
                    continue
                if opcode == TEXT:
                    self._dispatcher.handle(client, payload)
                elif opcode == PING:
                    self._hub.fanout.send(client, pong_frame(payload))
                elif opcode == BINARY:
                    self._dispatcher.handle_binary(client)
            if reader.broken is not None and client.open:
                self._hub.fail(client, reader.broken)
        except Exception as fault:
            # A fault of the server may be any exception. It must end this connection alone.
            events.CONNECTION_FAULT.log(fault, **client_fields(client))
            if client.open:
                self._hub.fail(client, INTERNAL_ERROR)


class RefusedConnection(Connection):
    """A WebSocket connection that is closed at once, because its credential was refused."""

    __slots__ = ("_close",)

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        reader: FrameReader,
        handshake: Handshake,
        *,
        close: Close,
    ) -> None:
        super().__init__(hub, dispatcher, reader, handshake)
        self._close = close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._hub.fail(self._client, self._close)


class LimitedConnection(Connection):
    """A WebSocket connection with limits of its rates, of which `Connection` knows nothing.

    Messages over MESSAGE_RATE are refused one by one. After a read over BYTE_RATE, reading pauses;
    `commands.unread` is set for the time of the pause, as it is for frames that are not handled.
    """

    __slots__ = ("_inflow", "_pause")

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        reader: FrameReader,
        handshake: Handshake,
        *,
        inflow: Inflow,
    ) -> None:
        super().__init__(hub, dispatcher, reader, handshake)
        self._inflow = inflow
        self._pause: asyncio.TimerHandle | None = None  # the pause of reading, while there is one

    def data_received(self, data: bytes) -> None:
        self._limit(self._reader.feed(data), len(data))
        if self._reader.more:
            self._pause_for_slices()
        if self._inflow.pause:
            self._begin_pause(self._inflow.pause)
            self._inflow.pause = 0.0

    def _begin_pause(self, seconds: float) -> None:
        if self._pause is None and self._client.open:
            self._hub.observer.limited(Limit.BYTE_RATE)
            self._pause = asyncio.get_running_loop().call_later(seconds, self._end_pause)
            if self._client.commands.unread is None:
                self._client.commands.unread = self._wait
                self._client.transport.pause_reading()

    def _wait(self) -> None:
        """Do nothing when the client is released: the end of the pause resumes reading."""

    def _all_read(self) -> None:
        if self._pause is None:
            super()._all_read()
        else:
            self._client.commands.unread = self._wait

    def _end_pause(self) -> None:
        self._pause = None
        if not self._reader.more:  # otherwise the last slice resumes reading
            super()._all_read()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        super().connection_lost(exc)

    def _handle(self, messages: list[tuple[int, bytearray]]) -> None:
        self._limit(messages, 0)  # a later slice of a read whose bytes were counted

    def _limit(self, messages: list[tuple[int, bytearray]], size: int) -> None:
        """Handle the messages that MESSAGE_RATE allows; `size` bytes have arrived with them."""
        now = self._hub.clock()
        commands = len(messages)
        if commands != 1 or messages[0][0] != TEXT:
            commands = sum(opcode < CLOSE for opcode, _ in messages)
        refused = self._inflow.take(commands, size, now)
        if refused:
            self._handle_excess(messages, commands - refused, now)
        else:
            Connection._handle(self, messages)  # super() costs more, and this is the hot path

    def _handle_excess(
        self, messages: list[tuple[int, bytearray]], allowed: int, now: float
    ) -> None:
        """Handle the allowed commands of a slice and refuse the others, in order."""
        client, reader = self._client, self._reader
        refusal = self._inflow.refusal(now)
        refused = False
        broken, reader.broken = reader.broken, None  # it ends the connection after the last message
        for message in messages:
            opcode, payload = message
            if opcode >= CLOSE or allowed or not client.open:
                allowed -= opcode < CLOSE
                super()._handle([message])
            else:
                text = payload if opcode == TEXT else None
                refused |= self._dispatcher.handle_excess(client, text, refusal)
        if refused:
            self._hub.observer.limited(Limit.MESSAGE_RATE)
            if self._inflow.add_refusal(now) and client.open:
                self._hub.fail(client, TOO_FAST)
        reader.broken = broken
        super()._handle([])
