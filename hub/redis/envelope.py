"""What travels on a topic's channel between nodes: an event or a deletion, and whose it is."""

import struct
from collections import deque
from typing import Final, NamedTuple

from hub.values import Position

EVENT: Final = b"wsE1"
PLACED: Final = b"wsE2"  # an event of a topic with history: epoch, a space, offset, a space, event
DELETED: Final = b"wsD1"

# The kind with its version, the sender's run and its count of what it has sent.
_HEADER: Final = struct.Struct(">4s8sQ")
_SIZE: Final = _HEADER.size
_LINE_FEED, _RETURN = b"\n\r"


class Envelope(NamedTuple):
    """One message of the bus."""

    kind: bytes  # EVENT, PLACED or DELETED
    run: bytes  # 8 bytes that a process chose when it started
    seq: int  # 1, 2, … within the run
    event: bytes  # as the subscribers get it, but for the offset; empty for DELETED
    position: Position | None = None  # of a PLACED one

    @property
    def ident(self) -> bytes:
        """Who has said it: the run and the number, as they are in the header."""
        return _HEADER.pack(self.kind, self.run, self.seq)[4:]


def unseal(data: bytes) -> Envelope | None:
    """An envelope taken apart; None where the bytes are none of ours."""
    if len(data) < _SIZE:
        return None
    kind, run, seq = _HEADER.unpack_from(data)
    event = data[_SIZE:]
    if kind == PLACED:
        return _unseal_placed(run, seq, event)
    good = is_event(event) if kind == EVENT else kind == DELETED and not event
    return Envelope(kind, run, seq, event) if good else None


def _unseal_placed(run: bytes, seq: int, rest: bytes) -> Envelope | None:
    epoch, _, rest = rest.partition(b" ")
    offset, _, event = rest.partition(b" ")
    if not (epoch.isalnum() and epoch.isascii() and offset.isdigit() and len(offset) < 16):
        return None
    position = Position(epoch.decode(), int(offset))
    return Envelope(PLACED, run, seq, event, position) if is_event(event) else None


def is_event(event: bytes) -> bool:
    """Whether bytes from Redis may be an event: a JSON object in UTF-8, on one line.

    It is not parsed, which would cost more than all else: the server that published it encoded it.
    No JSON encoder writes a raw line break, and as Server-Sent Events one would begin a new field.
    """
    if event[:1] != b"{" or event[-1:] != b"}":
        return False
    if _LINE_FEED in event or _RETURN in event:
        return False
    if event.isascii():
        return True
    try:
        event.decode()
    except UnicodeDecodeError:  # every subscriber would have to hang up (RFC 6455 section 8.1)
        return False
    return True


class Sender:
    """Counts what this run sends, so that each message is delivered here once, whatever happens.

    State: the newest message sent, the newest that came back, the newest that was delivered without
    waiting for it to come back, and what Redis has taken and is still to come back. Redis carries
    out and returns a run's messages in order.
    """

    def __init__(self, run: bytes) -> None:
        """`run`: 8 bytes that no other process has."""
        self._run = run
        self._sent = 0
        self._returned = 0
        self._served = 0
        self._owed: deque[tuple[int, str, bytes | None]] = deque()

    def seal(self, kind: bytes, event: bytes = b"") -> tuple[int, bytes]:
        """The next envelope: its number, and its bytes."""
        self._sent += 1
        return self._sent, _HEADER.pack(kind, self._run, self._sent) + event

    def serve(self, seq: int) -> bool:
        """A message is dealt with without Redis; whether it has not come back before.

        Redis may still carry it out, even in minutes, where it was frozen.
        """
        self._served = seq
        return seq > self._returned

    def owe(self, seq: int, topic: str, event: bytes | None) -> bool:
        """Redis has taken an event, or a deletion (None), of a topic that the node holds.

        Returns:
            Whether it is still to come back.
        """
        if seq > self._returned:
            self._owed.append((seq, topic, event))
            return True
        return False

    def take_owed(self) -> list[tuple[str, bytes | None]]:
        """The way back is cut: what was taken and will not come back, in order."""
        owed = [(topic, event) for _, topic, event in self._owed]
        if owed:
            self.serve(self._owed[-1][0])
            self._owed.clear()
        return owed

    def is_forged(self, envelope: Envelope) -> bool:
        """Whether it says that it is ours, and has not been sent."""
        return envelope.seq > self._sent and envelope.run == self._run

    def is_news(self, envelope: Envelope) -> bool:
        """Whether what has come is another's, or an own message not yet dealt with."""
        if envelope.run != self._run:
            return True
        if envelope.seq <= self._served:
            return False
        # A Redis that was frozen may carry out what was given up amid what is new.
        self._returned = max(self._returned, envelope.seq)
        while self._owed and self._owed[0][0] <= envelope.seq:
            self._owed.popleft()
        return True
