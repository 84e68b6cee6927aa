"""Writes and reads WebSocket frames (RFC 6455).

Pure: bytes in, bytes out. The frames of a server are not masked (section 5.1), so one frame can be
sent to every subscriber of a topic. Sections in this module are those of RFC 6455.
"""

import struct
from collections.abc import Callable
from typing import Final

from hub.errors import PROTOCOL_ERROR, TOO_BIG, Close

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FIN: Final = 0x80
_RESERVED: Final = 0x70  # RSV1 to RSV3; no extension is negotiated
_MASKED: Final = 0x80  # bit of the second byte
_WHOLE_TEXT: Final = _FIN | TEXT  # first byte of nearly every frame, which is checked first
_MAX_CONTROL: Final = 125  # bytes of payload in a control frame, section 5.5
_TOP_BIT: Final = 1 << 63  # must be 0 in a length of eight bytes, section 5.2
_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

# Headers of unfragmented text messages, for the three forms of the length (section 5.2).
_SHORT: Final = [bytes((_WHOLE_TEXT, size)) for size in range(126)]
_MEDIUM: Final = struct.Struct(">HH").pack
_LONG: Final = struct.Struct(">HQ").pack

PING_FRAME: Final = bytes((_FIN | PING, 0))


def text_frame(payload: bytes) -> bytes:
    """Encode a text message as one frame."""
    size = len(payload)
    if size < 126:
        return _SHORT[size] + payload
    if size < 65_536:
        return _MEDIUM(0x817E, size) + payload
    return _LONG(0x817F, size) + payload


