"""The clients of bench/fairness.py: plain sockets, each kind of client in its own process.

A kind is a function that gets a pipe and, except `burn`, the server's port. It sends READY when its
clients are connected and subscribed. `quiet` and `flood` start at the parent's first message and
stop at the second, which they answer with their figures; `read` answers every message with its
counts.
"""

import asyncio
import json
import multiprocessing
import os
import select
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import uvloop

PATIENCE: Final = 60.0  # seconds to wait for an answer of the server or of a client process
LIFETIME: Final = 300  # seconds; a client process that outlives its parent gets SIGALRM then
NICENESS: Final = 10  # of floods and readers, which share a core with the quiet clients
READY: Final = "ready"
TEXT, CONTINUATION, PING = 0x1, 0x0, 0x9
MASK: Final = b"\x37\xfa\x21\x3d"
HEAD: Final = 22  # bytes of a frame that determine its kind
TOGETHER: Final = 200  # connects or subscribes that are answered together
CLOSE_BYTES: Final = 40  # of a Close with its reason
# Kinds of frames: of a text the first letters of its type, of any other frame its first byte.
ACK, EVENT, ERROR, INFO, PONG = b"ack", b"eve", b"err", b"inf", b"\x8a"
UPGRADE: Final = (
    b"GET /ws?client_id=bench HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(payload: bytes, opcode: int = TEXT, final: bool = True) -> bytes:
    """Return a client's frame, masked."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    key = (MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return bytes([0x80 * final | opcode]) + length + MASK + masked.to_bytes(size, "big")


def command(**fields: Any) -> bytes:
    """Return a text frame with a JSON object."""
    return frame(json.dumps(fields, separators=(",", ":")).encode())


def dial(port: int) -> socket.socket:
    """Open a TCP connection to the server."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def connect(port: int, count: int) -> list[socket.socket]:
    """Open WebSocket connections with a client id."""
    made: list[socket.socket] = []
    while len(made) < count:
        asked = [dial(port) for _ in range(min(TOGETHER, count - len(made)))]
        for sock in asked:
            sock.sendall(UPGRADE)
        for sock in asked:
            _upgraded(sock)
        made += asked
    return made


def _upgraded(sock: socket.socket) -> None:
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        data = sock.recv(65_536)
        answer += data
        if not data or not b"HTTP/1.1 101 ".startswith(answer[:13]):
            raise RuntimeError(f"no upgrade: {answer[:100]!r}")


class Frames:
    """Counts a server's frames by kind, without copying their payloads."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.closed = 0  # the code of the Close; 0 before it
        self._head = b""  # the start of a frame whose kind is not known yet
        self._skip = 0  # bytes of the last counted frame that have not arrived

    def feed(self, data: bytes) -> None:
        if self._skip >= len(data):
            self._skip -= len(data)
            return
        at, self._skip = self._skip, 0
        if self._head:
            data, self._head = self._head + data, b""
        size = len(data)
        while at < size:
            head, length = 2, data[at + 1] if at + 1 < size else HEAD
            if length >= 126:
                head = 4 if length == 126 else 10
                length = int.from_bytes(data[at + 2 : at + head], "big")
            if at + min(head + length, HEAD) > size:
                break
            kind = data[at : at + 1]
            if kind == b"\x81":
                kind = data[at + head + 9 : at + head + 12]  # after {"type":"
            elif kind == b"\x88":
                self.closed = int.from_bytes(data[at + 2 : at + 4], "big")
            self.counts[kind] += 1
            at += head + length
        if at < size:
            self._head = data[at:]
        else:
            self._skip = at - size


def subscribe(sock: socket.socket, topics: list[str]) -> None:
    """Subscribe to the topics, few at a time so that the acks fit into the socket's buffer."""
    frames = Frames()
    for start in range(0, len(topics), TOGETHER):
        part = topics[start : start + TOGETHER]
        sock.sendall(b"".join([command(type="subscribe", topic=topic) for topic in part]))
        while frames.counts[ACK] < start + len(part):
            data = sock.recv(262_144)
            frames.feed(data)
            if not data or frames.closed or frames.counts[ERROR]:
                raise RuntimeError(f"a subscribe was refused: {data[-300:]!r}")


class Child:
    """A process that runs one kind of client; leaving the context kills it."""

    def __init__(self, kind: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._kind = kind.__name__
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=_run, args=(kind, pipe, *arguments), daemon=True)
        self._process.start()
        pipe.close()

    def __enter__(self) -> "Child":
        self.hear()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def tell(self) -> None:
        """Send a message to the process; its meaning depends on the kind of client."""
        self._pipe.send(None)

    def hear(self) -> Any:
        """Return the process' next answer.

        Raises:
            RuntimeError: the process failed, or did not answer within PATIENCE.
        """
        if not self._pipe.poll(PATIENCE):
            raise RuntimeError(f"{self._kind}: no answer within {PATIENCE:g} s")
        try:
            said = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self._kind}: the process ended") from None
        if isinstance(said, Exception):
            raise RuntimeError(f"{self._kind}: {said}")
        return said

    def ask(self) -> Any:
        """Send a message to the process and return its answer."""
        self.tell()
        return self.hear()


