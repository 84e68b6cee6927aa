"""Two connections to one Redis master: one to publish on, one that is subscribed. Over together.

State: the two connections and why they ended. What is said on them is the broker's.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import astuple, fields
from typing import Any, Final

import hiredis

from hub.redis.address import RedisAddress
from hub.redis.connection import RedisConnection, Reply
from hub.redis.scripts import Scripts
from hub.redis.sentinel import UnusableError, find_master

CONNECT: Final = 3.0  # seconds for the whole of an attempt to connect
FINISH: Final = 1.0  # seconds for the answers of a session that is over


class Session:
    """Two connections, for commands and for pushes; `lost` is set when either of them ends."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.why = ""
        self.on_lost: Callable[[], None] = lambda: None  # called at once, before `lost` is seen
        self.commands = RedisConnection(self._end)
        self.pushes = RedisConnection(self._end)
        self.shas = Scripts(*[""] * len(fields(Scripts)))
        self.master: tuple[str, int] = ("", 0)
        self.run = b""  # which process Redis is
        self.commands_id = 0  # the number that Redis gave to the connection for commands

    def _end(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why
            self.lost.set()
            self.on_lost()
            self.pushes.abort(why)

    def check(self, reply: Reply) -> bool:
        """Whether a reply is none of an error; Redis' own refusal ends the session.

        READONLY, NOSCRIPT, OOM, MISCONF: none goes away by asking again on this connection.
        """
        if isinstance(reply, hiredis.ReplyError):
            self._end(f"Redis refused: {reply}")  # what is behind it is answered in its turn
        return not isinstance(reply, Exception)

    async def finish(self) -> None:
        """Let what was sent be answered, if Redis still does, and close both connections."""
        try:
            if self.commands.open:
                async with asyncio.timeout(FINISH):
                    await self.commands.ask("PING")
        except (TimeoutError, ConnectionError, hiredis.ReplyError):
            pass  # what is unanswered stays so
        finally:  # cancelled, too: a connection that is left open keeps uvloop from closing
            self.abort(self.why or "left")

    def abort(self, why: str) -> None:
        """Cut both connections; whoever waits for an answer learns that none comes."""
        self._end(why)
        self.commands.abort(why)


# Of an attempt to connect. UnicodeError: what a sentinel said is no name of a host.
FAILURES: Final = (OSError, TimeoutError, hiredis.ReplyError, UnusableError, UnicodeError)


async def open_session(
    address: RedisAddress, scripts: Scripts, name: str, before: Session | None
) -> Session:
    """Connect both, checked to be the same writable master, with the scripts loaded.

    What the session `before` has sent and Redis has not read yet, it will not read any more.

    Raises:
        FAILURES: it can't be, now, or not within CONNECT seconds.
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
            session.run = runs[0]
            session.commands_id = await session.commands.ask("CLIENT", "ID")
            await _cut(before, session)
            load = session.commands.ask
            session.shas = Scripts(
                *[(await load("SCRIPT", "LOAD", it)).decode() for it in astuple(scripts)]
            )
    except BaseException:
        session.abort("not connected")
        raise
    return session


async def _cut(before: Session | None, session: Session) -> None:
    """End the old way to publish: a lease, or its end, that arrives late would be taken for new."""
    if before is not None and before.run == session.run:  # else the number is somebody else's
        try:
            await session.commands.ask("CLIENT", "KILL", "ID", before.commands_id)
        except hiredis.ReplyError:
            pass  # not allowed to (ACL): what is late is late


def _refusal(error: hiredis.ReplyError) -> str:
    """What may be logged of a refusal of AUTH: its code, and the one text that says more.

    Redis quotes the arguments of a command that it does not know: here the password.
    """
    said = re.match("[A-Z]+( AUTH <password> called without any password configured)?", str(error))
    return said[0] if said else "no code"


async def _greet(
    connection: RedisConnection, address: RedisAddress, master: tuple[str, int], name: str
) -> bytes:
    """Connect a connection and log in; the run id of the server, which is a master."""
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
