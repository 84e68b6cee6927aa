"""The messages between nodes: events, deletions, control messages and questions, with senders."""

import struct
from collections import deque
from typing import Final, NamedTuple

from hub.values import Position

EVENT: Final = b"wsE1"
PLACED: Final = b"wsE2"  # an event of a topic with a history: "EPOCH OFFSET EVENT"
DELETED: Final = b"wsD1"
CONTROL: Final = b"wsC1"  # only on the control channel (hub/redis/control.py)
# Only on the channel of one node (hub/redis/questions.py): a question, or the number of a question
# that was answered.
QUESTION: Final = b"wsQ1"
ANSWERED: Final = b"wsA1"

# The kind with its version, the sender's run, and the number of the message in that run.
_HEADER: Final = struct.Struct(">4s8sQ")
_SIZE: Final = _HEADER.size
_LINE_FEED, _RETURN = b"\n\r"


class Envelope(NamedTuple):
    """One message between nodes."""

    kind: bytes  # one of the constants above
    run: bytes  # 8 random bytes that identify a process
    seq: int  # 1, 2, … within the run
    # The event as subscribers get it, but without the offset. Empty for DELETED. For the other
    # kinds, the content of the message.
    event: bytes
    position: Position | None = None  # only of PLACED

    @property
    def ident(self) -> bytes:
        """The identity of the message: run and number, as in the header."""
        return _HEADER.pack(self.kind, self.run, self.seq)[4:]


def unseal(data: bytes) -> Envelope | None:
    """Parse a message of a topic's channel; return None if no server can have sent it."""
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


def unseal_content(data: bytes, *kinds: bytes) -> Envelope | None:
    """Parse the envelope of a message of one of these kinds; return None if it has none."""
    if len(data) < _SIZE:
        return None
    kind, run, seq = _HEADER.unpack_from(data)
    return Envelope(kind, run, seq, data[_SIZE:]) if kind in kinds else None


def is_event(event: bytes) -> bool:
    """Return whether data from Redis may be an event: a JSON object in UTF-8, on one line.

    The JSON is not parsed, which would cost more than all other steps together. Line breaks are
    refused because JSON encoders write none, and because one would begin a new field of a
    Server-Sent Event.
    """
    if event[:1] != b"{" or event[-1:] != b"}":
        return False
    if _LINE_FEED in event or _RETURN in event:
        return False
    if event.isascii():
        return True
    try:
        event.decode()
    except UnicodeDecodeError:  # clients must fail the connection (RFC 6455, section 8.1)
        return False
    return True


class Sender:
    """Numbers the messages of this run, so that each is delivered here exactly once.

    A message normally comes back through Redis, and is delivered then. If Redis is lost, it is
    delivered locally (`mark_delivered`), and must be dropped if Redis carries it out later, as a
    Redis that was frozen does. Redis carries out and returns the messages of a run in order, so
    three numbers are enough: those of the newest message that was sent, of the newest that came
    back, and of the newest that was delivered locally.

    `owe` keeps the messages that Redis accepted and that have not come back yet; `take_owed`
    returns them when the connection is lost.
    """

    def __init__(self, run: bytes) -> None:
        """`run`: 8 bytes that identify this process."""
        self._run = run
        self._sent = 0
        self._returned = 0
        self._delivered = 0
        self._owed: deque[tuple[int, str, bytes | None]] = deque()

    def seal(self, kind: bytes, event: bytes = b"") -> tuple[int, bytes]:
        """Return the number and the bytes of the next message."""
        self._sent += 1
        return self._sent, _HEADER.pack(kind, self._run, self._sent) + event

    def mark_delivered(self, seq: int) -> bool:
        """Mark a message as delivered locally.

        Redis may still carry it out, even minutes later if it was frozen.

        Returns:
            False if the message has come back already, and must not be delivered again.
        """
        self._delivered = seq
        return seq > self._returned

    def owe(self, seq: int, topic: str, event: bytes | None) -> bool:
        """Keep an event, or a deletion (None), that Redis accepted, until it comes back.

        Returns:
            False if it has come back already.
        """
        if seq > self._returned:
            self._owed.append((seq, topic, event))
            return True
        return False

    def take_owed(self) -> list[tuple[str, bytes | None]]:
        """Remove and return the messages that will not come back, in order."""
        owed = [(topic, event) for _, topic, event in self._owed]
        if owed:
            self.mark_delivered(self._owed[-1][0])
            self._owed.clear()
        return owed

    def is_forged(self, envelope: Envelope) -> bool:
        """Return whether a message names this run as its sender, which has not sent it."""
        return envelope.seq > self._sent and envelope.run == self._run

    def is_own(self, envelope: Envelope) -> bool:
        """Return whether a message is of this run."""
        return envelope.run == self._run

    def is_news(self, envelope: Envelope) -> bool:
        """Return whether a message that arrived is to be delivered."""
        if envelope.run != self._run:
            return True
        if envelope.seq <= self._delivered:
            return False
        # Not always the newest: a frozen Redis may carry out old messages among new ones.
        self._returned = max(self._returned, envelope.seq)
        while self._owed and self._owed[0][0] <= envelope.seq:
            self._owed.popleft()
        return True