def _run(kind: Callable[..., None], pipe: Pipe, *arguments: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent kills its children itself
    signal.alarm(LIFETIME)
    try:
        kind(pipe, *arguments)
    except (OSError, RuntimeError) as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


class _Quiet(asyncio.Protocol):
    """A quiet client: it sends on schedule, without waiting for earlier answers."""

    def __init__(self, message: bytes, awaited: bytes, period: float, sums: "_Sums") -> None:
        self._message, self._awaited, self._period, self._sums = message, awaited, period, sums
        self._frames = Frames()
        self._sent: deque[float] = deque()  # times of the unanswered messages

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def begin(self, due: float) -> None:
        asyncio.get_running_loop().call_at(due, self._send, due)

    def _send(self, due: float) -> None:
        sums = self._sums
        if sums.over:
            return
        now = time.monotonic()
        sums.late.append(now - due)
        sums.sent += 1
        self._sent.append(now)
        self._transport.write(self._message)
        self.begin(due + self._period)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        counts = self._frames.counts
        before = counts[self._awaited]
        self._frames.feed(data)
        for _ in range(counts[self._awaited] - before):
            self._sums.took.append(now - self._sent.popleft())
        if self._frames.closed:
            self._sums.closed = self._frames.closed
        self._sums.look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sums.closed = self._sums.closed or 1006
        self._sums.look()


class _Sums:
    """The figures of a process' quiet clients; times in seconds."""

    def __init__(self) -> None:
        self.over = False  # whether the clients have stopped sending
        # Set after `over`, when all answers have arrived or a client was closed.
        self.complete = asyncio.Event()
        self.sent = 0
        self.took: list[float] = []  # from the send to the answer
        self.late: list[float] = []  # from the scheduled time to the send
        self.closed = 0  # the code of a client that was closed

    def look(self) -> None:
        if self.closed or (self.over and len(self.took) == self.sent):
            self.complete.set()


def quiet(pipe: Pipe, port: int, count: int, period: float, pings: bool) -> None:
    """Run clients that each send a small message every `period` seconds and time its answer.

    The message is a publish to a topic of the client's own, or with `pings` a WebSocket ping.
    """
    uvloop.run(_quiet(pipe, port, count, period, pings))


async def _quiet(pipe: Pipe, port: int, count: int, period: float, pings: bool) -> None:
    loop, sums = asyncio.get_running_loop(), _Sums()
    clients: list[_Quiet] = []
    for number, sock in enumerate(connect(port, count)):
        topic = f"quiet/{number}"
        message, awaited = frame(b"", PING), PONG
        if not pings:
            subscribe(sock, [topic])
            message, awaited = command(type="publish", topic=topic, payload=number), EVENT
        sock.setblocking(False)
        client = _Quiet(message, awaited, period, sums)
        await loop.create_connection(lambda client=client: client, sock=sock)
        clients.append(client)
    pipe.send(READY)
    pipe.recv()
    told = asyncio.Event()
    loop.add_reader(pipe.fileno(), told.set)
    start = time.monotonic() + 0.01
    for number, client in enumerate(clients):
        client.begin(start + period * number / count)
    await told.wait()
    sums.over = True
    loop.remove_reader(pipe.fileno())
    sums.look()
    try:
        async with asyncio.timeout(PATIENCE / 2):
            await sums.complete.wait()
    except TimeoutError:
        pass  # the counts below say how many are missing
    if sums.closed or not 0 < len(sums.took) == sums.sent:
        raise RuntimeError(
            f"{len(sums.took)} of {sums.sent} messages came back, closed with {sums.closed}"
        )
    pipe.recv()
    pipe.send(
        {
            "p50": percentile(sums.took, 0.5) * 1e3,
            "p99": percentile(sums.took, 0.99) * 1e3,
            "max": max(sums.took) * 1e3,
            "late": percentile(sums.late, 0.99) * 1e3,
            "count": len(sums.took),
        }
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def flood(
    pipe: Pipe,
    port: int,
    piece: bytes,
    messages: int,
    answer: bytes,
    ahead: float,
    opening: bytes | None,
) -> None:
    """Run a client that repeats `piece`, of `messages` messages, as fast as the socket takes it.

    It reads all answers and reconnects when it is closed.

    Args:
        answer: bytes that occur once in each answer; empty if messages are not answered.
        ahead: a piece is started while fewer messages than this are unanswered.
        opening: bytes sent first on each connection; None for HTTP instead of WebSocket.
    """
    os.nice(NICENESS)
    view = memoryview(piece)
    closes: Counter[int] = Counter()
    sent = answered = 0  # bytes; messages
    sock, at, waiting, last = _enter(port, opening), 0, 0, b""
    pipe.send(READY)
    pipe.recv()
    start = time.monotonic()
    while True:
        sends = [sock] if at or waiting < ahead else []
        readable, writable, _ = select.select([sock, pipe], sends, [], PATIENCE)
        if pipe in readable:
            break
        try:
            if writable:
                taken = sock.send(view[at:])
                sent += taken
                at += taken
                if at == len(piece):
                    at = 0
                    waiting += messages if answer else 0
            code = 0
            if sock in readable:
                data = sock.recv(262_144)
                if answer:
                    # With the end of the previous data, since an answer may be split.
                    seen = (last[len(last) + 1 - len(answer) :] + data).count(answer)
                    answered += seen
                    waiting -= seen
                last = (last + data[-CLOSE_BYTES:])[-CLOSE_BYTES:]
                code = closed_with(last) if data else 1006
        except ConnectionError:
            code = 1006
        if code:
            closes[code] += 1
            sock.close()
            sock, at, waiting, last = _enter(port, opening), 0, 0, b""
    seconds = time.monotonic() - start
    pipe.recv()
    done = answered if answer else sent * messages / len(piece)
    pipe.send({"done": done, "rate": done / seconds, "closes": dict(closes)})


def _enter(port: int, opening: bytes | None) -> socket.socket:
    sock = dial(port) if opening is None else connect(port, 1)[0]
    sock.sendall(opening or b"")
    sock.setblocking(False)
    return sock


def closed_with(data: bytes) -> int:
    """Return the code of the Close at the end of the data, or 0."""
    for at in range(len(data) - 3):
        if data[at] == 0x88 and at + 2 + data[at + 1] == len(data):
            return int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def read(pipe: Pipe, port: int, topics: list[str], each: int, niceness: int) -> None:
    """Run `each` subscribers for every topic, and read all of them in one epoll loop."""
    os.nice(niceness)
    epoll = select.epoll()
    sockets: dict[int, tuple[socket.socket, Frames]] = {}
    counts, closes = Counter[bytes](), Counter[int]()
    for topic in topics:
        message = command(type="subscribe", topic=topic)
        for sock in connect(port, each):
            sock.sendall(message)
            sock.setblocking(False)
            frames = Frames()
            frames.counts = counts
            sockets[sock.fileno()] = sock, frames
            epoll.register(sock, select.EPOLLIN)

    def turn() -> None:
        for fileno, _ in epoll.poll(PATIENCE, 1_024):
            if fileno == pipe.fileno():
                pipe.recv()
                pipe.send({"counts": dict(counts), "closes": dict(closes)})
                continue
            sock, frames = sockets[fileno]
            try:
                data = sock.recv(262_144)
            except ConnectionError:
                data = b""
            if data:
                frames.feed(data)
            if frames.closed or not data:
                closes[frames.closed or 1006] += 1
                epoll.unregister(sock)
                sock.close()

    end = time.monotonic() + PATIENCE
    while counts[ACK] < len(sockets):
        turn()
        if closes or time.monotonic() > end:
            raise RuntimeError(f"{counts[ACK]} of {len(sockets)} subscribes were acked")
    epoll.register(pipe, select.EPOLLIN)
    pipe.send(READY)
    while True:
        turn()


def burn(pipe: Pipe) -> None:
    """Keep the core busy with a loop."""
    pipe.send(READY)
    while True:
        pass
