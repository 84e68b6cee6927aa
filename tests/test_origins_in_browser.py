"""The power of a page of another origin over a server, in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hub.origins import Origins, parse_hosts, parse_origins
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, evaluate, needs_chromium
from tests.support.server import Running, running

pytestmark = needs_chromium

# Sends a request and says how it ended: the status, "opaque", or the name of the error.
FETCH = """async ([url, options]) => {
    try {
        const response = await fetch(url, options);
        return response.type === "opaque" ? "opaque" : response.status;
    } catch (error) {
        return error.name;
    }
}"""
# Opens a WebSocket, creates a topic by a subscribe, and says whether that was acked.
SUBSCRIBE = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send('{"type":"subscribe","topic":"t","client_id":"page"}');
    socket.onmessage = ({ data }) => resolve(JSON.parse(data).type);
    socket.onerror = () => resolve("refused");
})"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def fetch(page: Page, url: str, **options: Any) -> Any:
    return evaluate(page, FETCH, [url, options])


def publish(page: Page, url: str) -> Any:
    """Send a publish from a page as a simple request, which needs no preflight."""
    return fetch(page, url + "/topics", method="POST", mode="no-cors", body='{"name":"theirs"}')


def test_a_page_of_another_origin_cannot_write_without_cors(
    backstage: Backstage, page: Page
) -> None:
    allowed = parse_origins("https://app.example.com")
    server: Running = backstage.enter(running(Settings(allowed_origins=allowed)))
    other: Running = backstage.enter(running(Settings()))
    page.goto(other.url + "/health")
    assert publish(page, server.url) == "opaque"  # sent: the page cannot see that it was refused
    assert fetch(page, server.url + "/topics", method="POST", body='{"name":"t"}') == "TypeError"
    assert fetch(page, server.url + "/topics/t", method="DELETE") == "TypeError"
    assert evaluate(page, SUBSCRIBE, server.ws) == "refused"
    assert server.topics() == {}
    assert publish(page, other.url) == 201  # its own server, as a proof that it could


@pytest.mark.parametrize("origins", ["*", "same"])
def test_another_host_name_of_the_server_is_refused(
    backstage: Backstage, page: Page, origins: str
) -> None:
    """DNS rebinding: the browser takes the server for the origin of the attacker's page."""
    settings = Settings(
        allowed_origins=parse_origins(origins), allowed_hosts=parse_hosts("app.test")
    )
    server: Running = backstage.enter(running(settings))
    rebound = f"http://evil.test:{server.port}"
    answer = page.goto(rebound + "/health")  # any page there is
    assert answer is not None
    assert answer.status == 200
    assert publish(page, rebound) == 421
    assert fetch(page, rebound + "/topics") == 421
    assert fetch(page, rebound + "/topics/t", method="DELETE") == 421
    assert evaluate(page, SUBSCRIBE, rebound.replace("http", "ws") + "/ws") == "refused"
    assert server.topics() == {}


def test_a_page_of_the_servers_origin_may_do_everything(backstage: Backstage, page: Page) -> None:
    settings = Settings(allowed_origins=Origins(same=True), allowed_hosts=parse_hosts("app.test"))
    server: Running = backstage.enter(running(settings))
    own = f"http://app.test:{server.port}"
    page.goto(own + "/health")
    assert publish(page, own) == 201
    assert evaluate(page, SUBSCRIBE, own.replace("http", "ws") + "/ws") == "ack"
    assert fetch(page, own + "/topics/theirs", method="DELETE") == 200
