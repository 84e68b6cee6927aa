"""A node without sockets: the real hub, with a clock, ticks and transports that a test drives."""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from handlers.connection import Connection, Handshake, LimitedConnection
from hub.access import ANONYMOUS, Access
from hub.brokers.base import Broker
from hub.brokers.memory import MemoryBroker
from hub.delivery.client import Client, Transport
from hub.delivery.framing import WEBSOCKET, Framing
from hub.delivery.keepalive import SLICES, Keepalive
from hub.directory import Directory
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.event_stream import Stream
from hub.hub import Hub
from hub.ids import Ids
from hub.limits import Inflow, InflowRates
from hub.loop_lag import LoopLag
from hub.observer import Observer
from hub.protocol.connect_requests import StreamQuery, decode_stream_query
from hub.protocol.websocket_frames import FrameReader
from hub.service import Service
from hub.sessions import Sessions
from hub.settings import Settings
from tests.support.frames import CLOSE, TEXT, take_frames, unmask
from tests.support.sse import Listener, Said

PEER = ("192.0.2.7", 50_000)  # the address of every client


class RecordingTransport:
    """A transport that records writes; beyond `room` bytes, it buffers and pauses writing."""

    def __init__(self, room: int | None = None) -> None:
        self.client: Client  # set by Node.connect
        self.room = room  # bytes that the "kernel" still takes; None for all
        self.written = bytearray()  # bytes that the "kernel" took
        self.held = bytearray()  # buffered bytes
        self.taken = 0  # number of all bytes that the "kernel" took
        self.writes = 0
        self.reading = True
        self.ended = ""  # "close", "eof" or "abort"

    def write(self, data: bytes) -> None:
        assert self.ended == "", f"a write after {self.ended}"
        self.writes += 1
        self.held += data
        was_empty = len(self.held) == len(data)
        self._pass_on()
        if was_empty and self.held:
            self.client.pause_writing()

    def drain(self, room: int | None = None) -> None:
        """Let the "kernel" take `room` more bytes, or all."""
        self.room = room
        if self.held:
            self._pass_on()
            if not self.held:
                self.client.resume_writing()

    def _pass_on(self) -> None:
        count = len(self.held) if self.room is None else min(self.room, len(self.held))
        self.written += self.held[:count]
        self.taken += count
        del self.held[:count]
        if self.room is not None:
            self.room -= count

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert (high, low) == (0, 0)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return PEER if name == "peername" else None

    def close(self) -> None:
        self.ended = "close"

    def write_eof(self) -> None:
        self.ended = "eof"

    def abort(self) -> None:
        self.ended = "abort"


def progress(transport: Transport) -> tuple[int, bool]:
    """Return a transport's progress as if the peer acknowledged all that the "kernel" takes."""
    assert isinstance(transport, RecordingTransport)
    return transport.taken, bool(transport.held)


class Peer:
    """The client's side of one connection of a `Node`."""

    def __init__(self, node: "Node", name: str, room: int | None, framing: Framing) -> None:
        self.transport = RecordingTransport(room)
        self.client = node.hub.join(self.transport, name=name, framing=framing, address=PEER[0])
        self.transport.client = self.client
        self._node = node

    def say(self, message: Any) -> None:
        """Send one message: bytes and strings unchanged, anything else as JSON."""
        if not isinstance(message, bytes | str):
            message = json.dumps(message)
        self._node.dispatcher.handle(
            self.client, message if isinstance(message, bytes) else message.encode()
        )

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the frames that have arrived since the last call."""
        return take_frames(self.transport.written)

    def hear(self) -> list[Any]:
        """End the tick, and return the messages since the last call; a Close is ("close", code)."""
        self._node.tick()
        heard: list[Any] = []
        for opcode, payload in self.frames():
            if opcode == TEXT:
                heard.append(json.loads(payload))
            elif opcode == CLOSE:
                heard.append(("close", int.from_bytes(payload[:2], "big"), payload[2:].decode()))
            else:
                heard.append((opcode, payload))
        return heard


class Wired:
    """The client's side of one WebSocket connection of a `Node`; it sends bytes."""

    def __init__(self, node: "Node") -> None:
        self.transport = RecordingTransport()
        reader = FrameReader(node.settings.max_message_bytes, unmask)
        handshake = Handshake("wired", ANONYMOUS, PEER[0], WEBSOCKET)
        hub, dispatcher, rates = node.hub, node.dispatcher, InflowRates.of(node.settings)
        self.connection = (
            LimitedConnection(hub, dispatcher, reader, handshake, inflow=Inflow(rates))
            if any(rates)
            else Connection(hub, dispatcher, reader, handshake)
        )
        self.connection.connection_made(cast(asyncio.Transport, self.transport))
        (*_, self.client) = node.hub.clients
        self.transport.client = self.client

    def send(self, data: bytes) -> None:
        """Deliver bytes to the server as one read."""
        assert self.transport.reading
        self.connection.data_received(data)

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the frames that have arrived since the last call."""
        return take_frames(self.transport.written)


class StreamPeer:
    """The client's side of one event stream of a `Node`."""

    def __init__(self, node: "Node", query: StreamQuery, last_id: str, room: int | None) -> None:
        self.transport = RecordingTransport(room)
        self.client = Stream(node.service, node.drain, ANONYMOUS, PEER[0], query).open(
            self.transport
        )
        self.transport.client = self.client
        self.given = last_id
        self.listener = Listener(last_id)
        self._node = node

    def drain(self, room: int | None = None) -> None:
        """Let the "kernel" take `room` more bytes, or all, and resume recoveries."""
        self.transport.drain(room)
        self._node.hub.recovery.resume(self.client)  # as the connection does
        self._node.tick()

    def hear(self, count: int | None = None) -> list[Said]:
        """End the tick, and return the messages since the last call, or `count` of them."""
        self._node.tick()
        return self.listener.take(self.transport.written, count)


