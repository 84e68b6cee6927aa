"""`disconnect`: closes the connections of a subject or client id, and bans a subject."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cli.address import add_address, read_address
from cli.output import Exit, counted, printable, to_json
from cli.parsing import Parser, add_json, duration, utf8
from cli.remote import Remote


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `disconnect`.

    Raises:
        CommandError: there is no answer, or a refusal.
    """
    parser = _parser()
    options = parser.parse(arguments)
    if options.client_id is not None and options.ban is not None:
        parser.error("--for needs --sub: a client id is a label, and cannot be banned")
    fields = {"sub": options.sub, "client_id": options.client_id, "for": options.ban}
    body = {name: value for name, value in fields.items() if value is not None}
    with Remote(read_address(options, environ)) as remote:
        answer = remote.post("/disconnect", json.dumps(body).encode())
    print(to_json(answer) if options.json else _describe(answer))
    return Exit.OK


def _parser() -> Parser:
    parser = Parser(
        "disconnect",
        "Close the connections of a token's subject, or those with a client id, on all\n"
        "servers. They may come back, unless --for bans the subject. With access on, it\n"
        "needs an API key, or a token with manage of #.",
        usage="server.py disconnect --sub SUB|--client-id ID [OPTIONS]",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--sub", type=utf8, help="the subject")
    who.add_argument("--client-id", metavar="ID", type=utf8, help="the client id")
    parser.add_argument(
        "--for",
        dest="ban",
        metavar="TIME",
        type=duration,
        help="refuse the tokens of the subject for this time: 30s, 10m, 1h or 7d",
    )
    add_json(parser)
    add_address(parser)
    return parser


def _describe(answer: Mapping[str, Any]) -> str:
    who = printable(answer.get("sub") or answer["client_id"])
    lines = [f"disconnected {who}: {counted(answer['clients'], 'connection')}"]
    if "until" in answer:
        lines.append(f"banned until {answer['until']}")
    if answer.get("degraded"):
        lines.append("Redis is lost: other servers do not know it yet")
    return "\n".join(lines)
