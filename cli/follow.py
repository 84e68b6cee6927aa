"""`subscribe` and `tail`: print the events of topics, one a line, until they are stopped."""

import argparse
import asyncio
import logging
import os
import stat
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.address import Address, add_address, read_address
from cli.output import CommandError, Exit, Paint, printable, say, to_json
from cli.parsing import Parser, add_json, positive, utf8
from cli.remote import Remote

if TYPE_CHECKING:
    from broadcast_client import Item, Subscription

# The Python client is a package of its own, and is not installed with the server.
_CLIENTS: Final = Path(__file__).parents[1] / "clients/python"
_LAST: Final = 10  # events of the history that `tail` begins with
_FOR_GOOD: Final = "REFUSED"  # the client's code for a server that refuses it for good
_NOT_ALLOWED: Final = frozenset({"UNAUTHORIZED", "FORBIDDEN", _FOR_GOOD})
_COMMON: Final = """
It ends after Ctrl-C, after --count events, or when all topics are deleted. When
the connection is lost, it connects again, and prints the missed events if the
topic has a history. Otherwise it says on standard error that some are missing."""
_DESCRIPTIONS: Final = {
    "subscribe": f"Print new events of topics, one a line.\n{_COMMON}",
    "tail": "Print the last events in the history of topics, then new events, one a line.\n"
    f"Without a history (HISTORY_SIZE) there are only new ones, as with subscribe.\n{_COMMON}",
}


def run(command: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `subscribe` or `tail`: print events.

    Raises:
        CommandError: the server cannot be reached at the start, or it refuses the client.
        BrokenPipeError: the reader of the output has ended.
    """
    parser = Parser(
        command, _DESCRIPTIONS[command], usage=f"server.py {command} TOPIC ... [OPTIONS]"
    )
    parser.add_argument("topics", metavar="TOPIC", nargs="+", type=utf8, help="its name")
    if command == "tail":
        parser.add_argument(
            *("-n", "--last"),
            metavar="N",
            type=positive,
            default=_LAST,
            help=f"begin with so many events of each topic [{_LAST}]",
        )
    parser.add_argument("--count", metavar="N", type=positive, help="end after so many events")
    add_json(parser)
    add_address(parser)
    options = parser.parse(arguments)
    address = read_address(options, environ)
    with Remote(address) as remote:
        remote.probe()
    sys.path.append(str(_CLIENTS))
    from broadcast_client import RefusedError

    try:
        with _warnings_shown():
            asyncio.run(_follow(options, address, _Printer(options, environ)))
    except RefusedError as error:
        if error.code == _FOR_GOOD:
            with Remote(address) as remote:
                remote.explain()
        code = Exit.NOT_ALLOWED if error.code in _NOT_ALLOWED else Exit.REFUSED
        raise CommandError(code, error.text) from None
    return Exit.OK


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Print the client's warnings about losses and reconnects for the time of the block.

    Its errors are not printed, because they end the command, which reports them.
    """
    logger = logging.getLogger("broadcast_client")
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Enough(Exception):  # noqa: N818
    """As many events as --count asks for have been printed."""


class _Printer:
    """Prints items.

    State: the number of printed events.
    """

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._json = options.json
        self._count = options.count
        self._paint = Paint(sys.stdout, environ)
        self._printed = 0

    def print(self, item: "Item") -> None:
        """Print an item.

        Raises:
            _Enough: it was the last one.
        """
        from broadcast_client import Deleted, Event

        if self._printed == self._count:  # the last one was of another topic
            raise _Enough
        if self._json:
            print(to_json(_fields(item)), flush=True)
        elif isinstance(item, Event):
            payload = printable(to_json(item.payload))
            time, topic = self._paint.dim(item.ts), self._paint.bold(printable(item.topic))
            print(f"{time}  {topic}  {payload}", flush=True)
        if isinstance(item, Deleted):
            say(f"{printable(item.topic)}: the topic was deleted")
        self._printed += isinstance(item, Event)
        if self._printed == self._count:
            raise _Enough


def _fields(item: "Item") -> dict[str, Any]:
    from broadcast_client import Event, Lost

    if isinstance(item, Event):
        fields = {"topic": item.topic, "id": item.id, "payload": item.payload, "ts": item.ts}
        return {"kind": "event", **fields, **_known(offset=item.offset)}
    if isinstance(item, Lost):
        return {"kind": "lost", "topic": item.topic, "why": item.why, **_known(count=item.count)}
    return {"kind": "deleted", "topic": item.topic}


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


async def _follow(options: argparse.Namespace, address: Address, printer: _Printer) -> None:
    from broadcast_client import connect

    last = getattr(options, "last", 0)
    name = f"cli-{uuid.uuid4().hex[:8]}"
    async with connect(
        f"{address.url('ws')}/ws", client_id=name, token=address.credential
    ) as client:
        try:
            topics = dict.fromkeys(options.topics)  # each once
            subscriptions = [client.subscribe(topic, last_n=last) for topic in topics]
            printing = asyncio.create_task(_print_all(subscriptions, printer))
            ends: list[asyncio.Future[None]] = [printing, _reader_gone()]
            done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for future in left:
                future.cancel()
            for error in filter(None, [future.exception() for future in done]):
                raise error
        except _Enough:
            pass


async def _print_all(subscriptions: "list[Subscription]", printer: _Printer) -> None:
    await asyncio.gather(*(_print(it, printer) for it in subscriptions))


async def _print(subscription: "Subscription", printer: _Printer) -> None:
    await subscription.ready()
    if sys.stderr.isatty():
        say(f"subscribed to {printable(subscription.topic)}")
    async for item in subscription:
        printer.print(item)


def _reader_gone() -> "asyncio.Future[None]":
    """Return a future that fails with BrokenPipeError when the reader of the output has ended.

    Without it, the command would notice that only with the next event.
    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()

    def leave() -> None:
        loop.remove_reader(number)
        gone.set_exception(BrokenPipeError())

    number = sys.stdout.fileno()
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        loop.add_reader(number, leave)
    return gone
