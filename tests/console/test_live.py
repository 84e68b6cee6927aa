"""The view "Live" of the console: publish here, see it there."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    payloads,
    publish,
    publish_elsewhere,
    rows,
    state,
    subscribe,
    topic_line,
    visit,
)
from tests.support.npm import needs_npm

pytestmark = needs_chromium


def test_the_console_connects_by_itself_and_says_what_to_do_next(
    page: Page, server: Server
) -> None:
    page.goto(server.url)
    expect(state(page)).to_have_text("Connected")
    events = panel(page, "Events")
    page.goto(f"{server.url}/?topic=first")
    expect(events).to_contain_text("Waiting for events of first.")


def test_the_console_shows_its_own_publishes(page: Page, server: Server) -> None:
    visit(page, server)
    subscribe(page, "orders")
    publish(page, "orders", '{"total": 12345678901234567890}')

    expect(panel(page, "Publish")).to_contain_text("Published to orders, acknowledged in")
    expect(payloads(page)).to_have_text(['{"total":12345678901234567890}'])
    expect(rows(page).locator(".topic")).to_have_text("orders")
    rows(page).locator("summary").click()
    expect(rows(page).locator("pre")).to_have_text('{\n  "total": 12345678901234567890\n}')
    expect(rows(page).locator("dl")).to_have_text(re.compile(r"id.+server time.+Z"))


def test_the_console_shows_the_publishes_of_others_newest_first(page: Page, server: Server) -> None:
    visit(page, server, "?topic=news")
    expect(topic_line(page, "news")).to_have_attribute("data-phase", "on")
    publish_elsewhere(page, server, "news", {"n": 1})
    publish_elsewhere(page, server, "news", None)

    expect(payloads(page)).to_have_text(["null", '{"n":1}'])


@needs_npm
def test_the_live_view_is_accessible_and_fits(browser: Browser, server: Server) -> None:
    for options in ({"viewport": PHONE, "has_touch": True}, {}):
        for scheme in ("light", "dark"):
            page = browser.new_page(**options, color_scheme=scheme)
            visit(page, server)
            publish_elsewhere(page, server, "here", {"n": 1})
            expect(rows(page)).to_have_count(1)
            assert_accessible(page)
            assert_fits(page)
            page.close()
