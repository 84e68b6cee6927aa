"""Tokens: a JWT (RFC 7519) is verified once, and becomes a principal or a problem.

Pure; time is an argument. A token never chooses how it is verified: every key has one algorithm,
and the token's `alg` and `kid` only say which of our keys to try. A token is refused if its header
has a key, names a place to fetch one from, or has critical extensions.
"""

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import orjson

from hub.access import (
    LEEWAY,
    MAX_PATTERNS,
    MAX_SUBJECT_BYTES,
    MAX_TIME,
    NO_RIGHTS,
    SEPARATOR,
    Patterns,
    Principal,
    Rights,
    Verb,
    compile_patterns,
)
from hub.values import Json

MAX_TOKEN_BYTES: Final = 8_192
MAX_INFO_BYTES: Final = 4_096  # encoded as JSON by orjson
# The header has at most 512 bytes (683 characters).
_FORM: Final = re.compile(r"([A-Za-z0-9_-]{1,683})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"\s*(:?)')  # of JSON; with a colon it is a name
_PUBLIC: Final = frozenset({"RS256", "ES256", "EdDSA"})  # algorithms of a key set
_REFUSED: Final = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})  # header parameters


class Reason(StrEnum):
    """Why a token is not valid. Reasons may be added; none of these may change."""

    TOO_LONG = "too_long"  # over MAX_TOKEN_BYTES
    MALFORMED = "malformed"  # not a JWT
    HEADER = "header"  # a header parameter that is refused
    ALGORITHM = "algorithm"  # no key has this `alg`
    UNKNOWN_KEY = "unknown_key"  # no key with this `kid`; there may be one after a refetch
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET = "not_yet"  # before `nbf`
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIM = "claim"  # a claim that is missing, or of the wrong type, or too large


class Problem(NamedTuple):
    """Why a token was refused."""

    reason: Reason
    text: str  # for a person; it quotes the token only if the signature is right


class Key(NamedTuple):
    """A key with its one algorithm."""

    algorithm: str
    verify: Callable[[bytes, bytes], bool]  # whether a signing input has a signature
    kid: str | None = None  # of a key from a key set


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """The rules for tokens: their required claims, and the rights that are added."""

    audience: str = ""  # which `aud` must name; empty: `aud` is not checked
    issuer: str = ""  # which `iss` must be; empty: `iss` is not checked
    require_exp: bool = True
    separator: str = SEPARATOR
    anonymous: Rights = field(default=NO_RIGHTS)  # of a caller without a token


