"""The connection, which is made again and again. It knows frames and pauses, and no topic.

State: what is to be written on the connection that there is, if there is one.
"""

import asyncio
import itertools
import json
import logging
import math
import random
import re
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final, Protocol

import aiohttp

from broadcast_client.items import RefusedError

log = logging.getLogger(__name__)

CONNECT_WITHIN: Final = 10.0  # seconds
HEARTBEAT: Final = 25.0  # seconds of silence, then it is pinged; half of them more, then it is dead
FIRST: Final = 0.5  # seconds, at most, before the first attempt to connect again; then twice …
LONGEST: Final = 20.0  # … as many, up to this
STEADY: Final = 10.0  # seconds that a connection must have lasted for that to begin anew
GOODBYE: Final = 2.0  # seconds for the server to answer a Close
TURN: Final = 64  # messages that are read before others on the loop get their turn

# Close codes after which nobody should come back; after all others, with any reason, one should.
FOR_GOOD: Final = frozenset({1002, 1007, 1008, 3003})
TOO_BIG: Final = 1009  # the Close code for a message over MAX_MESSAGE_BYTES
PASSING: Final = frozenset({408, 425, 429})  # of the HTTP statuses 4xx, those that may pass

NESTING: Final = 250 + 1  # levels that the server takes: those of a payload, in a message
STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
LONG: Final = re.compile(r"\d{309,}")  # a whole number that may be beyond every double


class Speaker(Protocol):
    """Who uses the connection. None of these waits for anything."""

    def opened(self) -> None:
        """There is a connection, and nothing was said on it yet."""

    def take(self, message: dict[str, Any]) -> None:
        """The server says something."""

    def cut(self) -> None:
        """The connection is no more."""

    def too_big(self) -> bool:
        """The server has refused a message for its size; whether it will not be said again."""


class Connection:
    """Connects, and connects again."""

    def __init__(self, url: str, client_id: str) -> None:
        self._url = url
        self._client_id = client_id
        self._outgoing: deque[bytes] | None = None  # None where there is no connection
        self._more = asyncio.Event()  # there is something to be written
        self._attempt = 0  # to connect again, since a connection was steady
        self._span: tuple[float, float] | None = None  # the next pause's, if the server has set it
        self._sockets: list[socket.socket] = []  # of the newest attempt, to cut what does not end

    @property
    def open(self) -> bool:
        return self._outgoing is not None

    @property
    def waiting(self) -> int:
        """Messages that are not written yet."""
        return len(self._outgoing or ())

    def say(self, message: dict[str, Any] | bytes) -> None:
        """Let it be written, where there is a connection."""
        if self._outgoing is not None:
            self._outgoing.append(message if isinstance(message, bytes) else encode(message))
            self._more.set()

    def spread(self, low: float, high: float) -> None:
        """Let the pause after this connection be any time from `low` to `high` seconds."""
        self._span = low, high

    async def run(self, speaker: Speaker) -> None:
        """Connect until cancelled.

        Raises:
            RefusedError: the server does not want this client.
        """
        connector = aiohttp.TCPConnector(socket_factory=self._make_socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                why = await self._connect(session, speaker)
                wait = random.uniform(*self._span) if self._span else pause(self._attempt)
                self._span = None
                self._attempt += 1
                log.warning("%s; connecting again in %.1f s", why, wait)
                await asyncio.sleep(wait)

    async def _connect(self, session: aiohttp.ClientSession, speaker: Speaker) -> str:
        """One connection from its beginning to its end; why it ended."""
        self._sockets.clear()
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                peer = await session.ws_connect(
                    self._url,
                    params={"client_id": self._client_id},
                    heartbeat=HEARTBEAT,
                    autoclose=False,
                    max_msg_size=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            if 400 <= error.status < 500 and error.status not in PASSING:
                raise RefusedError("REFUSED", f"HTTP status {error.status}") from None
            return f"HTTP status {error.status}"
        except aiohttp.InvalidURL as error:
            raise RefusedError("REFUSED", f"this is no URL of a server: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            return repr(error)
        try:
            return await self._converse(peer, speaker)
        finally:
            await self._hang_up(peer)

    async def _converse(self, peer: aiohttp.ClientWebSocketResponse, speaker: Speaker) -> str:
        opened = time.monotonic()
        self._outgoing = deque()
        speaker.opened()
        writer = asyncio.create_task(self._write(peer, self._outgoing))
        try:
            last = await _listen(peer, speaker)
        finally:
            writer.cancel()
            self._outgoing = None
            speaker.cut()
        if time.monotonic() - opened >= STEADY:
            self._attempt = 0
        if last.type is not aiohttp.WSMsgType.CLOSE:
            return f"the connection was lost ({last.data or 'without a Close'})"
        code, word = last.data, last.extra
        if code in FOR_GOOD or (code == TOO_BIG and not speaker.too_big()):
            raise RefusedError("REFUSED", f"closed by the server ({code} {word})")
        return f"closed by the server ({code} {word})"

    async def _write(self, peer: aiohttp.ClientWebSocketResponse, outgoing: deque[bytes]) -> None:
        with suppress(ConnectionError):  # who listens finds out too
            while True:
                while outgoing:
                    await peer.send_frame(outgoing.popleft(), aiohttp.WSMsgType.TEXT)
                self._more.clear()
                await self._more.wait()

    async def _hang_up(self, peer: aiohttp.ClientWebSocketResponse) -> None:
        """Say goodbye, but not for long; then nothing of the connection is left."""
        try:
            async with asyncio.timeout(GOODBYE):
                await peer.close()
        except TimeoutError:
            pass  # it is cut now
        for made in self._sockets:
            with suppress(OSError):  # it is closed already
                made.shutdown(socket.SHUT_RDWR)

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made


async def _listen(peer: aiohttp.ClientWebSocketResponse, speaker: Speaker) -> aiohttp.WSMessage:
    """Hand on what the server says, until something else comes, which is returned."""
    for turn in itertools.count(1):
        message = await peer.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        speaker.take(json.loads(message.data))
        if turn % TURN == 0:  # receive() does not wait where there is something to read
            await asyncio.sleep(0)
    return message


def pause(attempt: int) -> float:
    """Full jitter: any part of a span that doubles, so that not all come back at once."""
    return random.uniform(0, min(LONGEST, FIRST * 2 ** min(attempt, 10)))


def encode(message: dict[str, Any]) -> bytes:
    """A message as JSON that the server can read; what it can't, it answers to nobody.

    Raises:
        TypeError, ValueError: it has no such form.
    """
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > NESTING or LONG.search(text):  # hardly ever
        _check(STRING.sub("", text))
    return text.encode()  # where a surrogate without its other half fails


def _check(bare: str) -> None:
    """Whether the server can read JSON, of which the strings were taken."""
    if any(math.isinf(float(digits)) for digits in LONG.findall(bare)):
        raise ValueError("a number is too large")
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", bare))
    if max(itertools.accumulate(steps)) > NESTING:
        raise ValueError("it is nested too deeply")
