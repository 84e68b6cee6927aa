"""The deployment's control channel: disconnects by an operator, and the bans that Redis keeps.

State: the bans that Redis lacks and that are not sent yet.
"""

import asyncio
import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from hub.access import MAX_SUBJECT_BYTES, MAX_TIME
from hub.brokers.base import DisconnectEvents, NotifiedDone
from hub.redis.batching import CHUNK
from hub.redis.connection import Reply
from hub.redis.envelope import CONTROL, Sender, unseal_content
from hub.redis.keys import Keys
from hub.redis.poison import Poison
from hub.redis.session import Session

_NONE: Final[Mapping[str, float]] = {}


class _Order(NamedTuple):
    """The content of a control message; exactly one of its fields is set."""

    sub: str = ""  # close the connections of this subject
    client_id: str = ""  # close the connections with this client id
    bans: Mapping[str, float] = _NONE  # ban these subjects until these ends


class Control:
    """Sends disconnects to the other nodes, and keeps the bans of all nodes equal.

    Every node is subscribed to the control channel from its join on. A node carries out its own
    disconnects before it sends them, so it ignores the messages that come back. Bans are merged
    (the later end counts), so they may arrive late, repeatedly and in any order.

    A join reads the bans in Redis after the channel is subscribed, and writes those that Redis
    lacks: bans made during an outage, or lost with the data of a Redis. A script writes bans and
    publishes them in one step, so a node that is not joined reads them later.
    """

    def __init__(self, keys: Keys, sender: Sender, poison: Poison) -> None:
        """`poison` counts messages and bans that no server of the deployment has written."""
        self.channel = keys.control
        self._key = keys.bans
        self._sender = sender
        self._poison = poison
        self._lacking: dict[str, None] = {}
        self._events: DisconnectEvents

    def serve(self, events: DisconnectEvents) -> None:
        """Set the receiver of disconnects; called once, before anything else."""
        self._events = events

    def disconnect(
        self, session: Session, subject: str, client_id: str, done: NotifiedDone
    ) -> None:
        """Notify the other nodes to close connections; call `done` when Redis has the message."""
        order = {"sub": subject} if subject else {"client_id": client_id}
        _, message = self._sender.seal(CONTROL, orjson.dumps(order))

        def answered(reply: Reply) -> None:
            done(session.check(reply))

        session.commands.send(answered, "PUBLISH", self.channel, message)

    def ban(self, session: Session, bans: Mapping[str, float], done: NotifiedDone) -> None:
        """Write bans, and notify the other nodes; call `done` when Redis has them."""
        _, message = self._sender.seal(CONTROL, orjson.dumps({"bans": bans}))
        words = [word for subject, end in bans.items() for word in (subject, repr(end))]

        def answered(reply: Reply) -> None:
            done(session.check(reply))

        session.commands.send(answered, "EVALSHA", session.shas.ban, 0, message, *words)

    async def join(self, session: Session, patience: float) -> None:
        """Read the bans in Redis, and write those that it lacks.

        `patience`: seconds to wait for a page of them.

        Raises:
            FAILURES (hub/redis/session.py): the session is lost, or Redis does not answer.
        """
        kept: dict[str, float] = {}
        cursor = b"0"
        while True:
            async with asyncio.timeout(patience):
                words = ("ZSCAN", self._key, cursor, "COUNT", CHUNK)
                cursor, page = await session.commands.ask(*words)
            bans = self._parse(page)
            kept |= bans
            self._events.ban(bans)
            if cursor == b"0":
                break
        self._lacking = {
            subject: None
            for subject, end in self._events.bans.items()
            if kept.get(subject, 0.0) < end
        }
        self._write(session)

    def forgotten(self, session: Session) -> None:
        """Write all bans again, because Redis has lost its data."""
        self._lacking = dict.fromkeys(self._events.bans)
        self._write(session)

    def _write(self, session: Session) -> None:
        """Write the bans that Redis lacks, CHUNK of them in each tick: 5 ms."""
        if session.lost.is_set():  # the next join compares all bans again
            return
        ends = self._events.bans
        some = list(islice(self._lacking, CHUNK))
        for subject in some:
            del self._lacking[subject]
        bans = {subject: ends[subject] for subject in some if subject in ends}
        if bans:
            self.ban(session, bans, lambda _: None)
        if self._lacking:
            asyncio.get_running_loop().call_soon(self._write, session)

    def _parse(self, page: list[bytes]) -> dict[str, float]:
        """Return the bans of a page: pairs of subject and end."""
        bans: dict[str, float] = {}
        for member, score in zip(page[::2], page[1::2], strict=True):
            subject, end = _text(member), float(score)
            if _is_ban(subject, end):
                bans[subject] = end
            else:
                self._poison.drop(self._key, member)
        return bans

    def receive(self, data: bytes) -> None:
        """Carry out a message of the control channel."""
        envelope = unseal_content(data, CONTROL)
        order = None
        if envelope is not None and not self._sender.is_forged(envelope):
            order = _decode(envelope.event)
        if envelope is None or order is None:
            self._poison.drop(f"channel {self.channel!r}", data)
        elif not self._sender.is_own(envelope):
            if order.bans:
                self._events.ban(order.bans)
            else:
                self._events.disconnect(order.sub, order.client_id)


def _decode(content: bytes) -> _Order | None:
    """Parse the content of a control message; return None if no server can have written it."""
    try:
        fields: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if type(fields) is not dict or len(fields) != 1:
        return None
    ((kind, value),) = fields.items()
    if kind == "bans" and type(value) is dict and value:
        return _Order(bans=value) if all(_is_ban(*ban) for ban in value.items()) else None
    if kind not in ("sub", "client_id") or type(value) is not str or not value:
        return None
    return _Order(sub=value) if kind == "sub" else _Order(client_id=value)


def _text(member: bytes) -> str:
    """Return a member of the set of bans as text; empty if it is not UTF-8."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return ""


def _is_ban(subject: str, end: Any) -> bool:
    if not 0 < len(subject.encode()) <= MAX_SUBJECT_BYTES:
        return False
    return type(end) in (int, float) and math.isfinite(end) and 0 < end <= MAX_TIME
