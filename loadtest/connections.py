"""The connections of simulated clients: WebSockets and streams of Server-Sent Events.

They block, as http.client does. Locust replaces the standard library's sockets by gevent's, so a
connection that blocks lets the others run. A frame is read from the response's own buffer, with two
calls and no Python code per byte (docs/decisions/0065).
"""

import base64
import http.client
import os
import ssl
import struct
from typing import Final, Self

from cli.address import Address

CONNECT_WITHIN: Final = 10.0  # seconds for a connection and the head of its response

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A  # first bytes of unfragmented frames
_MASKED: Final = 0x80  # bit of the second byte
# A client must mask its frames; with this key their payload stays as it is (RFC 6455, section 5.3).
_KEY: Final = bytes(4)
_MEDIUM: Final = struct.Struct(">BBH4s").pack
_LONG: Final = struct.Struct(">BBQ4s").pack
_GOING: Final = (1000).to_bytes(2, "big")

# One for all connections: each takes a millisecond and 500 KB. SSL_CERT_FILE adds certificates.
TLS: Final = ssl.create_default_context()


class RefusedError(Exception):
    """The server has refused a connection or a command; the text says how."""


class EndedError(Exception):
    """A connection has ended; the text says why."""


class _Connection:
    """A connection that stays open until the end of a `with` block."""

    def __init__(
        self, address: Address, path: str, headers: dict[str, str], status: int, patience: float
    ) -> None:
        """Connect, and send a GET request.

        Args:
            address: of the server, with the credential.
            path: with the query.
            headers: of the request, without the credential.
            status: that the response must have.
            patience: seconds without a byte from the server after which it ends.

        Raises:
            RefusedError: there is no connection, or the response has another status.
        """
        if address.credential is not None:
            headers = headers | {"Authorization": f"Bearer {address.credential}"}
        if address.secure:
            self._client = http.client.HTTPSConnection(
                address.host, address.port, timeout=CONNECT_WITHIN, context=TLS
            )
        else:
            self._client = http.client.HTTPConnection(
                address.host, address.port, timeout=CONNECT_WITHIN
            )
        try:
            self._client.connect()
            self._socket = self._client.sock
            self._client.request("GET", address.path + path, headers=headers)
            self._response = self._client.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._client.close()
            raise RefusedError(f"no answer: {reason(error)}") from None
        if self._response.status != status:
            self.close()
            raise RefusedError(f"refused: HTTP {self._response.status}")
        self._socket.settimeout(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._client.close()

    def _lost(self, error: Exception) -> EndedError:
        if isinstance(error, TimeoutError):
            return EndedError("silent: no event in time")
        return EndedError(f"lost: {reason(error)}")


def reason(error: Exception) -> str:
    """Return a text that is the same for all errors of a kind, as rows of a table need."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


class WebSocket(_Connection):
    """A WebSocket."""

    def __init__(self, address: Address, path: str, patience: float) -> None:
        """Connect. Arguments and errors are those of `_Connection`."""
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        super().__init__(address, path, headers, 101, patience)
        # The buffer of the head may hold the first frames.
        self._file = self._response.fp

    def send(self, message: bytes) -> None:
        """Send a text message.

        Raises:
            EndedError: the connection is lost.
        """
        try:
            self._socket.sendall(_frame(_TEXT, message))
        except OSError as error:
            raise self._lost(error) from None

    def receive(self) -> bytes:
        """Return the next text message; answer pings and a Close.

        Raises:
            EndedError: the server has closed the connection, or it is lost or silent.
        """
        try:
            while True:
                first, payload = self._read()
                if first == _TEXT:
                    return payload
                if first == _PING:
                    self._socket.sendall(_frame(_PONG, payload))
                elif first == _CLOSE:
                    self._socket.sendall(_frame(_CLOSE, payload[:2]))
                    code = int.from_bytes(payload[:2], "big") or 1005
                    raise EndedError(f"closed: {code} {payload[2:].decode()}")
                else:
                    raise EndedError(f"unexpected frame: {first:#x}")
        except OSError as error:
            raise self._lost(error) from None

    def _read(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame."""
        head = self._take(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0], self._take(size)

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EndedError("lost: the connection ended without a Close")
        return data

    def close(self) -> None:
        """Send a Close, and end the connection without waiting for the answer."""
        try:
            self._socket.sendall(_frame(_CLOSE, _GOING))
        except OSError:
            pass  # it has ended already
        super().close()


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, _MASKED | size)) + _KEY + payload
    if size < 65_536:
        return _MEDIUM(first, _MASKED | 126, size, _KEY) + payload
    return _LONG(first, _MASKED | 127, size, _KEY) + payload


class Stream(_Connection):
    """A stream of Server-Sent Events."""

    def __init__(self, address: Address, path: str, patience: float) -> None:
        """Connect. Arguments and errors are those of `_Connection`.

        The request has no `Accept: text/event-stream`, with which a server that is full would
        answer 200.
        """
        super().__init__(address, path, {}, 200, patience)

    def receive(self) -> bytes:
        """Return the data of the next message.

        Raises:
            EndedError: the stream has ended, or it is lost or silent.
        """
        try:
            while line := self._response.readline():
                if line.startswith(b"data: "):
                    return line[6:-1]
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        raise EndedError("lost: the stream ended")
