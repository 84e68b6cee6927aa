"""`publish`: publishes a message, or each line of standard input, to a topic."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from cli.address import add_address, read_address
from cli.output import CommandError, Exit, Progress, counted, printable, to_json
from cli.parsing import Parser, add_json, utf8
from cli.remote import RefusedError, Remote

_STDIN: Final = "-"
_TOO_MANY: Final = 429  # status of HTTP
_LONGEST_WAIT: Final = 60  # maximum of the seconds to wait when a limit of the server is reached


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `publish`.

    Raises:
        CommandError: there is no answer, or a refusal.
    """
    options = _parser().parse(arguments)
    with Remote(read_address(options, environ)) as remote:
        if options.payload == _STDIN:
            _publish_lines(remote, options)
        else:
            body = _body(options.topic, options.payload, options.text)
            answer = remote.post("/publish", body, key=options.key)
            print(to_json(answer) if options.json else _describe(answer))
    return Exit.OK


def _parser() -> Parser:
    parser = Parser(
        "publish",
        "Publish a message to a topic. The payload is JSON, or else text. With - as the\n"
        "payload, each line of standard input is one message, except empty lines. It\n"
        "ends at the first line that the server refuses. If the server asks it to be\n"
        "slower (429), it waits and sends the line again.",
        usage="server.py publish TOPIC PAYLOAD|- [OPTIONS]",
        epilog="""examples:
  python server.py publish news '{"from":"shell"}'
  python server.py publish news --text 42
  tail -F app.log | python server.py publish logs - --text""",
    )
    parser.add_argument("topic", metavar="TOPIC", type=utf8, help="it must exist")
    parser.add_argument("payload", metavar="PAYLOAD", type=utf8, help="JSON, text, or -")
    parser.add_argument(
        "--text", action="store_true", help="publish the payload as text, even if it is JSON"
    )
    parser.add_argument(
        "--key",
        type=utf8,
        default="",
        help="an idempotency key: for 5 minutes the same command may be repeated, and publishes"
        " once; with -, line 3 has KEY:3",
    )
    add_json(parser)
    add_address(parser)
    return parser


def _publish_lines(remote: Remote, options: argparse.Namespace) -> None:
    count = 0
    with Progress() as progress:
        for number, line in enumerate(sys.stdin.buffer, 1):
            if not line.strip():
                continue
            key = f"{options.key}:{number}" if options.key else ""
            try:
                text = line.rstrip(b"\r\n").decode()
                answer = _patiently(remote, _body(options.topic, text, options.text), key)
            except UnicodeDecodeError:
                raise CommandError(Exit.USAGE, f"line {number}: it is not UTF-8") from None
            except CommandError as error:
                raise CommandError(error.code, f"line {number}: {error}") from None
            count += 1
            if options.json:
                print(to_json(answer), flush=True)
            progress.show(f"{count} published")
    if not options.json:
        print(f"published {counted(count, 'message')} to {printable(options.topic)}")


def _patiently(remote: Remote, body: bytes, key: str) -> dict[str, Any]:
    """Publish a message; if a limit of the server asks for it, wait and try again."""
    while True:
        try:
            return remote.post("/publish", body, key=key)
        except RefusedError as error:
            if error.retry_after is None or error.status != _TOO_MANY:
                raise
            time.sleep(min(error.retry_after, _LONGEST_WAIT))


def _body(topic: str, payload: str, is_text: bool) -> bytes:
    """Return the body of a request.

    A payload that is JSON is not decoded and encoded again, which could change its numbers.
    """
    if is_text or not _is_json(payload):
        payload = json.dumps(payload)
    return f'{{"topic":{json.dumps(topic)},"payload":{payload}}}'.encode()


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        if text.lstrip().startswith(("{", "[", '"')):
            why = f"the payload begins like JSON, but is not: {error}; --text sends it as text"
            raise CommandError(Exit.USAGE, why) from None
        return False
    except RecursionError:
        raise CommandError(Exit.USAGE, "the payload is nested too deeply") from None
    return True


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _describe(answer: Mapping[str, Any]) -> str:
    topic = printable(answer["topic"])
    if answer.get("duplicate"):
        return f"published before to {topic}, with this key"
    text = f"published to {topic}: {counted(answer['receivers'], 'subscriber')}"
    return f"{text} here, {counted(answer['nodes'], 'server')}" if "nodes" in answer else text
