"""Keys that verify tokens, each with its one algorithm: HS256, RS256, ES256 or EdDSA.

Pure. This module loads `cryptography`, which takes 8 MB: only a server with tokens imports it.
"""

import re
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import InvalidKeyError, PyJWS
from jwt.algorithms import Algorithm

from hub.auth.tokens import Key

MIN_SECRET_BYTES: Final = 32  # the size of the hash (RFC 7518 section 3.2)
MIN_RSA_BITS: Final = 2_048  # RFC 7518 section 3.3
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s[^-]+-----END \1-----")
_PUBLIC: Final = frozenset({"PUBLIC KEY", "RSA PUBLIC KEY"})
_ALGORITHMS: Final = PyJWS(["HS256", "RS256", "ES256", "EdDSA"])


def parse_secrets(text: str) -> tuple[Key, ...]:
    """Return the keys of `JWT_SECRET`, several secrets separated by commas.

    Raises:
        ValueError: the exception's text is what is allowed.
    """
    return tuple(map(_hmac_key, text.split(",")))


def _hmac_key(secret: str) -> Key:
    if "-----BEGIN" in secret:
        raise ValueError("a PEM is a key for JWT_PUBLIC_KEY")
    if secret != secret.strip():
        raise ValueError("spaces or line ends around a secret are not allowed")
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"each secret must have at least {MIN_SECRET_BYTES} bytes")
    algorithm = _ALGORITHMS.get_algorithm_by_name("HS256")
    try:
        return _key(algorithm, "HS256", algorithm.prepare_key(secret))
    except InvalidKeyError:  # such as an SSH key or a JWK
        raise ValueError("a secret must not be a public key in another format") from None


def parse_public_keys(text: str) -> tuple[Key, ...]:
    """Return the keys of `JWT_PUBLIC_KEY`, one or more PEMs one after another.

    Raises:
        ValueError: the exception's text is what is allowed.
    """
    keys = []
    for found in _PEM.finditer(text):
        if found[1] not in _PUBLIC:
            raise ValueError(f"a PUBLIC KEY is allowed, not a {found[1]}")
        try:
            key = _public_key(load_pem_public_key(found[0].encode()))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if key is None:
            raise ValueError(
                f"RSA of at least {MIN_RSA_BITS} bits, EC on P-256 or Ed25519 is allowed"
            )
        keys.append(key)
    if not keys or _PEM.sub("", text).strip():
        raise ValueError("one or more PEMs (-----BEGIN PUBLIC KEY-----) are allowed")
    return tuple(keys)


def parse_jwk(jwk: dict[str, Any]) -> Key | None:
    """Return a key of a key set (RFC 7517); None unless it is one for signatures that we use."""
    kid, uses = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if (
        "d" in jwk  # a private key
        or jwk.get("use", "sig") != "sig"
        or not (type(uses) is list and "verify" in uses)
        or not (kid is None or type(kid) is str)
    ):
        return None
    name = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(jwk.get("kty")))
    if name is None or jwk.get("alg", name) != name:
        return None
    try:
        public: Any = _ALGORITHMS.get_algorithm_by_name(name).from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    return _public_key(public, kid)


def _public_key(public: object, kid: str | None = None) -> Key | None:
    """Return a key with the algorithm of its kind; None if we do not use the kind."""
    if isinstance(public, RSAPublicKey):
        name = "RS256" if public.key_size >= MIN_RSA_BITS else None
    elif isinstance(public, EllipticCurvePublicKey):
        name = "ES256" if isinstance(public.curve, SECP256R1) else None
    else:
        name = "EdDSA" if isinstance(public, Ed25519PublicKey) else None
    if name is None:
        return None
    return _key(_ALGORITHMS.get_algorithm_by_name(name), name, public, kid)


def _key(algorithm: Algorithm, name: str, material: Any, kid: str | None = None) -> Key:
    # A closure, because the repr of a partial would show its arguments, and so the secret.
    def verify(signed: bytes, signature: bytes) -> bool:
        return algorithm.verify(signed, material, signature)

    return Key(name, verify, kid)
