"""Tokens: which become a principal, and why the others are refused."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from hub.access import Principal, Rights, Verb, compile_patterns
from hub.auth.keys import parse_public_keys, parse_secrets
from hub.auth.tokens import Key, Problem, Reason, TokenRules, Verifier

NOW = 1_000_000.0
SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
CLAIMS: dict[str, Any] = {"sub": "ann", "exp": int(NOW) + 60}
RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


PEMS = {"RS256": (RSA, pem(RSA)), "ES256": (EC, pem(EC)), "EdDSA": (ED, pem(ED))}
HS256 = Verifier(parse_secrets(SECRET), TokenRules())


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    header: bytes | dict[str, Any], claims: bytes | dict[str, Any], secret: bytes = SECRET.encode()
) -> str:
    """Make a token with any header and claims, and a right signature by HMAC."""
    parts = [it if type(it) is bytes else json.dumps(it).encode() for it in (header, claims)]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def token(**claims: Any) -> str:
    return forge({"alg": "HS256"}, {**CLAIMS, **claims})


def reason(text: str, verifier: Verifier = HS256, now: float = NOW) -> Reason:
    result = verifier.verify(text, now)
    assert isinstance(result, Problem), result
    return result.reason


# --- What is accepted -----------------------------------------------------------------------------


def test_a_token_becomes_a_principal() -> None:
    ann = HS256.verify(
        token(subscribe=["chat/#"], publish=["chat/{sub}"], manage=["x"], info={"name": "Ann"}), NOW
    )
    assert not isinstance(ann, Problem)
    assert (ann.subject, ann.expires_at, ann.info) == ("ann", NOW + 60, {"name": "Ann"})
    assert not ann.key_name
    assert not ann.is_anonymous
    assert ann.may(Verb.SUBSCRIBE, "chat/any")
    assert ann.may(Verb.PUBLISH, "chat/ann")
    assert not ann.may(Verb.PUBLISH, "chat/bob")
    assert ann.may(Verb.MANAGE, "x")


def test_an_absent_list_gives_no_right() -> None:
    ann = HS256.verify(token(), NOW)
    assert not isinstance(ann, Problem)
    assert not any(ann.may(verb, "chat") for verb in Verb)


def test_a_token_adds_to_the_anonymous_rights() -> None:
    everybody = Rights(subscribe=compile_patterns(["news"]))
    verifier = Verifier(parse_secrets(SECRET), TokenRules(anonymous=everybody))
    ann = verifier.verify(token(publish=["chat"]), NOW)
    assert not isinstance(ann, Problem)
    assert ann.may(Verb.SUBSCRIBE, "news")
    assert ann.may(Verb.PUBLISH, "chat")


def test_the_separator_is_the_one_that_is_set() -> None:
    ann = Verifier(parse_secrets(SECRET), TokenRules(separator=".")).verify(
        token(publish=["a.+"]), NOW
    )
    assert not isinstance(ann, Problem)
    assert ann.may(Verb.PUBLISH, "a.b/c")


@pytest.mark.parametrize("algorithm", PEMS)
def test_a_public_key_verifies_by_its_own_algorithm(algorithm: str) -> None:
    private, public = PEMS[algorithm]
    every = "\n".join(text for _, text in PEMS.values())
    for keys in (parse_public_keys(public), parse_public_keys(every)):
        ann = Verifier(keys, TokenRules()).verify(jwt.encode(CLAIMS, private, algorithm), NOW)
        assert not isinstance(ann, Problem)
        assert ann.subject == "ann"


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_each_of_several_secrets_is_accepted(secret: str) -> None:
    both = Verifier(parse_secrets(f"{SECRET},{OTHER}"), TokenRules())
    assert not isinstance(both.verify(jwt.encode(CLAIMS, secret, "HS256"), NOW), Problem)
    assert reason(jwt.encode(CLAIMS, "x" * 32, "HS256"), both) is Reason.SIGNATURE


# --- Confusion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "none\0", "hs256", "HS"])
@pytest.mark.parametrize("signature", ["", "x" * 43, "AAAA"])
def test_no_spelling_of_none_is_accepted(algorithm: str, signature: str) -> None:
    signed = forge({"alg": algorithm}, CLAIMS).rpartition(".")[0]
    assert reason(f"{signed}.{signature}") in (Reason.ALGORITHM, Reason.MALFORMED)
    assert reason(forge({"alg": algorithm}, CLAIMS)) is Reason.ALGORITHM


@pytest.mark.parametrize("algorithm", [None, True, 0, [], ["HS256"], {"alg": "HS256"}])
def test_an_algorithm_that_is_no_string_is_refused(algorithm: Any) -> None:
    assert reason(forge({"alg": algorithm}, CLAIMS)) is Reason.MALFORMED


def test_an_absent_algorithm_is_refused() -> None:
    assert reason(forge({"typ": "JWT"}, CLAIMS)) is Reason.MALFORMED


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "RS256", "RS384", "PS256", "ES256K"])
def test_another_algorithm_than_that_of_a_key_is_refused(algorithm: str) -> None:
    assert reason(forge({"alg": algorithm}, CLAIMS)) is Reason.ALGORITHM


@pytest.mark.parametrize("algorithm", PEMS)
def test_a_public_key_is_no_secret(algorithm: str) -> None:
    _, public = PEMS[algorithm]
    alone = Verifier(parse_public_keys(public), TokenRules())
    mixed = Verifier((*parse_secrets(SECRET), *parse_public_keys(public)), TokenRules())
    for secret in (public, public.strip(), public.replace("\n", "\r\n")):
        forged = forge({"alg": "HS256"}, CLAIMS, secret.encode())
        assert reason(forged, alone) is Reason.ALGORITHM
        assert reason(forged, mixed) is Reason.SIGNATURE
        assert reason(forge({"alg": algorithm}, CLAIMS, secret.encode()), mixed) is Reason.SIGNATURE


@pytest.mark.parametrize("parameter", ["crit", "jku", "x5u", "jwk", "x5c", "b64"])
@pytest.mark.parametrize("value", [None, [], ["exp"], "https://evil.example/keys", False, {}])
def test_a_header_that_changes_the_verification_is_refused(parameter: str, value: Any) -> None:
    header = {"alg": "HS256", parameter: value}
    assert reason(forge(header, CLAIMS)) is Reason.HEADER


def test_the_key_of_a_header_is_not_used() -> None:
    own = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)
    forged = jwt.encode(CLAIMS, RSA, "RS256", headers={"jwk": own})
    other = Verifier(parse_public_keys(pem(rsa.generate_private_key(65_537, 2_048))), TokenRules())
    assert reason(forged, other) is Reason.HEADER
    assert reason(jwt.encode(CLAIMS, RSA, "RS256"), other) is Reason.SIGNATURE


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "/dev/null", "' OR 1=1 --", "", "\0", "a" * 400, "file:///etc", "0"]
)
def test_a_kid_is_no_path_and_no_query(kid: str) -> None:
    assert reason(forge({"alg": "HS256", "kid": kid}, CLAIMS, b"")) is Reason.SIGNATURE
    assert not isinstance(HS256.verify(forge({"alg": "HS256", "kid": kid}, CLAIMS), NOW), Problem)


@pytest.mark.parametrize("kid", [1, True, [], {}])
def test_a_kid_that_is_no_string_is_refused(kid: Any) -> None:
    assert reason(forge({"alg": "HS256", "kid": kid}, CLAIMS)) is Reason.MALFORMED


def key_set(*keys: tuple[str | None, Any]) -> Callable[[], tuple[Key, ...]]:
    found = [parse_public_keys(pem(private))[0]._replace(kid=kid) for kid, private in keys]
    return lambda: tuple(found)


def test_a_kid_selects_from_a_key_set() -> None:
    verifier = Verifier((), TokenRules(), key_set(("a", RSA), ("b", EC), ("c", ED)))
    for kid, private, algorithm in (("a", RSA, "RS256"), ("b", EC, "ES256"), ("c", ED, "EdDSA")):
        ann = verifier.verify(jwt.encode(CLAIMS, private, algorithm, headers={"kid": kid}), NOW)
        assert not isinstance(ann, Problem)
    for kid in ("b", "A", "d", ""):
        forged = jwt.encode(CLAIMS, RSA, "RS256", headers={"kid": kid})
        assert reason(forged, verifier) is Reason.UNKNOWN_KEY
    assert reason(forge({"alg": "HS256", "kid": "a"}, CLAIMS), verifier) is Reason.ALGORITHM
    assert reason(forge({"alg": "none", "kid": "a"}, CLAIMS), verifier) is Reason.ALGORITHM


def test_a_kid_that_the_key_set_lacks_is_unknown_beside_other_keys_too() -> None:
    verifier = Verifier(
        (*parse_secrets(SECRET), *parse_public_keys(pem(RSA))), TokenRules(), key_set(("a", EC))
    )
    other = rsa.generate_private_key(65_537, 2_048)
    rotated = jwt.encode(CLAIMS, other, "RS256", headers={"kid": "new"})
    assert reason(rotated, verifier) is Reason.UNKNOWN_KEY
    own = jwt.encode(CLAIMS, RSA, "RS256", headers={"kid": "own"})
    assert not isinstance(verifier.verify(own, NOW), Problem)
    assert reason(forge({"alg": "HS256", "kid": "x"}, CLAIMS, b""), verifier) is Reason.SIGNATURE


def test_without_a_kid_a_key_set_must_leave_one_choice() -> None:
    signed = jwt.encode(CLAIMS, RSA, "RS256")
    other = rsa.generate_private_key(65_537, 2_048)
    one = Verifier((), TokenRules(), key_set(("a", RSA), ("b", EC)))
    two = Verifier((), TokenRules(), key_set(("a", RSA), ("b", other)))
    assert not isinstance(one.verify(signed, NOW), Problem)
    assert reason(signed, two) is Reason.UNKNOWN_KEY
    assert reason(signed, Verifier((), TokenRules(), key_set(("b", EC)))) is Reason.UNKNOWN_KEY


# --- Form -----------------------------------------------------------------------------------------

GOOD = token()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        GOOD + ".",
        GOOD + ".x",
        "." + GOOD,
        " " + GOOD,
        GOOD + "\n",
        GOOD + "=",
        GOOD.replace(".", "=.", 1),
        GOOD.replace(".", "\uff0e"),
        GOOD[:20] + "\ud800" + GOOD[20:],
        GOOD[:20] + "\0" + GOOD[20:],
        "Bearer " + GOOD,
        json.dumps({"protected": "", "payload": "", "signature": ""}),
        forge(b"", CLAIMS),
        forge(b"[]", CLAIMS),
        forge(b'"HS256"', CLAIMS),
        forge(b"\xff\xfe", CLAIMS),
        forge(b"[" * 3_000, CLAIMS),
        forge(b'{"alg":"none","alg":"HS256"}', CLAIMS),
        forge(b'{"alg":"none" , "\\u0061lg" :"HS256"}', CLAIMS),
        forge(b'{"x":{"y":1},"alg":"HS256","x":1}', CLAIMS),
        forge({"alg": "HS256", "x": {}}, CLAIMS),
        forge({"alg": "HS256", "x": []}, CLAIMS),
        forge({"alg": "HS256", "x": "x" * 500}, CLAIMS),
        forge({"alg": "HS256"}, b"null"),
        forge({"alg": "HS256"}, b"[]"),
        forge({"alg": "HS256"}, b'{"sub":"\xff"}'),
        forge({"alg": "HS256"}, b'{"sub":"\\ud800","exp":1000060}'),
        forge({"alg": "HS256"}, b'{"sub":"ann","exp":NaN}'),
        forge({"alg": "HS256"}, b'{"sub":"ann","exp":Infinity}'),
        forge({"alg": "HS256"}, b'{"sub":"ann","exp":1,"exp":1000060}'),
        forge({"alg": "HS256"}, b'{"sub":"bob","sub":"ann","exp":1000060}'),
        forge({"alg": "HS256"}, b'{"sub":"ann","exp":1000060,"info":{"a":1,"a":2}}'),
        forge({"alg": "HS256"}, b'{"sub":"ann","exp":1000060,"info":' + b"[" * 3_000),
    ],
)
def test_a_bad_jwt_or_a_duplicate_name_is_malformed(text: str) -> None:
    assert reason(text) is Reason.MALFORMED


@pytest.mark.parametrize("text", ['"', "\\", '":', '\\":"', "{", "[", ",", '","alg":"none'])
def test_a_header_may_have_any_text_in_a_string(text: str) -> None:
    made = forge({"alg": "HS256", text: text, "kid": text}, CLAIMS)
    assert isinstance(HS256.verify(made, NOW), Principal)


def test_a_header_may_have_512_bytes() -> None:
    padding = 512 - len(json.dumps({"alg": "HS256", "x": ""}))
    accepted = forge({"alg": "HS256", "x": "x" * padding}, CLAIMS)
    assert isinstance(HS256.verify(accepted, NOW), Principal)
    assert reason(forge({"alg": "HS256", "x": "x" * (padding + 1)}, CLAIMS)) is Reason.MALFORMED


def test_the_json_module_parses_no_token_without_a_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It calls a function for each object, which made a forged header cost a millisecond."""
    monkeypatch.setattr("hub.auth.tokens.json.loads", None)
    nested = b'{"alg":"HS256","x":[' + b",".join([b"{}"] * 100) + b"]}"
    assert reason(forge(nested, CLAIMS, b"")) is Reason.MALFORMED
    assert reason(forge({"alg": "HS256"}, CLAIMS, b"")) is Reason.SIGNATURE


