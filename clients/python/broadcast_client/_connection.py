"""The WebSocket connection, with reconnects. It knows messages and pauses, but no topics.

State: the messages to be written to the current connection, if there is one, and why the last one
ended.
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
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import aiohttp

from broadcast_client._items import RefusedError, State, StateDetail
from broadcast_client._server import REDIRECTS, Server, describe_failure, describe_redirect
from broadcast_client._token import TokenError

log = logging.getLogger("broadcast_client")

CONNECT_WITHIN: Final = 10.0  # seconds
# Seconds of silence before a ping. Without a pong in half as many, the connection is lost.
HEARTBEAT: Final = 25.0
# Seconds. A pause before a reconnect is random, up to a maximum that is FIRST at first, and doubles
# with each attempt until it is LONGEST.
FIRST: Final = 0.5
LONGEST: Final = 20.0
STEADY: Final = 10.0  # seconds that a connection must last to reset the pause
GOODBYE: Final = 2.0  # seconds for the server to answer a Close
TURN: Final = 64  # messages read in one tick of the event loop
UNSENT: Final = 10_000  # maximum of messages queued for the connection
# Seconds in which a publish may be repeated: the server keeps its idempotency key for 300.
REPEATABLE: Final = 240.0

# Close codes after which the client must not reconnect; after all others it does.
FOR_GOOD: Final = frozenset({1002, 1007, 1008, 3003})
TOKEN_NEEDED: Final = 3000  # Close code: get a token, then reconnect
TOO_BIG: Final = 1009  # Close code for a message over MAX_MESSAGE_BYTES
# HTTP statuses that are temporary. All others of 4xx are not, and neither are those of MOVED.
PASSING: Final = frozenset({408, 425, 429})
MOVED: Final = frozenset({301, 308})

NESTING: Final = 250 + 1  # levels of nesting that the server accepts: a payload's, and the message
STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
LONG: Final = re.compile(r"\d{309,}")  # an integer that may be too large for a double


class Speaker(Protocol):
    """The user of a connection: the client. Its methods do not block.

    They begin with an underscore, because the class `Client` is public and they are not.
    """

    def _opened(self) -> None:
        """Send the first messages of a new connection.

        The connection calls it before it sends any other message.
        """

    def _take(self, message: dict[str, Any]) -> None:
        """Handle a message of the server."""

    def _cut(self) -> None:
        """Handle the end of the connection."""

    def _too_big(self) -> bool:
        """Handle the refusal of a message because of its size.

        Returns:
            True if that message will not be sent again.
        """

    def _changed(self, state: State, detail: StateDetail) -> None:
        """Handle a new state, any but "closed"."""


class Connection:
    """A connection that is opened again whenever it ends."""

    def __init__(self, server: Server, client_id: str) -> None:
        self._server = server
        self.why = ""  # the reason why the last connection ended or was not made
        self._client_id = client_id
        self._outgoing: deque[bytes] | None = None  # None without a connection
        self._more = asyncio.Event()  # set when a message is queued
        self._hurry = asyncio.Event()  # set to end the pause before a reconnect
        self._attempt = 0  # reconnects since the last steady connection
        self._span: tuple[float, float] | None = None  # of the next pause, if the server has set it
        self._sockets: list[socket.socket] = []  # of the newest attempt, to shut them down

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._outgoing is not None

    @property
    def waiting(self) -> int:
        """The number of queued messages."""
        return len(self._outgoing or ())

    def check_queue(self) -> None:
        """Check that another message may be queued.

        Raises:
            RefusedError: BUSY, since the queue is full. It also has cancelled and closed requests.
        """
        if self.waiting >= UNSENT:
            raise RefusedError("BUSY", f"{UNSENT} messages wait to be sent")

    def say(self, message: dict[str, Any] | bytes) -> None:
        """Queue a message; drop it without a connection."""
        if self._outgoing is not None:
            self._outgoing.append(message if isinstance(message, bytes) else encode(message))
            self._more.set()

    def retry(self) -> None:
        """End the pause before the next attempt, if there is one now."""
        self._hurry.set()

    def spread(self, low: float, high: float) -> None:
        """Set the pause after this connection to a random time of `low` to `high` seconds."""
        self._span = low, high

    async def run(self, speaker: Speaker) -> None:
        """Stay connected until cancelled.

        Raises:
            RefusedError: the server has refused this client for good.
        """
        connector = aiohttp.TCPConnector(socket_factory=self._make_socket)
        async with aiohttp.ClientSession(
            connector=connector, middlewares=(_refuse_redirects,)
        ) as session:
            while True:
                speaker._changed("connecting", StateDetail(self.why, self._attempt))
                self.why = await self._connect(session, speaker)
                wait = random.uniform(*self._span) if self._span else pause(self._attempt)
                self._span = None
                self._attempt += 1
                text = "%s: %s; connecting again in %.1f s (attempt %d)"
                log.warning(text, self._server.shown, self.why, wait, self._attempt)
                self._hurry.clear()
                speaker._changed("waiting", StateDetail(self.why, self._attempt, wait))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._hurry.wait()

    async def _connect(self, session: aiohttp.ClientSession, speaker: Speaker) -> str:
        """Open a connection, use it until it ends, and return the reason of its end."""
        self._sockets.clear()
        try:
            token = await self._server.token.fetch()
        except TokenError as error:
            return str(error)
        self._server.token.current = token
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                peer = await session.ws_connect(
                    self._server.url,
                    params={"client_id": self._client_id},
                    headers=self._server.headers(token),
                    ssl=self._server.ssl,
                    heartbeat=HEARTBEAT,
                    autoclose=False,
                    max_msg_size=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            return self._refused(error.status, error.headers or {})
        except TimeoutError:
            return f"no answer within {CONNECT_WITHIN:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return describe_failure(error)
        try:
            return await self._converse(peer, speaker)
        finally:
            await self._hang_up(peer)

    def _refused(self, status: int, headers: Mapping[str, str]) -> str:
        """Handle a handshake that was answered by another status than 101; return the reason.

        Raises:
            RefusedError: the status is not temporary.
        """
        why = f"HTTP status {status}"
        # A broadcast server answers so, too: with 200 at its root, where its console is.
        if status in (200, 404):
            why += ", and no WebSocket: is the path of the URL right? The server's is /ws"
        if status in REDIRECTS:
            why = describe_redirect(status, headers.get("Location", ""))
        if status == 401 and self._server.token.given:
            if self._server.token.refused():
                raise RefusedError("REFUSED", "the token was refused (HTTP 401)") from None
        elif status in MOVED or (400 <= status < 500 and status not in PASSING):
            raise RefusedError("REFUSED", why) from None
        return why

    async def _converse(self, peer: aiohttp.ClientWebSocketResponse, speaker: Speaker) -> str:
        opened = time.monotonic()
        self._outgoing = deque()
        speaker._opened()
        writer = asyncio.create_task(self._write(peer, self._outgoing))
        try:
            log.info("%s: connected", self._server.shown)
            speaker._changed("open", StateDetail(attempt=self._attempt))
            last = await _listen(peer, speaker)
        finally:
            writer.cancel()
            self._outgoing = None
            speaker._cut()
        if time.monotonic() - opened >= STEADY:
            self._attempt = 0
            self._server.token.accepted()
        if last.type is not aiohttp.WSMsgType.CLOSE:
            return f"connection lost ({last.data or 'without a Close'})"
        code, word = last.data, last.extra
        why = f"closed by the server ({code} {word})"
        if code in FOR_GOOD or (code == TOO_BIG and not speaker._too_big()):
            raise RefusedError("REFUSED", why)
        if (code, word) == (TOKEN_NEEDED, "unauthorized") and self._server.token.refused():
            raise RefusedError("REFUSED", f"the token was refused: {why}")
        if word == "auth_timeout" and not self._server.token.given:
            raise RefusedError("REFUSED", f"a token is needed: {why}")
        return why

    async def _write(self, peer: aiohttp.ClientWebSocketResponse, outgoing: deque[bytes]) -> None:
        with suppress(ConnectionError):  # `_listen` notices the loss, too, and reports it
            while True:
                while outgoing:
                    await peer.send_frame(outgoing.popleft(), aiohttp.WSMsgType.TEXT)
                self._more.clear()
                await self._more.wait()

    async def _hang_up(self, peer: aiohttp.ClientWebSocketResponse) -> None:
        """Send a Close, wait GOODBYE seconds for the answer, and shut the sockets down."""
        try:
            async with asyncio.timeout(GOODBYE):
                await peer.close()
        except TimeoutError:
            pass  # shut down below
        for made in self._sockets:
            with suppress(OSError):  # the socket is closed already
                made.shutdown(socket.SHUT_RDWR)

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Refuse redirects, which aiohttp would follow: `ws_connect` has no option against that.

    Raises:
        WSServerHandshakeError: the response is a redirect.
    """
    response = await handler(request)
    if response.status in REDIRECTS:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info,
            response.history,
            status=response.status,
            headers=response.headers,
        )
    return response