def pong_frame(payload: bytes | bytearray) -> bytes:
    """Encode the answer to a ping, which repeats its payload (section 5.5.3)."""
    return bytes((_FIN | PONG, len(payload))) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Encode a Close with its code and reason; without a code, its payload is empty."""
    body = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes((_FIN | CLOSE, len(body))) + body


def close_reply(payload: bytes | bytearray) -> bytes:
    """Encode the answer to a client's Close (section 5.5.1).

    The answer has the client's code, or no code if the client sent none. An invalid payload (one
    byte, a code that must not be sent, a reason that is not UTF-8) is answered with 1002.
    """
    if not payload:
        return close_frame(None)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not _may_be_sent(code) or not _is_utf8(payload[2:]):
        return close_frame(PROTOCOL_ERROR.code, PROTOCOL_ERROR.reason)
    return close_frame(code)


def _may_be_sent(code: int) -> bool:
    """Return whether a Close may have this code (section 7.4 and the IANA registry)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_utf8(data: bytes | bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Limits of one slice; the connection is read on in a later tick (hub/delivery/turns.py).
SLICE_FRAMES: Final = 64
SLICE_BYTES: Final = 262_144


class FrameReader:
    """Reads the messages and control frames of one client from chunks of bytes.

    Theory of operation. Bytes arrive in chunks of any size. `feed` takes a chunk and returns the
    messages that it completes. Each frame is read in three steps:

    1. Its header (section 5.2): the checks of masking, reserved bits, opcode and fragmentation
       (sections 5.1 to 5.5), and the length. An unmasked frame, which a client must not send, a
       longer form of the length than needed, and a frame over the limit are violations.
    2. Its payload, which is unmasked in place (section 5.3). If the chunk ends first, the rest of
       it is buffered until the whole frame has arrived.
    3. Its message. An unfragmented message is returned as it is. Fragments (section 5.4) are
       joined until the final one; control frames (section 5.5) may come between them and are
       returned at once.

    Text is not checked to be UTF-8 here, since the JSON decoder does that.

    A violation sets `broken` to the Close for it, and nothing after it is read. Messages before it
    are returned first. A frame is rejected as soon as its header is complete, before its payload
    arrives.

    One call reads one slice, so that a client that sends much does not delay the others. While
    `more` is true, `read_on` reads the next slice. A chunk that is fed meanwhile is appended to the
    bytes that are not read yet.

    State: the bytes of an incomplete frame, the fragments of an incomplete message, the bytes after
    the last slice, and the violation.
    """

    __slots__ = (
        "_buffer",
        "_fragments",
        "_limit",
        "_needed",
        "_opcode",
        "_rest",
        "_serial",
        "_unmask",
        "broken",
        "incomplete",
        "more",
    )

    def __init__(self, limit: int, unmask: Callable[[bytes, bytearray], None]) -> None:
        """Create a reader.

        Args:
            limit: maximum number of bytes in a message, after reassembly.
            unmask: called as `unmask(mask, data)`; unmasks the data in place.
        """
        self._limit = limit
        self._unmask = unmask
        self._buffer: bytearray | None = None  # the incomplete frame; None without one
        self._needed = 0  # bytes that `_buffer` must have before it is read again
        self._fragments: bytearray | None = None  # the incomplete message; None without one
        self._opcode = TEXT  # of the incomplete message; meaningless without one
        # The rest after a slice: the arguments of `_read`.
        self._rest: tuple[bytearray, bytes, int] | None = None
        self._serial = 1  # number of the incomplete or next message
        self.more = False  # whether there is a rest for `read_on`
        self.incomplete = 0  # number of the incomplete message; 0 without one
        self.broken: Close | None = None  # the Close for a violation; None without one

    def feed(self, data: bytes) -> list[tuple[int, bytearray]]:
        """Read a chunk, up to SLICE_FRAMES frames and about SLICE_BYTES bytes.

        Check `broken` and `more` after each call.

        Returns:
            The messages and control frames that are complete now, as opcode and unmasked payload.
        """
        if self._rest is not None:
            _, left, start = self._rest
            self._rest, self.more = None, False
            data = left[start:] + data
            unmasked = bytearray(data)
        elif self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            unmasked, self._buffer = self._buffer, None
            data = bytes(unmasked)
        else:
            unmasked = bytearray(data)  # its slices are unmasked in place
        return self._read(unmasked, data, 0)

    def read_on(self) -> list[tuple[int, bytearray]]:
        """Read the next slice of the bytes that `feed` got and has not read.

        Returns:
            The messages in it, as `feed` does; an empty list if there are no such bytes.
        """
        if self._rest is None:
            return []
        unmasked, data, start = self._rest
        self._rest, self.more = None, False
        return self._read(unmasked, data, start)

    def _read(self, unmasked: bytearray, data: bytes, start: int) -> list[tuple[int, bytearray]]:
        """Read one slice from `start` on; `unmasked` and `data` hold the same bytes."""
        messages: list[tuple[int, bytearray]] = []
        size = len(data)
        end_of_slice = start + SLICE_BYTES
        frames = SLICE_FRAMES
        while start < size:
            if not frames or start >= end_of_slice:
                self._rest = unmasked, data, start
                self.more = True
                break
            frames -= 1
            body, end = self._header(data, start)
            if self.broken is not None:
                break
            if end > size:
                self._buffer, self._needed = unmasked[start:], end - start
                break
            payload = unmasked[body:end]
            self._unmask(data[body - 4 : body], payload)
            if data[start] == _WHOLE_TEXT:
                messages.append((TEXT, payload))
            else:
                self._handle_frame(data[start], payload, messages)
                if self.broken is not None:
                    break
            start = end
        if self._buffer is not None or self._fragments is not None:
            whole = self._fragments is None or any(opcode < CLOSE for opcode, _ in messages)
            if messages and whole:  # the incomplete message is a new one
                self._serial += 1
            self.incomplete = self._serial
        elif self.incomplete:
            self._serial += 1
            self.incomplete = 0
        return messages

    def _header(self, data: bytes, start: int) -> tuple[int, int]:
        """Read the header of the frame at `start`; set `broken` if it is not allowed.

        Returns:
            The indexes at which the payload begins and ends. If the end is beyond the data, the
            frame is incomplete, and is read again when the data reaches that index.
        """
        if len(data) < start + 2:
            return start, start + 2
        first, second = data[start], data[start + 1]
        if first != _WHOLE_TEXT or second < _MASKED or self._fragments is not None:
            self._check(first, second)
        body = start + 6
        length = second & 0x7F
        if length > _MAX_CONTROL:
            short = length == 126
            body += 2 if short else 8
            if len(data) < body:
                return body, body
            length = int.from_bytes(data[start + 2 : body - 4], "big")
            if length < (126 if short else 65_536):  # section 5.2 requires the shortest form
                self.broken = PROTOCOL_ERROR
            elif length > self._limit and self.broken is None:
                self.broken = TOO_BIG if length < _TOP_BIT else PROTOCOL_ERROR
        return body, body + length

    def _check(self, first: int, second: int) -> None:
        """Check the first two bytes of a frame (sections 5.1 to 5.5)."""
        opcode, final = first & 0x0F, first & _FIN
        if first & _RESERVED or second < _MASKED or opcode not in _KNOWN:
            self.broken = PROTOCOL_ERROR
        elif opcode >= CLOSE:
            if not final or second & 0x7F > _MAX_CONTROL:
                self.broken = PROTOCOL_ERROR
        elif (opcode == CONTINUATION) != (self._fragments is not None):
            self.broken = PROTOCOL_ERROR

    def _handle_frame(
        self, first: int, payload: bytearray, messages: list[tuple[int, bytearray]]
    ) -> None:
        """Handle a frame that is not an unfragmented text message."""
        opcode, final = first & 0x0F, first & _FIN
        if opcode >= CLOSE:
            messages.append((opcode, payload))
            return
        if self._fragments is None:
            self._opcode, self._fragments = opcode, payload
        else:
            self._fragments += payload
        if len(self._fragments) > self._limit:
            self.broken = TOO_BIG
        elif final:
            messages.append((self._opcode, self._fragments))
            self._fragments = None
