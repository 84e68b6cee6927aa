"""Forged, foreign and repeated credentials, on every way into a running server."""

import hmac
import json
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from hub.settings import read_settings
from tests.support.raw import RawClient, raw_client
from tests.support.server import Running, running
from tests.support.tokens import KEY, SECRET, encode, sign
from tests.support.ways import (
    ACCEPTED,
    REFUSED,
    WAYS,
    Headers,
    bearer,
    get,
    present,
    status,
    subscribed,
    upgrade,
)

RSA = rsa.generate_private_key(65_537, 2_048)
PUBLIC = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
OTHER = rsa.generate_private_key(65_537, 2_048)
CLAIMS = {"sub": "ann", "exp": int(time.time()) + 3_600, "subscribe": ["#"]}
HS, RS = {"alg": "HS256"}, {"alg": "RS256"}
GOOD = sign().encode()


@pytest_asyncio.fixture
async def closed() -> AsyncIterator[Running]:
    """A server on which nobody may do anything without a token or key."""
    environ = {"JWT_SECRET": SECRET, "JWT_PUBLIC_KEY": PUBLIC.decode(), "API_KEYS": f"app:{KEY}"}
    async with running(read_settings(environ)) as server:
        yield server


def forge(header: Any, claims: Any = CLAIMS, secret: bytes = SECRET.encode()) -> bytes:
    """Return a token with any header and claims, signed by HMAC."""
    text = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return text + b"." + encode(hmac.digest(secret, text, sha256))


def forge_rsa(header: Any, private: rsa.RSAPrivateKey = RSA) -> bytes:
    """Return a token with any header, signed by RSA."""
    text = b".".join(encode(json.dumps(part).encode()) for part in (header, CLAIMS))
    return text + b"." + encode(private.sign(text, padding.PKCS1v15(), hashes.SHA256()))


