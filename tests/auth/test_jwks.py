"""The cache of a key set: when it fetches, and what it keeps."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hub.auth.api_keys import ApiKeys, parse_api_keys
from hub.auth.authenticator import Authenticator
from hub.auth.jwks import (
    FETCH_TIMEOUT,
    MAX_DOCUMENT_BYTES,
    MIN_INTERVAL,
    REFRESH,
    FetchError,
    KeySet,
    parse_key_set,
)
from hub.auth.tokens import Problem, Reason, TokenRules, Verifier
from hub.logs import events
from tests.support.logs import said

PRIVATE = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in "ab"}


def jwk(kid: str) -> dict[str, Any]:
    public = PRIVATE[kid].public_key()
    return {**jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig"}


def document(*kids: str) -> bytes:
    return json.dumps({"keys": [jwk(kid) for kid in kids]}).encode()


class Issuer:
    """Serves a document or fails, on a clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.fetches = 0
        self.answer: bytes | Exception = document("a")
        self.open = asyncio.Event()
        self.open.set()
        self.keys = KeySet(self.fetch, lambda: self.now)

    async def fetch(self) -> bytes:
        self.fetches += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def kids(self) -> list[str | None]:
        return [key.kid for key in self.keys.current()]


# --- Documents ------------------------------------------------------------------------------------


def test_keys_that_are_not_for_us_are_passed_over() -> None:
    others = [{"kty": "oct", "k": "AAAA", "kid": "x"}, "text", {**jwk("b"), "use": "enc"}, None]
    keys = parse_key_set(json.dumps({"keys": [*others, jwk("a")]}).encode())
    assert [key.kid for key in keys] == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"AAAA"}]}',
        json.dumps({"keys": [jwk("a")] * 101}).encode(),
        document("a") + b" " * MAX_DOCUMENT_BYTES,
    ],
)
def test_a_document_without_a_key_for_us_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_key_set(text)


# --- Fetches --------------------------------------------------------------------------------------


async def test_it_is_due_at_first_and_after_each_interval() -> None:
    issuer = Issuer()
    assert issuer.keys.due
    assert issuer.kids() == []
    await issuer.keys.refresh()
    assert issuer.kids() == ["a"]
    issuer.now += REFRESH - 0.1
    assert not issuer.keys.due
    issuer.now += 0.1
    assert issuer.keys.due
    issuer.answer = document("b")
    await issuer.keys.refresh()
    assert issuer.kids() == ["b"]


@pytest.mark.parametrize("failure", [FetchError("HTTP 503"), TimeoutError(), b"{}", b"\xff"])
async def test_the_last_good_keys_stay_in_an_outage(
    failure: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer()
    await issuer.keys.refresh()
    issuer.answer = failure
    issuer.now += REFRESH
    for _ in range(3):
        await issuer.keys.refresh()
    assert issuer.kids() == ["a"]
    (line,) = said(caplog, events.KEYS_NOT_FETCHED)
    assert line.endswith(" keys=1")
    assert not issuer.keys.due
    issuer.now += MIN_INTERVAL
    assert issuer.keys.due


async def test_a_fetch_without_an_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FETCH_TIMEOUT < MIN_INTERVAL
    monkeypatch.setattr("hub.auth.jwks.FETCH_TIMEOUT", 0.001)
    issuer = Issuer()
    issuer.open.clear()
    await issuer.keys.refresh()
    assert issuer.kids() == []


async def test_an_unknown_key_fetches_at_most_every_30_seconds() -> None:
    issuer = Issuer()
    await issuer.keys.refresh()
    assert not await issuer.keys.refresh_for_unknown()
    issuer.now += MIN_INTERVAL - 0.1
    assert not await issuer.keys.refresh_for_unknown()
    issuer.now += 0.1
    assert await issuer.keys.refresh_for_unknown()
    assert not await issuer.keys.refresh_for_unknown()
    assert issuer.fetches == 2


async def test_callers_at_the_same_time_share_a_fetch() -> None:
    issuer = Issuer()
    issuer.open.clear()
    callers = [asyncio.create_task(issuer.keys.refresh_for_unknown()) for _ in range(5)]
    await asyncio.sleep(0)
    assert not issuer.keys.due
    callers[0].cancel()
    issuer.open.set()
    assert await asyncio.gather(*callers[1:]) == [True] * 4
    assert issuer.fetches == 1
    assert issuer.kids() == ["a"]


# --- Credentials ----------------------------------------------------------------------------------


def authenticator(issuer: Issuer, refresh: Callable[[], Awaitable[bool]] | None) -> Authenticator:
    verifier = Verifier((), TokenRules(require_exp=False), issuer.keys.current)
    keys = ApiKeys(parse_api_keys("app:0123456789abcdef"))
    return Authenticator(keys, verifier, lambda: 1_000_000.0, refresh)


def signed(kid: str) -> str:
    return jwt.encode({"sub": "ann"}, PRIVATE[kid], "ES256", headers={"kid": kid})


async def test_a_rotated_key_is_fetched_when_a_token_names_it() -> None:
    issuer = Issuer()
    ways = authenticator(issuer, issuer.keys.refresh_for_unknown)
    first = await ways.verify_token(signed("a"))
    assert not isinstance(first, Problem)
    issuer.answer = document("a", "b")
    refused = await ways.verify_token(signed("b"))
    assert isinstance(refused, Problem)
    assert refused.reason is Reason.UNKNOWN_KEY
    issuer.now += MIN_INTERVAL
    second = await ways.verify_token(signed("b"))
    assert not isinstance(second, Problem)
    assert issuer.fetches == 2


async def test_a_known_key_fetches_nothing() -> None:
    issuer = Issuer()
    await issuer.keys.refresh()
    issuer.now += MIN_INTERVAL
    ways = authenticator(issuer, issuer.keys.refresh_for_unknown)
    for token in (signed("a"), signed("a")[:-2], "x", "x" * 9_000):
        await ways.verify_token(token)
    assert issuer.fetches == 1


async def test_a_bearer_is_an_api_key_or_a_token() -> None:
    issuer = Issuer()
    ways = authenticator(issuer, None)
    app = await ways.verify_bearer("0123456789abcdef")
    assert not isinstance(app, Problem)
    assert app.key_name == "app"
    assert isinstance(await ways.verify_bearer(signed("a")), Problem)
    await issuer.keys.refresh()
    ann = await ways.verify_bearer(signed("a"))
    assert not isinstance(ann, Problem)
    assert ann.subject == "ann"
    assert isinstance(await ways.verify_token("0123456789abcdef"), Problem)
