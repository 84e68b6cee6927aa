"""The view "Nodes" of the console: the servers, their load, and those that do not answer."""

import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from hub.version import VERSION
from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    serving,
    visit,
)
from tests.support.npm import needs_npm
from tests.support.redis import RedisServer, redis_server
from tests.support.tokens import KEY, SECRET, sign

pytestmark = needs_chromium
UNKNOWN = "\u2013"
VIEW = "?view=nodes"


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Server, Server, RedisServer]]:
    """Two servers on one Redis."""
    with redis_server() as redis:
        address = f"127.0.0.1:{redis.port}"
        with serving(REDIS_ADDR=address) as one, serving(REDIS_ADDR=address) as other:
            yield one, other, redis


def lines(page: Page) -> Locator:
    return page.get_by_role("table", name="Servers").locator("tbody tr")


def figure(page: Page, name: str) -> Locator:
    return panel(page, "Nodes").locator("dl > div").filter(has_text=name).locator("dd")


def test_a_single_server_is_shown(page: Page, server: Server) -> None:
    visit(page, server, VIEW)
    expect(lines(page)).to_have_count(1)
    cells = lines(page).get_by_role("cell")
    expect(cells.nth(0)).to_have_text(re.compile(r"^[0-9a-f]{16}\s*$"))
    expect(cells.nth(1)).to_have_text(VERSION)
    expect(cells.nth(2)).to_have_text(re.compile(r"^\d+ (s|min)$"))
    expect(cells.nth(3)).to_have_text("1")  # this page
    expect(cells.nth(6)).to_have_text(re.compile(r"^[\d,]+ ms$"))
    expect(cells.nth(7)).to_have_text(UNKNOWN)
    expect(panel(page, "Nodes")).to_contain_text("One server, which keeps all topics in its memory")
    expect(panel(page, "Nodes")).to_contain_text("connections: ok")
    expect(figure(page, "clients")).to_have_text("1")


def test_nodes_are_counted_and_missing_ones_are_named(
    page: Page, cluster: tuple[Server, Server, RedisServer]
) -> None:
    one, other, _ = cluster
    visit(page, one, VIEW)
    expect(lines(page)).to_have_count(2)
    expect(figure(page, "servers")).to_have_text("2")
    expect(figure(page, "missing")).to_have_text("0")
    for place in range(2):
        expect(lines(page).nth(place).get_by_role("cell").nth(7)).to_have_text(
            re.compile(r"^\d+ ms$")
        )
    expect(panel(page, "Nodes")).to_contain_text("redis: ok")

    other.process.send_signal(signal.SIGSTOP)
    try:
        expect(lines(page).filter(has_text="no answer")).to_have_count(1)
        expect(figure(page, "missing")).to_have_text("1")
        expect(panel(page, "Nodes")).to_contain_text("1 server did not answer within 1.5 s.")
    finally:
        other.process.send_signal(signal.SIGCONT)
    expect(lines(page).filter(has_text="no answer")).to_have_count(0)
    expect(figure(page, "servers")).to_have_text("2")


def test_a_row_leads_to_the_connections_of_its_server(
    page: Page, browser: Browser, cluster: tuple[Server, Server, RedisServer]
) -> None:
    one, other, _ = cluster
    second = browser.new_page()
    visit(second, other)
    visit(page, one, VIEW)
    expect(lines(page)).to_have_count(2)
    last = lines(page).last
    node = last.locator("code").inner_text()
    last.get_by_role("link", name=f"Connections of {node}").click()
    first = page.get_by_role("table", name="Connections").locator("tbody tr").first
    expect(first.locator("code")).to_have_attribute("title", f"Server {node}")
    second.close()


def test_without_redis_the_other_servers_are_missing(page: Page) -> None:
    with redis_server() as redis:
        address = f"127.0.0.1:{redis.port}"
        with serving(REDIS_ADDR=address) as one, serving(REDIS_ADDR=address):
            visit(page, one, VIEW)
            expect(lines(page)).to_have_count(2)
            redis.kill()
            expect(panel(page, "Nodes")).to_contain_text(
                "Redis is out of reach: this server does not know the others."
            )
            expect(lines(page)).to_have_count(1)
            expect(panel(page, "Nodes")).to_contain_text("redis: lost")


def test_a_server_that_shuts_down_is_not_ready(page: Page, server: Server) -> None:
    checks = {"shutdown": "draining", "connections": "ok"}
    body = {"error": "Server is shutting down", "checks": checks}
    page.route(re.compile("/ready$"), lambda route: route.fulfill(status=503, json=body))
    visit(page, server, VIEW)
    expect(panel(page, "Nodes").get_by_text("shutdown: draining")).to_have_class("badge bad")
    page.unroute_all()


def test_a_late_event_loop_is_marked(page: Page, server: Server) -> None:
    node = {"id": "0" * 16, "uptime_sec": 90_000, "clients": 1, "topics": 1}
    lags = {"1" * 16: 49, "2" * 16: 50, "3" * 16: 500}
    nodes = [{**node, "id": name, "lag_ms": lag} for name, lag in lags.items()]
    page.route(re.compile("/nodes$"), lambda route: route.fulfill(json={"nodes": nodes}))
    visit(page, server, VIEW)
    marks = lines(page).locator(".lags > span")
    expect(marks).to_have_text(["49 ms", "50 ms", "500 ms"])
    expect(marks).to_have_class(["", "badge warn", "badge bad"])
    expect(lines(page).first.get_by_role("cell").nth(2)).to_have_text("1 d 1 h")
    page.unroute_all()


def test_a_token_without_the_right_is_explained(browser: Browser) -> None:
    page = browser.new_page()
    with serving(JWT_SECRET=SECRET, API_KEYS=f"app:{KEY}") as server:
        page.goto(f"{server.url}/{VIEW}")
        view = panel(page, "Nodes")
        expect(view).to_contain_text("An API key is needed, or a token that allows manage of '#'")
        expect(view).to_contain_text("python server.py token --sub=ops --manage='#'")
        expect(view).to_contain_text("connections: ok")  # needs no right

        page.evaluate("(token) => sessionStorage.setItem('token', token)", sign())
        page.reload()
        expect(view).to_contain_text("The token does not allow manage of '#'")
        page.evaluate("(token) => sessionStorage.setItem('token', token)", sign(manage=["#"]))
        page.reload()
        expect(lines(page)).to_have_count(1)
        expect(view).not_to_contain_text("manage")
    page.close()


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_accessible_and_fits(
    browser: Browser, cluster: tuple[Server, Server, RedisServer], scheme: str
) -> None:
    for options in ({"viewport": PHONE, "has_touch": True}, {}):
        page = browser.new_page(**options, color_scheme=scheme)
        visit(page, cluster[0], VIEW)
        expect(lines(page)).to_have_count(2)
        assert_accessible(page)
        assert_fits(page)
        page.close()