def test_another_spelling_of_the_signature_is_malformed() -> None:
    # The last character of 43 holds 4 bits of the signature, and 2 that must be 0.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert reason(GOOD[:-1] + letters[letters.index(GOOD[-1]) ^ 1]) is Reason.MALFORMED


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_with_a_changed_part_is_refused(part: int) -> None:
    parts, others = GOOD.split("."), forge({"alg": "HS256", "x": 1}, {}, b"").split(".")
    parts[part] = others[part]
    assert reason(".".join(parts)) is Reason.SIGNATURE


def test_a_token_of_more_than_8_kb_is_refused_before_it_is_parsed() -> None:
    def fits(padding: int) -> str:
        return token(padding="x" * padding)

    longest = next(text for size in range(6_100, 0, -1) if len(text := fits(size)) <= 8_192)
    assert not isinstance(HS256.verify(longest, NOW), Problem)
    assert reason(longest + "a" * (8_193 - len(longest))) is Reason.TOO_LONG
    began = time.process_time()
    assert reason("a" * 10_000_000) is Reason.TOO_LONG
    assert reason(token(padding="x" * 10_000_000)) is Reason.TOO_LONG
    assert time.process_time() - began < 5


@pytest.mark.parametrize("algorithm", ["HS256", *PEMS])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 4_000])
@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_a_signature_of_any_size_is_refused(algorithm: str, size: int, filling: bytes) -> None:
    every = "".join(text for _, text in PEMS.values())
    verifier = Verifier((*parse_secrets(SECRET), *parse_public_keys(every)), TokenRules())
    signed = forge({"alg": algorithm}, CLAIMS).rpartition(".")[0]
    assert reason(f"{signed}.{b64(filling * size)}", verifier) is Reason.SIGNATURE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.text(max_size=3), it, max_size=3),
    max_leaves=8,
)
NAMES = ["alg", "kid", "typ", "exp", "nbf", "aud", "iss", "info", "sub", "subscribe", "publish"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_header_and_no_claims_raise(header: dict[str, Any], claims: dict[str, Any]) -> None:
    for made in (forge(header, CLAIMS), forge({"alg": "HS256"}, {**CLAIMS, **claims})):
        assert isinstance(AUDIENCE.verify(made, NOW), Principal | Problem)
        assert isinstance(HS256.verify(made, NOW), Principal | Problem)


@given(st.text(alphabet=st.sampled_from("abAZ09-_.= \n\ud800\u00e9"), max_size=30))
def test_no_text_raises(text: str) -> None:
    assert reason(text) in (Reason.MALFORMED, Reason.SIGNATURE)


# --- Claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": ["ann"]},
        {"sub": "x" * 256},
        {"sub": "\u00e9" * 128},
        {"exp": None},
        {"exp": True},
        {"exp": "1000060"},
        {"exp": [1_000_060]},
        {"exp": -1},
        {"exp": 10**12},
        {"exp": 10**30},
        {"exp": 1e300},
        {"nbf": None},
        {"nbf": False},
        {"nbf": "0"},
        {"nbf": 10**30},
        {"subscribe": None},
        {"subscribe": "chat/#"},
        {"subscribe": {"chat/#": True}},
        {"publish": [["chat/#"]]},
        {"publish": [None]},
        {"publish": [1]},
        {"manage": 1},
        {"manage": ["a#"]},
        {"subscribe": ["a/#/b"]},
        {"publish": ["a+"]},
        {"subscribe": ["a"] * 101},
        {"subscribe": ["a"] * 50, "publish": ["a"] * 51},
        {"info": "x" * 4_095},
    ],
)
def test_a_claim_that_is_not_valid_makes_the_token_invalid(claims: dict[str, Any]) -> None:
    assert reason(token(**claims)) is Reason.CLAIM


