"""The power of pages over a server with access on, with and without a token, in a real browser."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hub.origins import parse_hosts, parse_origins
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, needs_chromium
from tests.support.server import Running, running
from tests.support.tokens import FOREIGN, settings, sign

pytestmark = needs_chromium

# Sends a request with headers that need a preflight; returns the status, or the error's name.
FETCH = """async ([url, headers]) => {
    try {
        const body = '{"topic":"t","payload":1}';
        return (await fetch(url, { method: "POST", headers, body })).status;
    } catch (error) {
        return error.name;
    }
}"""
# Opens a WebSocket and subscribes; returns the type of the first answer, or how it was closed.
SOCKET = """([url, protocols]) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => socket.send('{"type":"subscribe","topic":"t","client_id":"page"}');
    socket.onmessage = ({ data }) => resolve(`${socket.protocol} ${JSON.parse(data).type}`);
    socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`);
})"""
# Opens a stream; returns the type of the first message, or "error".
STREAM = """(url) => new Promise((resolve) => {
    const source = new EventSource(url);
    const end = (outcome) => { source.close(); resolve(outcome); };
    source.onmessage = ({ data }) => end(JSON.parse(data).type);
    source.onerror = () => end("error");
})"""
TOKEN = sign()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def outcomes(page: Page, http: str, token: str) -> list[Any]:
    """Return what a page achieves with a token in each way that a browser has."""
    ws = http.replace("http", "ws") + "/ws"
    return [
        page.evaluate(FETCH, [http + "/publish", {"Authorization": f"Bearer {token}"}]),
        page.evaluate(SOCKET, [ws, ["bearer", token]]),
        page.evaluate(SOCKET, [f"{ws}?access_token={token}", []]),
        page.evaluate(STREAM, f"{http}/events?topic=t&access_token={token}"),
    ]


def page_of_another_origin(backstage: Backstage, page: Page) -> str:
    """Open a page of another server, and return its origin."""
    other: Running = backstage.enter(running(Settings()))
    page.goto(other.url + "/health")
    return other.url


def test_a_page_of_an_allowed_origin_needs_a_valid_token(backstage: Backstage, page: Page) -> None:
    origin = page_of_another_origin(backstage, page)
    allowed = replace(settings(), allowed_origins=parse_origins(origin))
    server: Running = backstage.enter(running(allowed))
    closed = "3000 unauthorized"
    assert outcomes(page, server.url, FOREIGN) == [401, closed, closed, "error"]
    assert page.evaluate(SOCKET, [server.ws, []]) == " error"
    assert page.evaluate(FETCH, [server.url + "/publish", {}]) == 401
    assert server.hub.subscriptions == 0
    assert outcomes(page, server.url, TOKEN)[1:] == ["bearer ack", " ack", "ack"]
    assert outcomes(page, server.url, TOKEN)[0] == 200


def test_a_page_of_another_origin_gets_nothing_with_a_token(
    backstage: Backstage, page: Page
) -> None:
    page_of_another_origin(backstage, page)
    allowed = replace(settings(), allowed_origins=parse_origins("https://app.example.com"))
    server: Running = backstage.enter(running(allowed))
    assert outcomes(page, server.url, TOKEN) == ["TypeError", "1006 ", "1006 ", "error"]
    assert server.topics() == {}


@pytest.mark.parametrize("origins", ["*", "same"])
def test_dns_rebinding_gets_nothing_with_a_token(
    backstage: Backstage, page: Page, origins: str
) -> None:
    named = replace(
        settings(), allowed_origins=parse_origins(origins), allowed_hosts=parse_hosts("app.test")
    )
    server: Running = backstage.enter(running(named))
    rebound = f"http://evil.test:{server.port}"
    page.goto(rebound + "/health")
    assert outcomes(page, rebound, TOKEN) == [421, "1006 ", "1006 ", "error"]
    assert server.topics() == {}
    page.goto(f"http://app.test:{server.port}/health")
    assert outcomes(page, f"http://app.test:{server.port}", TOKEN)[1] == "bearer ack"


def test_a_browser_sends_no_credential_by_itself(backstage: Backstage, page: Page) -> None:
    """There are no cookies: a page cannot use the rights of another page of the same browser."""
    server: Running = backstage.enter(running(settings()))
    page.goto(server.url + "/health")
    assert outcomes(page, server.url, TOKEN)[1] == "bearer ack"
    assert page.context.cookies() == []
    assert page.evaluate(SOCKET, [server.ws, []]) == " error"
    assert page.evaluate(FETCH, [server.url + "/publish", {}]) == 401
