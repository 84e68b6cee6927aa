"""A session with a Redis master: two connections that end together.

State: the two connections, and the reason for their end.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import astuple, fields
from typing import Any, Final

import hiredis

from hub.brokers.base import OutageReason
from hub.redis.address import RedisAddress
from hub.redis.connection import RedisConnection, Reply
from hub.redis.scripts import Scripts
from hub.redis.sentinel import UnusableError, find_master

CONNECT: Final = 3.0  # seconds for an attempt to connect, in all
FINISH: Final = 1.0  # seconds to wait for outstanding replies at the end of a session


class Session:
    """A connection for commands and one for pushes (SUBSCRIBE).

    `lost` is set, with the cause in `reason` and `why`, when either of them ends. `on_lost` is
    called at once, before anyone who waits for `lost` runs, and before unanswered commands fail.
    """

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.reason = OutageReason.CLOSED
        self.why = ""  # the reason as text
        self.on_lost: Callable[[], None] = lambda: None
        self.commands = RedisConnection(self._end)
        self.pushes = RedisConnection(self._end)
        self.shas = Scripts(*[""] * len(fields(Scripts)))
        self.master: tuple[str, int] = ("", 0)
        self.server_run = b""  # the run ID of the Redis server
        self.commands_id = 0  # the ID that Redis gave to the connection for commands

    def _end(self, why: str, reason: OutageReason = OutageReason.CLOSED) -> None:
        if not self.lost.is_set():
            self.reason, self.why = reason, why
            self.lost.set()
            self.on_lost()
            self.pushes.abort(why)

    def check(self, reply: Reply) -> bool:
        """Return whether a reply is no error; an error reply of Redis ends the session.

        An error such as READONLY, NOSCRIPT, OOM or MISCONF would follow again on this session.
        """
        if isinstance(reply, hiredis.ReplyError):
            # The connection for commands stays open until `finish`: later replies still arrive.
            self._end(f"Redis refused: {reply}", OutageReason.UNUSABLE)
        return not isinstance(reply, Exception)

    async def finish(self) -> None:
        """Wait for outstanding replies, if Redis still sends them, and close both connections."""
        try:
            if self.commands.open:
                async with asyncio.timeout(FINISH):
                    await self.commands.ask("PING")
        except (TimeoutError, ConnectionError, hiredis.ReplyError):
            pass  # no more replies will come
        finally:  # also if cancelled, since uvloop cannot close while a connection is open
            self.abort(self.why or "left")

    def abort(self, why: str, reason: OutageReason = OutageReason.CLOSED) -> None:
        """Close both connections at once; unanswered commands get a ConnectionError."""
        self._end(why, reason)
        self.commands.abort(why)


# Errors of an attempt to connect. UnicodeError: a sentinel named a host that is no host name.
FAILURES: Final = (OSError, TimeoutError, hiredis.ReplyError, UnusableError, UnicodeError)


def reason_of(failure: Exception) -> OutageReason:
    """Return the kind of an error of an attempt to connect; one not in FAILURES is a fault."""
    if isinstance(failure, TimeoutError):  # an OSError too
        return OutageReason.TIMEOUT
    if isinstance(failure, OSError | UnicodeError):
        return OutageReason.UNREACHABLE
    if isinstance(failure, hiredis.ReplyError | UnusableError):
        return OutageReason.UNUSABLE
    return OutageReason.INTERNAL_ERROR


async def open_session(
    address: RedisAddress, scripts: Scripts, name: str, before: Session | None
) -> Session:
    """Connect to the master, and load the scripts.

    Commands of the session `before` that Redis has not read yet are discarded.

    Raises:
        FAILURES: that is not possible now, or not within CONNECT seconds.
    """
    session = Session()
    try:
        async with asyncio.timeout(CONNECT):
            session.master = await find_master(address)
            runs = [
                await _greet(connection, address, session.master, name)
                for connection in (session.commands, session.pushes)
            ]
            if runs[0] != runs[1]:
                raise UnusableError("the two connections lead to two servers")
            session.server_run = runs[0]
            session.commands_id = await session.commands.ask("CLIENT", "ID")
            await _cut(before, session)
            load = session.commands.ask
            session.shas = Scripts(
                *[(await load("SCRIPT", "LOAD", it)).decode() for it in astuple(scripts)]
            )
    except BaseException:  # also if cancelled, since uvloop cannot close while a connection is open
        session.abort("not connected")
        raise
    return session


async def _cut(before: Session | None, session: Session) -> None:
    """Make Redis end the old connection for commands.

    Redis may not have read all of its commands. If it read a lease or an HDEL later, the command
    would undo newer ones. On another server the ID belongs to another client.
    """
    if before is not None and before.server_run == session.server_run:
        try:
            await session.commands.ask("CLIENT", "KILL", "ID", before.commands_id)
        except hiredis.ReplyError:
            pass  # an ACL does not allow it: late commands are carried out


def _refusal(error: hiredis.ReplyError) -> str:
    """Return the part of an AUTH error that may be logged: its code, and one harmless text.

    Redis quotes the arguments of unknown commands; here they would be the password.
    """
    found = re.match("[A-Z]+( AUTH <password> called without any password configured)?", str(error))
    return found[0] if found else "no code"


async def _greet(
    connection: RedisConnection, address: RedisAddress, master: tuple[str, int], name: str
) -> bytes:
    """Connect and log in; return the run ID of the server, which must be a master."""
    loop = asyncio.get_running_loop()
    if address.path:
        await loop.create_unix_connection(lambda: connection, address.path)
    else:
        context = ssl.create_default_context(cafile=address.ca or None) if address.tls else None
        await loop.create_connection(lambda: connection, *master, ssl=context)
    if address.password:
        words = (address.username, address.password) if address.username else (address.password,)
        try:
            await connection.ask("AUTH", *words)
        except hiredis.ReplyError as error:
            raise UnusableError(f"Redis refused the login: {_refusal(error)}") from None
    if address.db:
        await connection.ask("SELECT", address.db)
    await connection.ask("CLIENT", "SETNAME", name)
    role: list[Any] = await connection.ask("ROLE")
    if role[0] != b"master":
        raise UnusableError(f"it is no master: {role[0].decode()}")
    info: bytes = await connection.ask("INFO", "server")
    return next(line for line in info.split(b"\r\n") if line.startswith(b"run_id:"))
