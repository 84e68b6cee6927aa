"""Secrets, public keys and keys of a key set: which are accepted."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.api_keys import ApiKeys, parse_api_keys
from hub.auth.keys import parse_jwk, parse_public_keys, parse_secrets

RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
RSA_JWK = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)
EC_JWK = jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True)
ED_JWK = jwt.algorithms.OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True)


def public(private: Any, form: str = "SubjectPublicKeyInfo") -> str:
    encoding = serialization.Encoding.PEM
    wanted = getattr(serialization.PublicFormat, form)
    return str(private.public_key().public_bytes(encoding, wanted).decode())


def private(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


# --- JWT_SECRET -----------------------------------------------------------------------------------


def test_secrets_are_separated_by_commas() -> None:
    keys = parse_secrets("a" * 32 + "," + "\u00e9" * 16)
    assert [key.algorithm for key in keys] == ["HS256", "HS256"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a" * 31, "at least 32 bytes"),
        ("a" * 32 + ",", "at least 32 bytes"),
        ("a" * 32 + ", " + "b" * 32, "spaces or line ends"),
        ("a" * 32 + "\n", "spaces or line ends"),
        (public(RSA), "a PEM is a key for JWT_PUBLIC_KEY"),
        (public(RSA).strip(), "a PEM is a key for JWT_PUBLIC_KEY"),
        (private(EC), "a PEM is a key for JWT_PUBLIC_KEY"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVQ0sbWfLFXPxdzBxk1NUyxgC", "another format"),
        ('{"kty":"oct"' + " " * 30 + "}", "another format"),
    ],
)
def test_a_secret_must_be_long_and_no_public_key(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_secrets(text)


# --- JWT_PUBLIC_KEY -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "algorithms"),
    [
        (public(RSA), ["RS256"]),
        (public(RSA, "PKCS1"), ["RS256"]),
        (public(EC).strip(), ["ES256"]),
        (public(ED).replace("\n", "\r\n"), ["EdDSA"]),
        (public(ED) + public(RSA) + "\n" + public(RSA), ["EdDSA", "RS256", "RS256"]),
    ],
)
def test_the_key_gives_the_algorithm(text: str, algorithms: list[str]) -> None:
    assert [key.algorithm for key in parse_public_keys(text)] == algorithms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one or more PEMs"),
        ("0123456789abcdef0123456789abcdef", "one or more PEMs"),
        (public(RSA) + "x", "one or more PEMs"),
        (public(RSA)[:-20], "one or more PEMs"),
        (private(RSA), "not a PRIVATE KEY"),
        (public(RSA) + private(EC), "not a PRIVATE KEY"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "not a CERTIFICATE"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "RSA of at least 2048"),
        (public(rsa.generate_private_key(65_537, 1_024)), "RSA of at least 2048"),
        (public(ec.generate_private_key(ec.SECP384R1())), "EC on P-256"),
        (public(ec.generate_private_key(ec.SECP256K1())), "EC on P-256"),
        (public(ed448.Ed448PrivateKey.generate()), "Ed25519"),
    ],
)
def test_a_pem_of_another_kind_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_public_keys(text)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- Key sets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jwk", "algorithm"), [(RSA_JWK, "RS256"), (EC_JWK, "ES256"), (ED_JWK, "EdDSA")]
)
def test_a_jwk_is_a_key_of_its_kind(jwk: dict[str, Any], algorithm: str) -> None:
    for more in ({}, {"use": "sig"}, {"alg": algorithm}, {"key_ops": ["verify"]}):
        key = parse_jwk({**jwk, **more, "kid": "k1"})
        assert key is not None
        assert (key.algorithm, key.kid) == (algorithm, "k1")


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"use": None},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": None},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"key_ops": 7},
        {"kid": 7},
        {"kid": ["a"]},
        {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"},
        {"kty": "EC"},
        {"kty": ["RSA"]},
        {"kty": None},
        {"n": None},
        {"n": 7},
        {"n": "!"},
        {"n": ""},
        {"e": ""},
        {"e": []},
        {"d": "AAAA"},
        {"n": "AQAB"},
    ],
)
def test_any_other_jwk_is_passed_over(changed: dict[str, Any]) -> None:
    assert parse_jwk(RSA_JWK) is not None
    assert parse_jwk({**RSA_JWK, **changed}) is None


@pytest.mark.parametrize(
    "jwk",
    [
        {**EC_JWK, "crv": "P-384"},
        {**EC_JWK, "crv": "secp256k1"},
        {**EC_JWK, "x": EC_JWK["y"]},
        {**ED_JWK, "crv": "Ed448"},
        {**ED_JWK, "crv": "X25519"},
        {**ED_JWK, "x": "AA"},
        {},
        {"kty": "oct"},
    ],
)
def test_another_curve_is_passed_over(jwk: dict[str, Any]) -> None:
    assert parse_jwk(jwk) is None


JUNK = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)


@given(
    st.sampled_from([RSA_JWK, EC_JWK, ED_JWK]),
    st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "kid"]), JUNK),
)
def test_no_jwk_raises(jwk: dict[str, Any], changed: dict[str, Any]) -> None:
    key = parse_jwk({**jwk, **changed})
    assert key is None or key.algorithm in ("RS256", "ES256", "EdDSA")


# --- API_KEYS -------------------------------------------------------------------------------------


def test_a_secret_finds_the_name_of_its_key() -> None:
    keys = ApiKeys(parse_api_keys("app:0123456789abcdef, cron-2:fedcba:9876543210"))
    app, cron = keys.find("0123456789abcdef"), keys.find("fedcba:9876543210")
    assert app is not None
    assert app.manages_all
    assert cron is not None
    assert (app.key_name, cron.key_name) == ("app", "cron-2")


@pytest.mark.parametrize(
    "secret",
    ["", "0123456789abcde", "0123456789abcdeF", "app:0123456789abcdef", "\udcff", "\u00e9"],
)
def test_another_secret_finds_nobody(secret: str) -> None:
    assert ApiKeys(parse_api_keys("app:0123456789abcdef")).find(secret) is None
    assert ApiKeys(()).find(secret) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0123456789abcdef",
        ":0123456789abcdef",
        "app:",
        "app:0123456789abcde",
        "app:0123456789 abcdef",
        "app:0123456789abcde\u00e9f",
        "a b:0123456789abcdef",
        "app:0123456789abcdef,",
        "app:0123456789abcdef,app:fedcba9876543210",
        "app:0123456789abcdef,cron:0123456789abcdef",
    ],
)
def test_api_keys_have_a_form(text: str) -> None:
    with pytest.raises(ValueError, match="NAME:SECRET"):
        parse_api_keys(text)


def test_a_key_does_not_show_its_secret() -> None:
    keys = parse_api_keys("app:0123456789abcdef")
    assert repr(keys) == "(ApiKey(name='app'),)"