class Node:
    """A hub with its dispatcher, drain and keepalive, driven by a test."""

    def __init__(
        self,
        settings: Settings | None = None,
        broker: Broker | None = None,
        observer: Observer | None = None,
        node: str = "0123456789abcdef",
    ) -> None:
        self.settings = settings or Settings()
        self.broker = MemoryBroker() if broker is None else broker
        self.wall_ns = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
        self._soon: deque[Callable[[], None]] = deque()
        ids = Ids(lambda: self.wall_ns, "test")
        self.hub = Hub(
            self.settings,
            self.broker,
            node=node,
            ids=ids,
            call_soon=self._soon.append,
            clock=lambda: 0.0,
            timer=time.perf_counter,
            send=os.write,
            observer=observer or Observer(),
        )
        self.drain = Drain(self.hub)
        sessions = Sessions(self.hub, None, 10.0, time.time)
        self.directory = Directory(self.hub, 0.0, LoopLag())
        self.service = Service(self.hub, self.drain, Access(), sessions, self.directory)
        self.dispatcher = Dispatcher(self.service, self.drain, self.settings)
        hub = self.hub
        self.keepalive = Keepalive(
            self.settings,
            hub.clients,
            send=hub.fanout.send,
            fail=hub.fail,
            rights_due=sessions.due,
            progress=progress,
            discard=lambda _: None,
        )

    def connection(self) -> "Wired":
        """Return a new client that sends bytes."""
        return Wired(self)

    def connect(
        self, name: str = "", room: int | None = None, framing: Framing = WEBSOCKET
    ) -> Peer:
        """Return a new client; its transport takes `room` bytes until it drains."""
        return Peer(self, name, room, framing)

    def subscribed(self, *topics: str, room: int | None = None) -> Peer:
        """Return a new client that is subscribed to `topics` and has received the acks."""
        peer = self.connect("someone")
        for topic in topics:
            peer.say({"type": "subscribe", "topic": topic})
        assert [answer["type"] for answer in peer.hear()] == ["ack"] * len(topics)
        peer.transport.room = room
        return peer

    def stream(
        self, *topics: str, last_id: str = "", last_n: str = "", room: int | None = None
    ) -> StreamPeer:
        """Return a new event stream; its transport takes `room` bytes until it drains."""
        fields = [*(("topic", topic) for topic in topics), ("last_n", last_n)]
        query = decode_stream_query(fields, last_id, self.settings.max_topic_bytes)
        assert isinstance(query, StreamQuery), query
        return StreamPeer(self, query, last_id, room)

    def tick(self) -> None:
        """Run all scheduled callbacks, and those that they schedule."""
        while self._soon:
            self._soon.popleft()()

    def turn(self) -> None:
        """Run the callbacks scheduled so far, as one tick does."""
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def visit_all(self, now: float) -> None:
        """Run a complete round of the keepalive at time `now`."""
        for _ in range(SLICES):
            self.keepalive.sweep(now)
        self.tick()

    def topics(self) -> dict[str, int]:
        """Return the number of subscribers of every topic."""
        return topics_of(self.hub)

    def publish(self, topic: str, payload: Any) -> Any:
        """Publish as REST does, without a connection, and return the outcome."""
        outcomes: list[Any] = []
        self.hub.publish(topic, None, payload, outcomes.append)
        return outcomes[0] if outcomes else None


def topics_of(hub: Hub) -> dict[str, int]:
    """Return the number of subscribers of every topic, and check the hub's own totals."""
    topics = {name: hub.subscriber_count(name) for name in hub.topic_names()}
    assert (hub.topic_count, hub.subscriptions) == (len(topics), sum(topics.values()))
    return topics
