"""The bytes of RFC 6455: what the server sends, and what clients send taken apart.

Pure: bytes in, bytes out. Nothing here knows JSON, a socket or a clock. A server's frames are not
masked (section 5.1), so one frame serves every subscriber of a topic.
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
_RESERVED: Final = 0x70  # RSV1 to RSV3: no extension is ever negotiated
_MASKED: Final = 0x80  # of the second byte
_WHOLE_TEXT: Final = _FIN | TEXT  # what nearly every frame starts with: it takes the short way
_MAX_CONTROL: Final = 125  # bytes of payload in a control frame, section 5.5
_TOP_BIT: Final = 1 << 63  # of a length of eight bytes: it must be 0, section 5.2
_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

# Headers of whole text messages, by the size of their length (section 5.2).
_SHORT: Final = [bytes((_WHOLE_TEXT, size)) for size in range(126)]
_MEDIUM: Final = struct.Struct(">HH").pack
_LONG: Final = struct.Struct(">HQ").pack

PING_FRAME: Final = bytes((_FIN | PING, 0))


def text_frame(payload: bytes) -> bytes:
    """One whole text message as a frame, ready for any number of clients."""
    size = len(payload)
    if size < 126:
        return _SHORT[size] + payload
    if size < 65_536:
        return _MEDIUM(0x817E, size) + payload
    return _LONG(0x817F, size) + payload


def pong_frame(payload: bytes | bytearray) -> bytes:
    """The answer to a ping, with the ping's own payload (section 5.5.3)."""
    return bytes((_FIN | PONG, len(payload))) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A Close with its code and reason; without a code, an empty one."""
    body = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes((_FIN | CLOSE, len(body))) + body


def close_reply(payload: bytes | bytearray) -> bytes:
    """The answer to a client's Close (section 5.5.1): its own code, an empty one for an empty one.

    A body that breaks the rules (one byte long, a code that may not be sent, a reason that is not
    UTF-8) is answered by 1002.
    """
    if not payload:
        return close_frame(None)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not _may_be_sent(code) or not _is_utf8(payload[2:]):
        return close_frame(PROTOCOL_ERROR.code, PROTOCOL_ERROR.reason)
    return close_frame(code)


def _may_be_sent(code: int) -> bool:
    """Section 7.4 and the IANA registry: 1004 to 1006 and 1015 are never on the wire."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_utf8(data: bytes | bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# A client that sends more in one go has its connection's turn cut here: hub/delivery/turns.py.
SLICE_FRAMES: Final = 64
SLICE_BYTES: Final = 262_144


class FrameReader:
    """Takes a client's stream apart into whole messages, however it is cut into chunks.

    State: the bytes of an unfinished frame, the fragments of an unfinished message, the bytes
    behind a slice, and the violation of the protocol, if there was one. Nothing after it is read.
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
        "more",
        "unfinished",
    )

    def __init__(self, limit: int, unmask: Callable[[bytes, bytearray], None]) -> None:
        """`limit`: bytes of the largest message. `unmask(mask, data)` works in place."""
        self._limit = limit
        self._unmask = unmask
        self._buffer: bytearray | None = None  # None while no frame is unfinished
        self._needed = 0  # bytes of `_buffer` before it is worth another look
        self._fragments: bytearray | None = None  # None outside a fragmented message
        self._opcode = TEXT  # of the fragmented message; meaningless outside one
        # What a slice has left: the stream twice, as `_read` takes it, and where to go on.
        self._rest: tuple[bytearray, bytes, int] | None = None
        self._serial = 1  # of the message that is unfinished, or comes next
        self.more = False  # whether a slice has left bytes for `read_on`
        self.unfinished = 0  # a number of the message that has begun and not ended; 0 for none
        self.broken: Close | None = None  # None while the client keeps to the protocol

    def feed(self, data: bytes) -> list[tuple[int, bytearray]]:
        """The messages and control frames that `data` completes, as (opcode, unmasked payload).

        At most SLICE_FRAMES frames and about SLICE_BYTES bytes are read: while there are `more`,
        call `read_on`. Look at `broken` after each call: the messages returned came before the
        violation.
        """
        if self._rest is not None:
            _, left, start = self._rest
            self._rest, self.more = None, False
            data = left[start:] + data
            stream = bytearray(data)
        elif self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            stream, self._buffer = self._buffer, None
            data = bytes(stream)
        else:
            stream = bytearray(data)  # of which a slice may be changed in place
        return self._read(stream, data, 0)

    def read_on(self) -> list[tuple[int, bytearray]]:
        """The next slice of what was fed; empty where there is none."""
        if self._rest is None:
            return []
        stream, data, start = self._rest
        self._rest, self.more = None, False
        return self._read(stream, data, start)

    def _read(self, stream: bytearray, data: bytes, start: int) -> list[tuple[int, bytearray]]:
        messages: list[tuple[int, bytearray]] = []
        size = len(data)
        end_of_slice = start + SLICE_BYTES
        frames = SLICE_FRAMES
        while start < size:
            if not frames or start >= end_of_slice:
                self._rest = stream, data, start
                self.more = True
                break
            frames -= 1
            body, end = self._header(data, start)
            if self.broken is not None:
                break
            if end > size:
                self._buffer, self._needed = stream[start:], end - start
                break
            payload = stream[body:end]
            self._unmask(data[body - 4 : body], payload)
            if data[start] == _WHOLE_TEXT:
                messages.append((TEXT, payload))
            else:
                self._piece(data[start], payload, messages)
                if self.broken is not None:
                    break
            start = end
        if self._buffer is not None or self._fragments is not None:
            whole = self._fragments is None or any(opcode < CLOSE for opcode, _ in messages)
            if messages and whole:  # another one than before
                self._serial += 1
            self.unfinished = self._serial
        elif self.unfinished:
            self._serial += 1
            self.unfinished = 0
        return messages

    def _header(self, data: bytes, start: int) -> tuple[int, int]:
        """Where the payload of the frame at `start` begins and ends; sets `broken` if it may not.

        An `end` beyond the data says how many bytes it takes to know more.
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
            if length < (126 if short else 65_536):  # section 5.2: the shortest form
                self.broken = PROTOCOL_ERROR
            elif length > self._limit and self.broken is None:
                self.broken = TOO_BIG if length < _TOP_BIT else PROTOCOL_ERROR
        return body, body + length

    def _check(self, first: int, second: int) -> None:
        """Sections 5.1 to 5.5: masked, no reserved bit, a known opcode, in its place."""
        opcode, final = first & 0x0F, first & _FIN
        if first & _RESERVED or second < _MASKED or opcode not in _KNOWN:
            self.broken = PROTOCOL_ERROR
        elif opcode >= CLOSE:
            if not final or second & 0x7F > _MAX_CONTROL:
                self.broken = PROTOCOL_ERROR
        elif (opcode == CONTINUATION) != (self._fragments is not None):
            self.broken = PROTOCOL_ERROR

    def _piece(self, first: int, payload: bytearray, messages: list[tuple[int, bytearray]]) -> None:
        """A control frame, a whole binary message, or one fragment."""
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
