"""`topics`: lists, creates and deletes the topics of a running server."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from cli.address import add_address, read_address
from cli.output import CommandError, Exit, Progress, print_topics, printable, to_json
from cli.parsing import Parser, add_json, unknown_word, utf8
from cli.remote import RefusedError, Remote

_ACTIONS: Final = ("list", "create", "delete")


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `topics`: list, create or delete topics.

    Raises:
        CommandError: there is no answer, or a refusal.
    """
    parser = _parser()
    options = parser.parse(arguments)
    if options.action not in _ACTIONS:
        parser.error(unknown_word("action", options.action, _ACTIONS))
    if options.action == "list" and options.names:
        parser.error("list takes no names; --prefix selects topics")
    if options.action != "list" and (not options.names or options.prefix is not None):
        parser.error(f"{options.action} takes the names of topics, and no --prefix")
    with Remote(read_address(options, environ)) as remote:
        if options.action == "list":
            _list(remote, options)
        for name in options.names:
            answer = _change(remote, options.action, name)
            print(to_json(answer) if options.json else f"{answer['status']} {printable(name)}")
    return Exit.OK


def _change(remote: Remote, action: str, name: str) -> dict[str, Any]:
    try:
        if action == "create":
            return remote.post("/topics", json.dumps({"name": name}).encode())
        return remote.delete(f"/topics/{quote(name, safe='')}")
    except RefusedError as error:
        raise CommandError(error.code, f"{name}: {error}") from None


def _parser() -> Parser:
    parser = Parser(
        "topics",
        "List the topics of a running server and their numbers of subscribers, in the\n"
        "order of their names; or create or delete topics. A created topic stays until it\n"
        "is deleted. Deleting a topic unsubscribes all of its subscribers.",
        usage="server.py topics [list|create|delete] [NAME ...] [OPTIONS]",
    )
    parser.add_argument("action", nargs="?", default="list", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", type=utf8, help=argparse.SUPPRESS)
    parser.add_argument("--prefix", type=utf8, help="list the topics whose name begins with it")
    add_json(parser)
    add_address(parser)
    return parser


def _list(remote: Remote, options: argparse.Namespace) -> None:
    """Print all pages, each as it comes."""
    pages = _pages(remote, options.prefix or "")
    if options.json:
        topics: dict[str, int] = {}
        count = 0
        for page in pages:
            topics |= page["topics"]
            count = page["count"]
        print(to_json({"count": count, "topics": topics}))
        return
    with Progress() as progress:
        listed = 0
        for page in pages:
            print_topics(page["topics"], heading=not listed)
            listed += len(page["topics"])
            progress.show(f"{listed} topics")


def _pages(remote: Remote, prefix: str) -> Iterator[dict[str, Any]]:
    query = {"prefix": prefix} if prefix else {}
    while True:
        page = remote.get("/topics", "count", "topics", **query)
        yield page
        if "next" not in page:
            return
        query["after"] = page["next"]