async def _listen(peer: aiohttp.ClientWebSocketResponse, speaker: Speaker) -> aiohttp.WSMessage:
    """Pass text messages to the speaker, and return the first message of another type."""
    for turn in itertools.count(1):
        message = await peer.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        speaker._take(json.loads(message.data))
        if turn % TURN == 0:  # receive() does not yield while messages are buffered
            await asyncio.sleep(0)
    return message


def pause(attempt: int) -> float:
    """Return a random pause in seconds: from 0 to a maximum that doubles with each attempt."""
    return random.uniform(0, min(LONGEST, FIRST * 2 ** min(attempt, 10)))


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as JSON that the server can read.

    The client checks this itself, because the server's error for JSON that it cannot read has no
    request_id, and so could not be assigned to a message.

    Raises:
        TypeError, ValueError: the message cannot be encoded so.
    """
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > NESTING or LONG.search(text):  # rare
        _check(STRING.sub("", text))
    return text.encode()  # raises for a lone surrogate


def _check(bare: str) -> None:
    """Raise ValueError if the server cannot read JSON text; `bare` is the text without strings."""
    if any(math.isinf(float(digits)) for digits in LONG.findall(bare)):
        raise ValueError("a number is too large")
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", bare))
    if max(itertools.accumulate(steps)) > NESTING:
        raise ValueError("it is nested too deeply")
