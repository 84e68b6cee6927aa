"""Measure the check of a right, and the verification of a token.

    .venv/bin/python bench/access.py

Prints µs for each: the best of five runs. A check is remembered after the first one for a topic;
`--checks` is how many a run makes.
"""

import argparse
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub.access import ANONYMOUS, MAX_PATTERNS, Access, Principal, Rights, Verb, compile_patterns
from hub.auth.keys import parse_public_keys, parse_secrets
from hub.auth.tokens import Key, TokenRules, Verifier

SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"sub": "ann", "exp": 2_000, "subscribe": ["chat/#"], "publish": ["chat/{sub}"]}
NOW = 1_000.0
TOPIC = "chat/rooms/42/messages"


def cost(work: Callable[[], object], times: int) -> float:
    """Microseconds for each call, the best of five runs."""
    return min(timeit.repeat(work, number=times, repeat=5)) / times * 1e6


def caller(*patterns: str) -> Principal:
    """A principal that may publish to what the patterns match."""
    return Principal(Rights(publish=compile_patterns(patterns)), subject="ann")


def keys() -> dict[str, tuple[object, tuple[Key, ...]]]:
    """A key for signing, and for verifying, by algorithm."""
    pairs = {
        "RS256": generate_rsa_key(65_537, 2_048),
        "ES256": generate_private_key(SECP256R1()),
        "EdDSA": Ed25519PrivateKey.generate(),
    }
    form = PublicFormat.SubjectPublicKeyInfo
    public = {
        name: private.public_key().public_bytes(Encoding.PEM, form).decode()
        for name, private in pairs.items()
    }
    return {
        "HS256": (SECRET, parse_secrets(SECRET)),
        **{name: (private, parse_public_keys(public[name])) for name, private in pairs.items()},
    }


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checks", type=int, default=200_000)
    checks: int = parser.parse_args().checks
    access = Access()
    many = caller(*(f"other/{number}/+" for number in range(MAX_PATTERNS - 1)), "chat/#")
    one = caller("chat/#")
    for name, who in (("access off", ANONYMOUS), ("remembered", one)):
        us = cost(lambda who=who: access.check(who, Verb.PUBLISH, TOPIC), checks)  # type: ignore[misc]
        print(f"check, {name:<24} {us:9.3f} µs")
    for name, who in (("first, 1 pattern", one), (f"first, {MAX_PATTERNS} patterns", many)):
        us = cost(lambda who=who: who.rights.find(Verb.PUBLISH, TOPIC), checks // 20 or 1)  # type: ignore[misc]
        print(f"check, {name:<24} {us:9.3f} µs")
    for algorithm, (private, public) in keys().items():
        token = jwt.encode(CLAIMS, private, algorithm)  # type: ignore[arg-type]
        verifier = Verifier(public, TokenRules())
        assert isinstance(verifier.verify(token, NOW), Principal)
        us = cost(lambda v=verifier, t=token: v.verify(t, NOW), checks // 200 or 1)  # type: ignore[misc]
        print(f"verify, {algorithm:<23} {us:9.3f} µs")


if __name__ == "__main__":
    main()
