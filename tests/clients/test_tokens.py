"""Both clients with tokens and a real server: expiry, refusals, rights and bans."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from broadcast_client import Client, RefusedError, connect, connection
from playwright.sync_api import Page

from hub.protocol import commands
from hub.settings import Settings, read_settings
from tests.support.backstage import Backstage
from tests.support.browser import CHROMIUM, chromium
from tests.support.browser import PATIENCE as PAGE_PATIENCE
from tests.support.server import Running, running

pytestmark = pytest.mark.skipif(
    not hasattr(commands, "Auth"), reason="this server does not know tokens yet"
)

PATIENCE = 10  # seconds
SECRET = "a secret of the tests with over 32 bytes"
KEY = "the-key-of-a-back-end"
SHORT = 20  # seconds: so soon the end of a token is announced at once
END = SHORT + 10  # seconds after which such a token has ended; a silent client is not cut yet
EVERYTHING = {"subscribe": ["#"], "publish": ["#"]}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the Python client's pauses very short."""
    monkeypatch.setattr(connection, "FIRST", 0.01)
    monkeypatch.setattr(connection, "LONGEST", 0.02)
    monkeypatch.setattr(connection, "GOODBYE", 0.05)


def settings() -> Settings:
    return read_settings(
        {
            "JWT_SECRET": SECRET,
            "API_KEYS": f"app:{KEY}",
            "HISTORY_SIZE": "100",
            "ALLOWED_ORIGINS": "*",
        }
    )


def sign(life: float = 3_600, *, secret: str = SECRET, **claims: Any) -> str:
    """Return a token that expires in `life` seconds, with every right if no claims are given."""
    content = {"sub": "ann", "exp": int(time.time() + life), **(claims or EVERYTHING)}
    parts = [{"alg": "HS256", "typ": "JWT"}, content]
    text = b".".join(encode(json.dumps(part).encode()) for part in parts)
    mac = hmac.digest(secret.encode(), text, hashlib.sha256)
    return b".".join((text, encode(mac))).decode()


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


FOREIGN = sign(secret=SECRET[::-1])  # signed with another secret


