"""The kinds of values that settings have: each parses a text, and says which values are allowed.

Pure. The kinds of token keys import `cryptography`, but only when such a key is set.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from hub.access import Patterns, compile_patterns
from hub.addresses import Networks, parse_networks
from hub.auth.api_keys import parse_api_keys
from hub.auth.tokens import Key
from hub.origins import Origins, parse_hosts, parse_origins
from hub.redis.address import FORMS as REDIS_FORMS
from hub.redis.address import RedisAddress, parse_redis_address
from hub.values import MAX_SIZE, Rule

AUTO: Final = -1  # WORKERS=auto: as many as there are cores
_MAX_WORKERS: Final = 256
_MAX_SECONDS: Final = 86_400  # in any setting
_LOOPBACK: Final = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
_RULE: Final = re.compile(
    r"(?P<prefix>[^,=]+)=(?P<size>[0-9]{1,6})(:(?P<ttl>[0-9]{1,6}(\.[0-9]{1,3})?))?"
)
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_Value = TypeVar("_Value", covariant=True)


class NotAllowedError(ValueError):
    """A value is not allowed. The text says which values are."""

    def __init__(self, allowed: str, part: str | None = None) -> None:
        """`part` is the part of the value that is wrong; None: all of it."""
        super().__init__(allowed)
        self.part = part


@dataclass(frozen=True, slots=True)
class Kind(Generic[_Value]):
    """A kind of value."""

    form: str  # for the help of the command line
    # Called with the text, then with the values of the settings that it needs. It raises ValueError
    # for a wrong value; the text of the exception says which values are allowed.
    parse: Callable[..., _Value]


def integer(low: int, high: int) -> Kind[int]:
    """Return the kind of whole numbers within these bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise NotAllowedError(f"a whole number from {low} to {high} is allowed")
        return int(text)

    return Kind("N", parse)


def seconds(least: float = 0.001) -> Kind[float]:
    """Return the kind of times of at least so many seconds."""

    def parse(text: str) -> float:
        if (
            not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text)
            or not least <= float(text) <= _MAX_SECONDS
        ):
            lower = "more than 0" if least else "0 or more"
            raise NotAllowedError(f"seconds, {lower} and at most {_MAX_SECONDS}, are allowed")
        return float(text)

    return Kind("SECONDS", parse)


def choice(*allowed: str) -> Kind[str]:
    """Return the kind of a few words, in upper or lower case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise NotAllowedError(f"one of {', '.join(allowed)} is allowed")
        return text.lower()

    return Kind("|".join(allowed), parse)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise NotAllowedError("true or false is allowed")
    return _TRUTH[text.lower()]


def _workers(text: str) -> int:
    if text.lower() == "auto":
        return AUTO
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > _MAX_WORKERS:
        raise NotAllowedError(f"auto or a whole number from 0 to {_MAX_WORKERS} is allowed")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise NotAllowedError("up to 64 letters, digits and any of . _ - are allowed")
    return text


def _separator(text: str) -> str:
    if len(text) != 1 or text in "+#{}*,":
        raise NotAllowedError("one character, none of + # { } * and the comma, is allowed")
    return text


def _patterns(text: str, separator: str) -> Patterns:
    texts = [part.strip() for part in text.split(",")]
    if not all(texts):
        raise NotAllowedError("a comma-separated list of patterns is allowed")
    return compile_patterns(texts, separator)


def _rules(text: str, ttl: float, max_bytes: int) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for part in text.split(","):
        found = _RULE.fullmatch(part.strip())
        if (
            found is None
            or int(found["size"]) > MAX_SIZE
            or not 0 < float(found["ttl"] or ttl) <= _MAX_SECONDS
        ):
            raise NotAllowedError(
                "a comma-separated list of PREFIX=SIZE or PREFIX=SIZE:SECONDS is allowed, such"
                " as chat/=1000:3600,metrics/=0",
                part or text,
            )
        if found["prefix"] in rules:
            raise NotAllowedError("one rule for each prefix is allowed")
        rules[found["prefix"]] = Rule(int(found["size"]), float(found["ttl"] or ttl), max_bytes)
    return rules


def _redis(text: str) -> RedisAddress | None:
    try:
        return parse_redis_address(text.strip())
    except ValueError:
        raise NotAllowedError(f"{REDIS_FORMS} is allowed") from None


def _origins(text: str) -> Origins:
    try:
        return parse_origins(text)
    except ValueError as error:
        raise NotAllowedError(
            "'*' or a comma-separated list of origins such as https://app.example.com,"
            " https://*.example.com for its sub-domains, or same is allowed",
            str(error),
        ) from None


def _hosts(text: str) -> frozenset[str]:
    try:
        return parse_hosts(text)
    except ValueError as error:
        allowed = "a comma-separated list of host names without ports is allowed"
        raise NotAllowedError(allowed, str(error)) from None


def _networks(text: str) -> Networks:
    try:
        return parse_networks(text)
    except ValueError as error:
        allowed = "a comma-separated list of addresses and networks such as 10.0.0.0/8 is allowed"
        raise NotAllowedError(allowed, str(error)) from None


# The next two import `cryptography`, which takes 8 MB, only if a server has tokens.
def _token_secrets(text: str) -> tuple[Key, ...]:
    from hub.auth.keys import parse_secrets

    return parse_secrets(text)


def _token_keys(text: str) -> tuple[Key, ...]:
    from hub.auth.keys import parse_public_keys

    return parse_public_keys(text)


def _key_set_url(text: str) -> str:
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname or "", url.port
    except ValueError:  # its text quotes the URL
        host, port = "", None
    local = bool(host) and url.scheme == "http" and _LOOPBACK.fullmatch(host)
    if (
        not host
        or port == 0
        or "@" in url.netloc
        or url.fragment
        or not (url.scheme == "https" or local)
    ):
        raise NotAllowedError(
            "an https:// URL without a password, or http:// on loopback, is allowed"
        )
    return text.strip()


RATE: Final = integer(0, 1_000_000)
WORKERS: Final = Kind("N|auto", _workers)
TEXT: Final = Kind("TEXT", str)
TRUTH: Final = Kind("true|false", _truth)
NAME: Final = Kind("NAME", _name)
SEPARATOR: Final = Kind("CHARACTER", _separator)
PATTERNS: Final = Kind("PATTERNS", _patterns)
RULES: Final = Kind("PREFIX=SIZE:SECONDS,...", _rules)
REDIS: Final = Kind("ADDRESS", _redis)
ORIGINS: Final = Kind("ORIGINS", _origins)
HOSTS: Final = Kind("HOSTS", _hosts)
NETWORKS: Final = Kind("NETWORKS", _networks)
API_KEYS: Final = Kind("NAME:SECRET,...", parse_api_keys)
TOKEN_SECRETS: Final = Kind("SECRETS", _token_secrets)
TOKEN_KEYS: Final = Kind("PEM", _token_keys)
KEY_SET_URL: Final = Kind("URL", _key_set_url)
