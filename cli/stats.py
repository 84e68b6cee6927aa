"""`stats`: the clients and topics of a running server."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.address import add_address, read_address
from cli.output import Exit, print_topics, printable, to_json
from cli.parsing import Parser, add_json
from cli.remote import Remote


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `stats`: print the stats of a server.

    Raises:
        CommandError: there is no answer, or a refusal.
    """
    parser = Parser(
        "stats",
        "Show the clients and topics of a running server; with Redis, of all servers.",
        usage="server.py stats [OPTIONS]",
    )
    add_json(parser)
    add_address(parser)
    options = parser.parse(arguments)
    with Remote(read_address(options, environ)) as remote:
        stats = remote.get("/stats", "total_clients", "total_topics", "topics")
    if options.json:
        print(to_json(stats))
    else:
        _print(stats)
    return Exit.OK


def _print(stats: Mapping[str, Any]) -> None:
    print(f"clients  {stats['total_clients']}")
    print(f"topics   {stats['total_topics']}")
    if "nodes" in stats:
        print(f"servers  {stats['nodes']}")
        print(f"node     {printable(str(stats['node']['id']))}")
    if stats.get("degraded"):
        print("Redis is lost: these are the figures of one server")
    if stats["topics"]:
        print()
        print_topics(stats["topics"])
    if stats.get("topics_truncated"):
        print(f"... the first {len(stats['topics'])}; `topics` lists all")
