"""The JavaScript client with tokens and a real server, in a browser."""

import time
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.backstage import Backstage
from tests.support.browser import evaluate, needs_chromium
from tests.support.server import Running, running
from tests.support.tokens import (
    END,
    FOREIGN,
    SHORT,
    disconnect,
    settings,
    sign,
)

pytestmark = needs_chromium


@pytest.fixture(params=["websocket", "sse"])
def via(request: pytest.FixtureRequest) -> str:
    """Return how the client connects."""
    return str(request.param)


class Scene:
    """A server, and the client in a page."""

    def __init__(self, backstage: Backstage, page: Page, transport: str, *tokens: str) -> None:
        self.backstage = backstage
        self.server: Running = backstage.enter(running(settings()))
        self.page = page
        page.goto(f"{self.server.url}/health")
        evaluate(
            page,
            """async ([server, url, transport, tokens]) => {
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
                window.begin = (token) => connect(url, { token, onState, transports: [transport] });
                window.client = begin(token);
                const onRefused = ({ code }) => items.push(code);
                for (const topic of ["news", "other"]) {
                    const keep = (item) => items.push(item.payload ?? item.kind);
                    await client.subscribe(topic, keep, { onRefused }).ready();
                }
            }""",
            [self.server.url, self.server.ws, transport, list(tokens)],
        )

    def js(self, script: str, argument: Any = None) -> Any:
        return evaluate(self.page, script, argument)

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
        self.until("asked >= 2")


def test_a_token_is_replaced_without_losing_an_event(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, via, sign(SHORT), sign())
    it.js("client.publish('news', 1)")
    it.announce()
    it.js("client.publish('news', 2)")
    it.visit(END)
    it.js("client.publish('news', 3)")
    it.until("items.length === 3")
    assert it.js("items") == [1, 2, 3]
    assert it.js("states") == ["connecting", "open"]


def test_an_expired_token_is_replaced_by_a_reconnect(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, via, sign(SHORT))
    it.announce()
    it.visit(END)
    it.until("states.some((state) => state.includes('(3000 token_expired)'))")
    it.js("(token) => { tokens.push(token); }", sign())
    it.js("client.publish('news', 1)")
    it.until("items.length === 1")
    assert it.js("items") == [1]


def test_an_invalid_string_ends_the_client(backstage: Backstage, page: Page, via: str) -> None:
    it = Scene(backstage, page, via, sign())
    it.js("client.close(); states.length = 0")
    it.js("(token) => { begin(token); }", FOREIGN)
    it.until("states.at(-1).startsWith('REFUSED: the token was refused')")


def test_narrower_rights_end_a_subscription_and_reject_commands(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, via, sign(SHORT), sign(subscribe=["news"], publish=["news"]))
    it.js("client.publish('other', 1)")
    it.announce()
    it.js("client.publish('news', 2)")
    it.until("items.length === 3")
    assert it.js("items") == [1, "FORBIDDEN", 2]
    code = "(error) => error.code"
    assert it.js(f"client.publish('other', 3).catch({code})") == "FORBIDDEN"
    assert it.js(f"client.subscribe('other').ready().catch({code})") == "FORBIDDEN"


def test_a_disconnected_subject_comes_back_and_a_banned_one_ends(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, via, sign(), sign())
    backstage.run(disconnect(it.server, {"sub": "ann"}))
    it.until("states.at(-1) === 'open' && asked === 2")
    it.js("client.publish('news', 1)")
    it.until("items.length === 1")
    backstage.run(disconnect(it.server, {"sub": "ann", "for": 60}))
    it.until("states.at(-1).includes('(3003 ')")
