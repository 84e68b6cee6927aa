"""The subcommands of `server.py`: make a token, and say what a token allows.

Without a subcommand, `server.py` serves. The settings come from the environment, as the server's.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from hub.access import Principal, Verb, compile_patterns
from hub.auth.tokens import MAX_TOKEN_BYTES, Problem, Reason, Verifier
from hub.errors import SettingError
from hub.settings import SWITCHES, Settings, read_settings, signing_secret

_TTL: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Carry out a subcommand, and return the exit code of the process.

    Raises:
        SettingError: a setting is not valid, or one that is needed is not set.
    """
    options = _parser().parse_args(arguments)
    settings = read_settings(environ)
    if options.command == "token":
        return _make(options, settings, signing_secret(environ))
    return _check(options, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server.py", description="Without a command, serve until SIGTERM."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    token = commands.add_parser(
        "token", help="print a token, signed with the first secret of JWT_SECRET"
    )
    token.add_argument("--sub", required=True, help="the subject: who has the token")
    for verb in Verb:
        token.add_argument(
            f"--{verb}", metavar="PATTERN", action="append", help="may be given several times"
        )
    token.add_argument("--info", type=_json, help="JSON that is shown in presence")
    token.add_argument("--ttl", type=_ttl, default="1h", help="30s, 10m, 1h (default) or 7d")

    check = commands.add_parser("check-token", help="say what a token allows")
    check.add_argument("token", nargs="?", help="read from standard input if it is not given")
    check.add_argument("--topic", help="a topic to check; needs --verb")
    check.add_argument("--verb", choices=[str(verb) for verb in Verb], help="needs --topic")
    return parser


def _ttl(text: str) -> int:
    found = _TTL.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("a number with s, m, h or d, such as 1h, is allowed")
    return int(found[1]) * _UNITS[found[2]]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError("it is not JSON") from None


def _make(options: argparse.Namespace, settings: Settings, secret: str | None) -> int:
    if secret is None:
        raise SettingError("JWT_SECRET", "", "it is needed to sign a token")
    import jwt  # takes 8 MB, which a server without tokens saves

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
        return _fail(f"no token was made: {result.text}")
    for verb in Verb:
        for text in getattr(options, verb) or ():
            if not compile_patterns([text], settings.topic_separator, options.sub):
                why = "sub has one of + # * { } or the separator"
                _warn(f"{verb} {text!r} allows nothing: {why}")
    if not any(result.rights):
        _warn("the token allows nothing")
    print(token)
    return 0


def _check(options: argparse.Namespace, settings: Settings) -> int:
    if (options.topic is None) != (options.verb is None):
        return _fail("--topic and --verb need each other")
    if not settings.access_on:
        return _fail(f"access is off: set one of {', '.join(SWITCHES)}")
    token = options.token or sys.stdin.read(MAX_TOKEN_BYTES + 2).strip()
    now = time.time()
    result = _verifier(settings).verify(token, now)
    if isinstance(result, Problem):
        hint = ""
        if settings.jwt_jwks_url and result.reason in (Reason.ALGORITHM, Reason.UNKNOWN_KEY):
            hint = " (keys of JWT_JWKS_URL are not fetched here)"
        return _fail(f"not valid: {result.reason}: {result.text}{hint}")
    if options.verb is None:
        print("\n".join(_describe(result, now)))
        return 0
    rule = result.rights.find(Verb(options.verb), options.topic)
    allowed = "not allowed" if rule is None else f"allowed by {rule!r}"
    print(f"{options.verb} on {options.topic!r} is {allowed}")
    return int(rule is None)


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
    print(f"warning: {text}", file=sys.stderr)


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1