class Tokens:
    """A token function with given tokens; a missing one is an error of the function."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens)
        self.asked = asyncio.Event()  # set by each call

    async def __call__(self) -> str:
        self.asked.set()
        return self.left.pop(0)


async def announce(server: Running, tokens: Tokens) -> None:
    """Let the server announce the end of the token, until the client has asked for another."""
    tokens.asked.clear()
    server.visit_all(time.monotonic())
    async with asyncio.timeout(PATIENCE):
        await tokens.asked.wait()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Running, Client]]:
    """Yield a server and a back end that publishes."""
    async with (
        asyncio.timeout(3 * PATIENCE),
        running(settings()) as server,
        connect(server.ws, token=KEY) as back_end,
    ):
        yield server, back_end


async def disconnect(server: Running, body: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(f"{server.url}/disconnect", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


def numbers(items: list[Any]) -> list[Any]:
    """Return the payloads of events; other items as they are."""
    return [getattr(item, "payload", item) for item in items]


# --- Python ---------------------------------------------------------------------------------------


async def test_python_a_token_is_replaced_without_losing_an_event() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT), sign())
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            before = set(server.hub.clients)
            await back_end.publish("news", 0)
            await announce(server, tokens)
            await back_end.publish("news", 1)
            await client.publish("news", 2)  # it is answered after the auth
            server.visit_all(time.monotonic() + END)
            await client.publish("news", 3)
            assert numbers([await anext(news) for _ in range(4)]) == [0, 1, 2, 3]
            assert set(server.hub.clients) == before


async def test_python_an_expired_token_is_replaced_by_a_reconnect_that_recovers() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT))
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            await announce(server, tokens)  # the function has no other token
            server.visit_all(time.monotonic() + END)
            await back_end.publish("news", 0)
            tokens.left.append(sign())
            await client.publish("news", 1)
            assert numbers([await anext(news) for _ in range(2)]) == [0, 1]


async def test_python_an_invalid_string_ends_the_client() -> None:
    async with serving() as (server, _), connect(server.ws, token=FOREIGN) as client:
        with pytest.raises(RefusedError, match="REFUSED: the token was refused"):
            await client.ended()


async def test_python_missing_rights_reject_commands() -> None:
    async with serving() as (server, back_end):
        async with connect(server.ws) as nobody:
            for waiting in (nobody.subscribe("news").ready(), nobody.publish("news", 1)):
                with pytest.raises(RefusedError, match=r"^UNAUTHORIZED"):
                    await waiting
        async with connect(server.ws, token=sign(subscribe=["news"])) as reader:
            await reader.subscribe("news").ready()
            for waiting in (reader.subscribe("other").ready(), reader.publish("news", 1)):
                with pytest.raises(RefusedError, match=r"^FORBIDDEN"):
                    await waiting
            await back_end.publish("news", 1)


async def test_python_narrower_rights_end_a_subscription() -> None:
    async with serving() as (server, back_end):
        tokens = Tokens(sign(SHORT), sign(subscribe=["news"], publish=["news"]))
        async with connect(server.ws, token=tokens) as client:
            news, other = client.subscribe("news"), client.subscribe("other")
            await news.ready()
            await other.ready()
            await back_end.publish("other", 0)
            await announce(server, tokens)
            await client.publish("news", 1)
            assert numbers([await anext(other)]) == [0]
            with pytest.raises(RefusedError, match=r"^FORBIDDEN"):
                await anext(other)
            assert numbers([await anext(news)]) == [1]


async def test_python_a_disconnected_subject_comes_back_and_a_banned_one_ends() -> None:
    async with serving() as (server, _):
        tokens = Tokens(sign(), sign(), sign())
        async with connect(server.ws, token=tokens) as client:
            news = client.subscribe("news")
            await news.ready()
            tokens.asked.clear()
            await disconnect(server, {"sub": "ann"})
            await tokens.asked.wait()
            await client.publish("news", 1)
            assert numbers([await anext(news)]) == [1]
            await disconnect(server, {"sub": "ann", "for": 60})
            with pytest.raises(RefusedError, match=r"REFUSED: .*3003"):
                await client.ended()
        async with connect(server.ws, token=sign()) as client:
            with pytest.raises(RefusedError, match="REFUSED: HTTP status 403"):
                await client.ended()


# --- JavaScript -----------------------------------------------------------------------------------

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PAGE_PATIENCE)
        yield page


class Scene:
    """A server, and the client in a page."""

    def __init__(self, backstage: Backstage, page: Page, *tokens: str) -> None:
        self.backstage = backstage
        self.server: Running = backstage.enter(running(settings()))
        self.page = page
        page.goto(f"{self.server.url}/health")
        page.evaluate(
            """async ([server, url, tokens]) => {
                Math.random = () => 0.02;  // short pauses
                window.tokens = tokens;
                window.asked = 0;
                const token = async () => {
                    asked += 1;
                    if (!tokens.length) throw new Error("none");
                    return tokens.shift();
                };
                window.states = [];
                window.items = [];
                const onState = (state, { why, error }) =>
                    states.push(error?.message ?? why ?? state);
                window.connect = (await import(`${server}/client.js`)).connect;
                window.begin = (token) => connect(url, { token, onState });
                window.client = begin(token);
                const onRefused = ({ code }) => items.push(code);
                for (const topic of ["news", "other"]) {
                    const keep = (item) => items.push(item.payload ?? item.kind);
                    await client.subscribe(topic, keep, { onRefused }).ready;
                }
            }""",
            [self.server.url, self.server.ws, list(tokens)],
        )

    def js(self, script: str) -> Any:
        return self.page.evaluate(script)

    def until(self, condition: str) -> None:
        self.page.wait_for_function(condition, polling=20)

    def visit(self, later: float) -> None:
        """Let the server visit its clients, as if `later` seconds had passed."""

        async def visit() -> None:
            self.server.visit_all(time.monotonic() + later)

        self.backstage.run(visit())

    def announce(self) -> None:
        """Let the server announce the end of the token, until the client has asked for another."""
        self.visit(0)
        self.until("asked === 2")


@pytest.fixture
def backstage() -> Iterator[Backstage]:
    with Backstage() as running_loop:
        yield running_loop


@in_browser
def test_javascript_a_token_is_replaced_without_losing_an_event(
    backstage: Backstage, tab: Page
) -> None:
    it = Scene(backstage, tab, sign(SHORT), sign())
    it.js("client.publish('news', 1)")
    it.announce()
    it.js("client.publish('news', 2)")
    it.visit(END)
    it.js("client.publish('news', 3)")
    it.until("items.length === 3")
    assert it.js("items") == [1, 2, 3]
    assert it.js("states") == ["connecting", "open"]


@in_browser
def test_javascript_an_expired_token_is_replaced_by_a_reconnect(
    backstage: Backstage, tab: Page
) -> None:
    it = Scene(backstage, tab, sign(SHORT))
    it.announce()
    it.visit(END)
    it.until("states.some((state) => state.includes('(3000 token_expired)'))")
    it.page.evaluate("(token) => { tokens.push(token); }", sign())
    it.js("client.publish('news', 1)")
    it.until("items.length === 1")
    assert it.js("items") == [1]


@in_browser
def test_javascript_an_invalid_string_ends_the_client(backstage: Backstage, tab: Page) -> None:
    it = Scene(backstage, tab, sign())
    it.js("client.close(); states.length = 0")
    it.page.evaluate("(token) => { begin(token); }", FOREIGN)
    it.until("states.at(-1).startsWith('REFUSED: the token was refused')")


@in_browser
def test_javascript_narrower_rights_end_a_subscription_and_reject_commands(
    backstage: Backstage, tab: Page
) -> None:
    it = Scene(backstage, tab, sign(SHORT), sign(subscribe=["news"], publish=["news"]))
    it.js("client.publish('other', 1)")
    it.announce()
    it.js("client.publish('news', 2)")
    it.until("items.length === 3")
    assert it.js("items") == [1, "FORBIDDEN", 2]
    code = "(error) => error.code"
    assert it.js(f"client.publish('other', 3).catch({code})") == "FORBIDDEN"
    assert it.js(f"client.subscribe('other').ready.catch({code})") == "FORBIDDEN"


@in_browser
def test_javascript_a_disconnected_subject_comes_back_and_a_banned_one_ends(
    backstage: Backstage, tab: Page
) -> None:
    it = Scene(backstage, tab, sign(), sign())
    backstage.run(disconnect(it.server, {"sub": "ann"}))
    it.until("states.at(-1) === 'open' && asked === 2")
    it.js("client.publish('news', 1)")
    it.until("items.length === 1")
    backstage.run(disconnect(it.server, {"sub": "ann", "for": 60}))
    it.until("states.at(-1).includes('(3003 ')")