@pytest.mark.parametrize("exp", ["1e999", "1" + "0" * 400, "1" + "0" * 5_000])
def test_an_enormous_expiry_is_refused(exp: str) -> None:
    forged = forge({"alg": "HS256"}, f'{{"sub":"ann","exp":{exp}}}'.encode())
    assert reason(forged) in (Reason.CLAIM, Reason.MALFORMED)


def test_deeply_nested_info_is_refused() -> None:
    info = b"[" * 600 + b"]" * 600
    forged = forge({"alg": "HS256"}, b'{"sub":"ann","exp":1000060,"info":' + info + b"}")
    assert reason(forged) is Reason.CLAIM


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "x" * 255},
        {"info": "x" * 4_094},
        {"info": None},
        {"info": [1, {"a": None}]},
        {"subscribe": ["a"] * 50, "publish": ["a"] * 50},
        {"subscribe": []},
        {"subscribe": [""]},
        {"exp": NOW + 0.5},
        {"iat": "yesterday", "jti": 7, "aud": "any", "iss": "any"},
    ],
)
def test_a_claim_at_its_bounds_is_accepted(claims: dict[str, Any]) -> None:
    assert not isinstance(HS256.verify(token(**claims), NOW), Problem)


def test_a_bad_pattern_is_named() -> None:
    problem = HS256.verify(token(publish=["chat/#/x"]), NOW)
    assert problem == Problem(Reason.CLAIM, "publish: 'chat/#/x': '#' must be the whole last level")