def jwk_of(private: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    modulus = encode(numbers.n.to_bytes(256, "big")).decode()
    return {"kty": "RSA", "n": modulus, "e": "AQAB"}


def unsigned(header: Any, signature: bytes = b"") -> bytes:
    return forge(header).rpartition(b".")[0] + b"." + signature


FORGED = {
    "another secret": sign(secret=SECRET[::-1]).encode(),
    "no signature": unsigned(HS),
    "none": unsigned({"alg": "none"}),
    "None": unsigned({"alg": "None"}),
    "none with a signature": forge({"alg": "none"}),
    "an empty algorithm": forge({"alg": ""}),
    "no algorithm": forge({"typ": "JWT"}),
    "HS256 with the public key": forge(HS, secret=PUBLIC),
    "HS256 with the public key, stripped": forge(HS, secret=PUBLIC.strip()),
    "HS256 with an empty secret": forge(HS, secret=b""),
    "HS512 with the secret": forge({"alg": "HS512"}),
    "RS256 with the secret": forge(RS),
    "RS512": forge_rsa({"alg": "RS512"}),
    "PS256": forge_rsa({"alg": "PS256"}),
    "RS256 with another key": forge_rsa(RS, OTHER),
    "its own jwk": forge_rsa({**RS, "jwk": jwk_of(OTHER)}, OTHER),
    "a jku": forge_rsa({**RS, "jku": "https://evil.example/keys"}, OTHER),
    "a jku with a right signature": forge({**HS, "jku": "https://evil.example/keys"}),
    "an x5u": forge_rsa({**RS, "x5u": "https://evil.example/cert"}, OTHER),
    "an x5c": forge_rsa({**RS, "x5c": ["MIIB"]}, OTHER),
    "critical extensions": forge({**HS, "crit": ["exp"]}),
    "b64": forge({**HS, "b64": False}),
    "a path as kid, signed with an empty file": forge({**HS, "kid": "/dev/null"}, secret=b""),
    "a query as kid": forge({**HS, "kid": "' UNION SELECT 'a"}, secret=b"a"),
    "a kid that is a list": forge({**HS, "kid": ["a"]}),
    "expired": sign(-6).encode(),
    "no expiry": forge(HS, {"sub": "ann", "subscribe": ["#"]}),
    "an expiry that is text": forge(HS, {**CLAIMS, "exp": str(CLAIMS["exp"])}),
    "an endless expiry": forge(HS, {**CLAIMS, "exp": 1e300}),
    "not valid yet": forge(HS, {**CLAIMS, "nbf": int(time.time()) + 3_600}),
    "no subject": forge(HS, {**CLAIMS, "sub": ""}),
    "rights that are text": forge(HS, {**CLAIMS, "subscribe": "#"}),
    "a misplaced wildcard": forge(HS, {**CLAIMS, "subscribe": ["a#"]}),
    "too many patterns": forge(HS, {**CLAIMS, "subscribe": ["a"] * 101}),
    "two tokens": GOOD + b"." + GOOD,
    "no token": b"x",
    "dots": b"..",
    "padding": GOOD + b"=",
    "an API key": KEY.encode(),
    "7 KB": b"x" * 7_000,
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_forged_token_is_refused(closed: Running, way: str) -> None:
    is_header = way.endswith("header")
    outcomes = {
        name: await present(closed.port, way, token)
        for name, token in FORGED.items()
        if not (name == "an API key" and is_header)
    }
    assert outcomes == dict.fromkeys(outcomes, REFUSED[way])
    assert closed.topics() == {}
    for token in (GOOD, forge_rsa(RS), forge_rsa({**RS, "kid": "any"})):
        assert await present(closed.port, way, token) == ACCEPTED


@pytest.mark.parametrize("way", [way for way in WAYS if way != "auth message"])
async def test_bytes_that_are_not_utf8_are_refused(closed: Running, way: str) -> None:
    for token in (b"\xff\xfe", GOOD + b"\xff", b"\xed\xa0\x80"):
        assert await present(closed.port, way, token) in (REFUSED[way], "400")
    if way.endswith("query"):
        for token in (b"%FF", GOOD + b"%FF", b"%ED%A0%80"):
            assert await present(closed.port, way, token) == "400"
        assert await present(closed.port, way, GOOD + b"%00") == REFUSED[way]
    assert await present(closed.port, way, GOOD) == ACCEPTED


@pytest.mark.parametrize("way", [way for way in WAYS if way != "auth message"])
async def test_a_token_of_10_mb_is_refused_before_it_has_arrived(closed: Running, way: str) -> None:
    """aiohttp refuses a line of more than 8,190 bytes; the rest may be sent to a closed socket."""
    try:
        outcome = await present(closed.port, way, b"x" * 10_000_000)
    except ConnectionError:
        outcome = "400"
    assert outcome in ("400", "")
    assert await present(closed.port, way, GOOD) == ACCEPTED


async def test_a_long_token_in_a_message_is_refused_or_closes(closed: Running) -> None:
    assert await present(closed.port, "auth message", b"x" * 60_000) == "UNAUTHORIZED"
    assert await present(closed.port, "auth message", b"x" * 10_000_000) == "1009 too_big"


@pytest.mark.parametrize("token", [None, 7, [], {}, True, ""])
async def test_a_token_of_another_type_is_an_invalid_message(closed: Running, token: Any) -> None:
    async with raw_client(closed.port) as client:
        await client.say({"type": "auth", "token": token})
        assert (await client.hear())["error"]["code"] in ("INVALID_MESSAGE", "UNAUTHORIZED")
        assert await subscribed(client) == "UNAUTHORIZED"


async def test_an_api_key_is_accepted_in_headers_alone(closed: Running) -> None:
    key = KEY.encode()
    assert await present(closed.port, "REST header", key) == ACCEPTED
    assert await present(closed.port, "WebSocket header", key) == ACCEPTED
    for name in (b"X-API-Key", b"x-api-key"):
        assert await status(closed.port, get(b"/topics/t/history", [(name, key)])) == ACCEPTED
    for wrong in (key[:-1], key + b"x", b"", b"app:" + key, GOOD, b"\xff\xfe"):
        headers = [(b"X-API-Key", wrong)]
        assert await status(closed.port, get(b"/topics/t/history", headers)) == "401"
        assert await status(closed.port, upgrade(headers=headers)) == "401"
    for name in (b"access_token", b"api_key", b"X-API-Key", b"token", b"key"):
        target = b"/topics/t/history?" + name + b"=" + key
        assert await status(closed.port, get(target)) == "401"
    assert await present(closed.port, "auth message", key) == "UNAUTHORIZED"


@pytest.mark.parametrize("path", [b"/stats", b"/topics/t/history", b"/", b"/topics"])
async def test_a_token_in_the_url_of_another_path_is_not_looked_at(
    closed: Running, path: bytes
) -> None:
    plain = await status(closed.port, get(path))
    for token in (GOOD, b"x"):
        assert await status(closed.port, get(path + b"?access_token=" + token)) in (plain, "400")


OFFER = b"Sec-WebSocket-Protocol"
TWO: dict[str, tuple[bytes, Headers]] = {
    "two Authorization headers": (b"/ws", [*bearer(GOOD), *bearer(GOOD)]),
    "two API keys": (b"/ws", [(b"X-API-Key", KEY.encode())] * 2),
    "a token and an API key": (b"/ws", [*bearer(GOOD), (b"X-API-Key", KEY.encode())]),
    "a header and the query": (b"/ws?access_token=" + GOOD, bearer(GOOD)),
    "a header and a subprotocol": (b"/ws", [*bearer(GOOD), (OFFER, b"bearer, " + GOOD)]),
    "the query and a subprotocol": (
        b"/ws?access_token=" + GOOD,
        [(OFFER, b"bearer, " + GOOD)],
    ),
    "the query twice": (b"/ws?access_token=" + GOOD + b"&access_token=" + GOOD, ()),
    "an encoded name in the query": (b"/ws?access%5Ftoken=" + GOOD, bearer(GOOD)),
    "two subprotocols": (b"/ws", [(OFFER, b"bearer, " + GOOD + b", bearer, " + GOOD)]),
    "two subprotocol headers": (b"/ws", [(OFFER, b"bearer, " + GOOD)] * 2),
    "an invalid one first": (b"/ws?access_token=x", bearer(GOOD)),
    "an invalid one last": (b"/ws?access_token=" + GOOD, bearer(b"x")),
    "an empty one": (b"/ws?access_token=", bearer(GOOD)),
}


@pytest.mark.parametrize("case", TWO)
async def test_two_credentials_at_once_are_a_bad_request(closed: Running, case: str) -> None:
    target, headers = TWO[case]
    assert await status(closed.port, upgrade(target, headers)) == "400"
    assert not closed.hub.clients


@pytest.mark.parametrize(
    "value",
    [b"Basic YTpi", b"bearer", b"Bearer", b"Token " + GOOD, GOOD, b"Bearer\t" + GOOD, b""],
)
async def test_what_is_no_bearer_gives_no_right(closed: Running, value: bytes) -> None:
    headers = [(b"Authorization", value)]
    assert await status(closed.port, get(b"/topics/t/history", headers)) == "401"


async def test_the_scheme_is_not_case_sensitive(closed: Running) -> None:
    for scheme in (b"bearer", b"BEARER"):
        headers = [(b"Authorization", scheme + b" " + GOOD)]
        assert await status(closed.port, get(b"/topics/t/history", headers)) == ACCEPTED


async def test_an_encoded_name_of_the_token_field_counts(closed: Running) -> None:
    for name in (b"access%5Ftoken", b"%61ccess_token"):
        for token, expected in ((GOOD, ACCEPTED), (b"x", "3000 unauthorized")):
            target = b"/ws?client_id=raw&" + name + b"=" + token
            assert await status(closed.port, upgrade(target)) == expected


async def test_an_answer_to_a_token_in_the_url_is_not_stored(closed: Running) -> None:
    token = b"access_token=" + GOOD
    for request in (
        upgrade(b"/ws?" + token),
        upgrade(b"/ws?access_token=x"),
        upgrade(b"/ws?" + token, bearer(GOOD)),  # 400
        upgrade(b"/ws?access%5Ftoken=" + GOOD),
        get(b"/ws?" + token),  # 426
        get(b"/events?topic=t&" + token),
        get(b"/events?" + token),  # 400
        get(b"/events?topic=t&access_token=x"),  # 401
    ):
        client = await RawClient.dial(closed.port)
        await client.send(request)
        head = (await client.read_head()).decode().lower()
        client.close()
        assert "cache-control: no-store" in head, head


async def test_three_invalid_tokens_in_a_row_close_the_connection(closed: Running) -> None:
    wrong = {"type": "auth", "token": "x"}
    good = {"type": "auth", "token": GOOD.decode()}
    async with raw_client(closed.port) as client:
        for message in (wrong, wrong, good, wrong, wrong, good, wrong, wrong, wrong, good):
            await client.say(message)
        heard = await client.rest_until_close()
    kinds = [it["type"] for it in heard[:-1]]
    assert kinds == ["error"] * 2 + ["ack"] + ["error"] * 2 + ["ack"] + ["error"] * 3
    assert heard[-1] == ("close", 3000, "unauthorized")


async def test_a_token_of_another_subject_does_not_take_over_a_connection(closed: Running) -> None:
    async with raw_client(closed.port) as client:
        await client.say({"type": "auth", "token": sign(sub="ann", subscribe=["a"])})
        assert (await client.hear())["sub"] == "ann"
        await client.subscribe("a")
        await client.say({"type": "auth", "token": sign(sub="bob", subscribe=["t"])})
        assert (await client.hear())["error"]["code"] == "FORBIDDEN"
        assert await subscribed(client) == "FORBIDDEN"
        assert closed.topics() == {"a": 1}