class Verifier:
    """Verifies tokens.

    State: none of its own.
    """

    def __init__(
        self,
        keys: tuple[Key, ...],
        rules: TokenRules,
        key_set: Callable[[], tuple[Key, ...]] | None = None,
    ) -> None:
        """Create a verifier.

        Args:
            keys: the keys in the settings.
            rules: for the claims.
            key_set: returns the current keys of the key set; None without one.
        """
        self._keys = keys
        self._rules = rules
        self._key_set = key_set

    def verify(self, token: str, now: float) -> Principal | Problem:
        """Verify a token.

        Args:
            token: in the compact form (RFC 7515 section 7.1).
            now: seconds since the epoch.

        Returns:
            The caller, or why the token is not valid.
        """
        payload = self._open(token)
        if isinstance(payload, Problem):
            return payload
        claims = _parse_object(payload)
        if claims is None:
            return Problem(Reason.MALFORMED, "the claims are not a JSON object with unique names")
        return self._check_times(claims, now) or self._check_names(claims) or self._admit(claims)

    def _open(self, token: str) -> bytes | Problem:
        """Return the payload of a token whose signature is right."""
        # Count characters first: each has at least one byte. _FORM then allows only characters that
        # have exactly one.
        if len(token) > MAX_TOKEN_BYTES:
            return Problem(Reason.TOO_LONG, f"it has more than {MAX_TOKEN_BYTES} bytes")
        found = _FORM.fullmatch(token)
        parts = [_decode(part) for part in found.groups()] if found else []
        head = parts[0] if parts else None
        header = None if head is None else _parse_header(head)
        if found is None or head is None or header is None or None in parts:
            return Problem(Reason.MALFORMED, "it is not a JWT: HEADER.CLAIMS.SIGNATURE")
        if not _REFUSED.isdisjoint(header):
            names = ", ".join(sorted(_REFUSED.intersection(header)))
            return Problem(Reason.HEADER, f"its header must not have {names}")
        if not _is_flat(header, head):
            return Problem(Reason.MALFORMED, "its header must be flat, with unique names")
        algorithm, kid = header.get("alg"), header.get("kid")
        if type(algorithm) is not str or not (kid is None or type(kid) is str):
            return Problem(Reason.MALFORMED, "its alg and kid must be strings")
        keys = [key for key in self._keys if key.algorithm == algorithm]
        from_set = self._select(algorithm, kid)
        if from_set is not None:
            keys.append(from_set)
        signed = token[: found.end(2)].encode()
        _, payload, signature = parts
        assert payload is not None
        assert signature is not None
        if any(key.verify(signed, signature) for key in keys):
            return payload
        if self._key_set is not None and algorithm in _PUBLIC and from_set is None:
            return Problem(Reason.UNKNOWN_KEY, "its kid names no key of the key set")
        if not keys:
            return Problem(Reason.ALGORITHM, "its alg is that of no key")
        return Problem(Reason.SIGNATURE, "its signature is wrong")

    def _select(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key of the key set that a header names."""
        keys = self._key_set() if self._key_set is not None else ()
        fitting = [key for key in keys if key.algorithm == algorithm]
        if kid is not None:
            return next((key for key in fitting if key.kid == kid), None)
        # Without a kid there must be only one choice (OpenID Connect Core section 10.1).
        return fitting[0] if len(fitting) == 1 else None

    def _check_times(self, claims: dict[str, Json], now: float) -> Problem | None:
        for name in ("exp", "nbf"):
            if name in claims and not _is_time(claims[name]):
                return Problem(Reason.CLAIM, f"{name} must be seconds since the epoch")
        if "exp" not in claims:
            if self._rules.require_exp:
                return Problem(Reason.CLAIM, "exp is missing (JWT_REQUIRE_EXP)")
        elif now >= claims["exp"] + LEEWAY:
            return Problem(Reason.EXPIRED, "it has expired")
        if now < claims.get("nbf", 0):
            return Problem(Reason.NOT_YET, "it is not valid yet (nbf)")
        return None

    def _check_names(self, claims: dict[str, Json]) -> Problem | None:
        issuer, audience = self._rules.issuer, self._rules.audience
        if issuer and claims.get("iss") != issuer:
            return Problem(Reason.ISSUER, "its iss is not JWT_ISSUER")
        named = claims.get("aud")
        if audience and named != audience and not (type(named) is list and audience in named):
            return Problem(Reason.AUDIENCE, "its aud does not name JWT_AUDIENCE")
        return None

    def _admit(self, claims: dict[str, Json]) -> Principal | Problem:
        subject = claims.get("sub")
        if (
            type(subject) is not str
            or not subject
            or len(subject.encode(errors="replace")) > MAX_SUBJECT_BYTES
        ):
            text = f"sub must be a string of 1 to {MAX_SUBJECT_BYTES} bytes of UTF-8"
            return Problem(Reason.CLAIM, text)
        info = claims.get("info")
        try:
            if len(orjson.dumps(info)) > MAX_INFO_BYTES:
                return Problem(Reason.CLAIM, f"info has more than {MAX_INFO_BYTES} bytes of JSON")
        except orjson.JSONEncodeError:  # more than 254 levels
            return Problem(Reason.CLAIM, "info is nested too deeply")
        try:
            rights = self._rights(claims, subject)
        except ValueError as error:
            return Problem(Reason.CLAIM, str(error))
        return Principal(rights, subject=subject, expires_at=claims.get("exp"), info=info)

    def _rights(self, claims: dict[str, Json], subject: str) -> Rights:
        """Return the rights of the claims, with those of every caller.

        Raises:
            ValueError: a claim or a pattern is not valid.
        """
        lists = [claims.get(verb, []) for verb in Verb]
        for verb, texts in zip(Verb, lists, strict=True):
            if type(texts) is not list or not all(type(text) is str for text in texts):
                raise ValueError(f"{verb} must be a list of patterns")
        if sum(map(len, lists)) > MAX_PATTERNS:
            raise ValueError(f"at most {MAX_PATTERNS} patterns are allowed")
        compiled: list[Patterns] = []
        for verb, texts in zip(Verb, lists, strict=True):
            try:
                compiled.append(compile_patterns(texts, self._rules.separator, subject))
            except ValueError as error:
                raise ValueError(f"{verb}: {error}") from None
        return Rights(*compiled).union(self._rules.anonymous)


def _decode(part: str) -> bytes | None:
    """Decode base64url without padding; None unless the text is the one encoding of its bytes."""
    decoded = urlsafe_b64decode(part + "==") if len(part) % 4 != 1 else b""
    return decoded if urlsafe_b64encode(decoded).rstrip(b"=") == part.encode() else None


def _parse_header(text: bytes) -> dict[str, Json] | None:
    """Return the header of a token; None if it is no JSON object."""
    try:
        header = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return header if type(header) is dict else None


def _is_flat(header: dict[str, Json], text: bytes) -> bool:
    """Return whether a header, parsed from `text`, has no nested values and no name twice.

    Anybody may send such a text, as the signature is not verified yet. So the check is cheap: it
    calls no Python function for each object.
    """
    if any(type(value) in (dict, list) for value in header.values()):
        return False
    return _STRING.findall(text).count(b":") == len(header)


def _parse_object(text: bytes) -> dict[str, Json] | None:
    """Return a JSON object; None for other JSON, or if an object has a name twice."""
    try:
        value = orjson.loads(text)  # knows no NaN and no half of a surrogate pair
        json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict else None


def _unique(pairs: list[tuple[str, Json]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is there twice")


def _is_time(value: Json) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= MAX_TIME