def test_a_token_is_accepted_until_five_seconds_after_its_expiry() -> None:
    assert not isinstance(HS256.verify(token(exp=NOW), NOW + 4.9), Problem)
    assert reason(token(exp=NOW), now=NOW + 5) is Reason.EXPIRED
    assert reason(token(exp=0)) is Reason.EXPIRED


def test_there_is_no_leeway_before_nbf() -> None:
    assert reason(token(nbf=NOW + 0.1)) is Reason.NOT_YET
    assert not isinstance(HS256.verify(token(nbf=NOW), NOW), Problem)


def test_a_token_without_expiry_needs_a_setting() -> None:
    endless = forge({"alg": "HS256"}, {"sub": "ann"})
    assert reason(endless) is Reason.CLAIM
    ann = Verifier(parse_secrets(SECRET), TokenRules(require_exp=False)).verify(endless, NOW)
    assert not isinstance(ann, Problem)
    assert ann.expires_at is None


AUDIENCE = Verifier(parse_secrets(SECRET), TokenRules(audience="app", issuer="https://id.example"))


@pytest.mark.parametrize("audience", ["app", ["app"], ["other", "app"], [1, "app"]])
def test_an_audience_is_a_string_or_a_list(audience: Any) -> None:
    good = token(aud=audience, iss="https://id.example")
    assert not isinstance(AUDIENCE.verify(good, NOW), Problem)


