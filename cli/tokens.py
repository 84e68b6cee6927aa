"""`token` makes a token, and `check-token` says what one allows.

Both use the server's settings, from the environment or from options.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cli.output import CommandError, Exit, say
from cli.parsing import Parser, duration
from cli.settings import add_settings, given_settings
from hub.access import Principal, Verb, compile_patterns
from hub.auth.tokens import MAX_TOKEN_BYTES, Problem, Reason, Verifier
from hub.errors import SettingError
from hub.settings import ACCESS, SETTINGS, SWITCHES, Settings, inspect, signing_secret

_RIGHTS: Final = {
    Verb.SUBSCRIBE: "topics that it may subscribe to",
    Verb.PUBLISH: "topics that it may publish to",
    Verb.MANAGE: "topics that it may create and delete",
}


def run(command: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Carry out `token` or `check-token`.

    Raises:
        CommandError: no token was made, or a token is not valid.
        SettingError: a setting is not valid, or one that is needed is not set.
    """
    parser = _make_parser() if command == "token" else _check_parser()
    add_settings(parser, [setting for setting in SETTINGS if setting.group == ACCESS])
    options = parser.parse(arguments)
    inspection = inspect(environ, given_settings(options))
    for mistake in inspection.mistakes.values():
        raise mistake
    if command == "token":
        return _make(options, inspection.settings, signing_secret(inspection))
    return _check(options, inspection.settings)


def _make_parser() -> Parser:
    parser = Parser(
        "token",
        "Print a token, signed with the first secret of JWT_SECRET.",
        usage="server.py token --sub SUB [OPTIONS]",
    )
    parser.add_argument("--sub", required=True, help="the subject: who has the token")
    for verb, what in _RIGHTS.items():
        parser.add_argument(
            f"--{verb}",
            metavar="PATTERN",
            action="append",
            help=f"{what}, such as chat/#; may be given several times",
        )
    parser.add_argument(
        "--info", metavar="JSON", type=_json, help="data about the subject, in the claim info"
    )
    parser.add_argument(
        "--ttl", metavar="TIME", type=duration, default="1h", help="30s, 10m, 1h (default) or 7d"
    )
    return parser


def _check_parser() -> Parser:
    parser = Parser(
        "check-token",
        "Show what a token allows; with --topic and --verb, whether it allows that.",
        usage="server.py check-token [TOKEN] [OPTIONS]",
    )
    parser.add_argument(
        "token", metavar="TOKEN", nargs="?", help="read from standard input if it is not given"
    )
    parser.add_argument("--topic", help="a topic to check; needs --verb")
    parser.add_argument("--verb", choices=[str(verb) for verb in Verb], help="needs --topic")
    return parser


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError("it is not JSON") from None


def _make(options: argparse.Namespace, settings: Settings, secret: str | None) -> Exit:
    if secret is None:
        raise SettingError("JWT_SECRET", "", "it is needed to sign a token")
    import jwt  # imported here, because it takes 8 MB and most commands do not need it

    now = time.time()
    claims: dict[str, Any] = {
        "sub": options.sub,
        "exp": int(now) + options.ttl,
        "iat": int(now),
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "info": options.info,
        **{verb: getattr(options, verb) for verb in Verb},
    }
    given = {name: value for name, value in claims.items() if value not in (None, "")}
    token = jwt.encode({"sub": options.sub, **given}, secret, "HS256")
    result = _verifier(settings).verify(token, now)
    if isinstance(result, Problem):
        raise CommandError(Exit.USAGE, f"no token was made: {result.text}")
    for verb in Verb:
        for text in getattr(options, verb) or ():
            if not compile_patterns([text], settings.topic_separator, options.sub):
                why = "sub has one of + # * { } or the separator"
                _warn(f"{verb} {text!r} allows nothing: {why}")
    if not any(result.rights):
        _warn("the token allows nothing")
    print(token)
    return Exit.OK


def _check(options: argparse.Namespace, settings: Settings) -> Exit:
    if (options.topic is None) != (options.verb is None):
        raise CommandError(Exit.USAGE, "--topic and --verb need each other")
    if not settings.access_on:
        raise CommandError(Exit.USAGE, f"access is off: set one of {', '.join(SWITCHES)}")
    token = options.token or sys.stdin.read(MAX_TOKEN_BYTES + 2).strip()
    now = time.time()
    result = _verifier(settings).verify(token, now)
    if isinstance(result, Problem):
        hint = ""
        if settings.jwt_jwks_url and result.reason in (Reason.ALGORITHM, Reason.UNKNOWN_KEY):
            hint = " (keys of JWT_JWKS_URL are not fetched here)"
        raise CommandError(Exit.REFUSED, f"not valid: {result.reason}: {result.text}{hint}")
    if options.verb is None:
        print("\n".join(_describe(result, now)))
        return Exit.OK
    rule = result.rights.find(Verb(options.verb), options.topic)
    allowed = "not allowed" if rule is None else f"allowed by {rule!r}"
    print(f"{options.verb} on {options.topic!r} is {allowed}")
    return Exit.REFUSED if rule is None else Exit.OK


def _verifier(settings: Settings) -> Verifier:
    return Verifier((*settings.jwt_secret, *settings.jwt_public_key), settings.token_rules())


def _describe(principal: Principal, now: float) -> list[str]:
    end = "never"
    if principal.expires_at is not None:
        left = int(principal.expires_at - now)
        end = f"{datetime.fromtimestamp(principal.expires_at, UTC):%Y-%m-%dT%H:%M:%SZ}, in {left} s"
    return [
        f"valid for {principal.subject!r}, expires {end}",
        *(
            f"{verb}: {', '.join(getattr(principal.rights, verb).texts()) or 'nothing'}"
            for verb in Verb
        ),
    ]


def _warn(text: str) -> None:
    say(f"warning: {text}")