@pytest.mark.parametrize(
    "audience", [None, "", "App", "application", [], ["ap"], [["app"]], {"app": 1}]
)
def test_another_audience_is_refused(audience: Any) -> None:
    assert reason(token(aud=audience, iss="https://id.example"), AUDIENCE) is Reason.AUDIENCE


@pytest.mark.parametrize("issuer", [None, "", "https://id.example/", ["https://id.example"]])
def test_another_issuer_is_refused(issuer: Any) -> None:
    assert reason(token(aud="app", iss=issuer), AUDIENCE) is Reason.ISSUER


def test_a_missing_audience_or_issuer_is_refused() -> None:
    assert reason(token(iss="https://id.example"), AUDIENCE) is Reason.AUDIENCE
    assert reason(token(aud="app"), AUDIENCE) is Reason.ISSUER


def test_a_problem_never_has_the_secret_or_an_unverified_claim() -> None:
    marked = forge({"alg": "HS256", "kid": "kid-mark"}, {"sub": "sub-mark"}, b"wrong")
    problem = HS256.verify(marked, NOW)
    assert isinstance(problem, Problem)
    for mark in (SECRET, "kid-mark", "sub-mark", marked):
        assert mark not in problem.text
        assert mark not in repr(HS256)
    assert SECRET not in repr(parse_secrets(SECRET))
