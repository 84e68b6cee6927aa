"""The console with 1,000 topics and 1,000 events a second: it stays bounded, and answers."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    Server,
    acking,
    double,
    panel,
    rows,
    run_clock,
    serving,
    state,
    topic_line,
)
from tests.support.load import flood

pytestmark = needs_chromium
TOPICS = [f"load/{n:04}" for n in range(999)]  # with "here" as many as MAX_SUBSCRIPTIONS allows
MAX_ROWS, MAX_LINES = 200, 100


@pytest.fixture
def busy() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_1000_topics_and_1000_events_a_second(page: Page, busy: Server) -> None:
    query = urlencode([("topic", it) for it in ["here", *TOPICS]])
    page.goto(f"{busy.url}/?{query}")
    expect(state(page)).to_have_text("Connected")
    topics = page.get_by_role("list", name="Your topics").locator("> li")
    expect(topics).to_have_count(MAX_LINES)
    expect(panel(page, "Topics")).to_contain_text("and 900 more")
    expect(topic_line(page, TOPICS[0])).to_have_attribute("data-phase", "on")

    with flood(busy.port, TOPICS, rate=1_000):
        expect(panel(page, "Events")).to_contain_text("1,000 kept")
        # The page answers inputs in the midst of it.
        page.get_by_label("Filter events by text").fill("load/0007")
        expect(page.get_by_label("Filter events by text")).to_have_value("load/0007")
        expect(rows(page).first).to_contain_text("load/0007")
        page.get_by_label("Filter events by text").fill("")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume (")).to_be_visible()
        first = rows(page).first.inner_text()
        rows(page).first.locator("summary").click()
        expect(rows(page).first.locator("pre")).to_be_visible()
        assert rows(page).first.inner_text().startswith(first.splitlines()[0])
        page.get_by_role("button", name="Resume (").click()
        page.get_by_role("navigation").get_by_role("link", name="Nodes").click()
        expect(panel(page, "Nodes")).to_be_visible()
        page.get_by_role("navigation").get_by_role("link", name="Live").click()
        assert rows(page).count() <= MAX_ROWS
        assert topics.count() == MAX_LINES
        assert page.evaluate("document.querySelectorAll('*').length") < 5_000
    expect(state(page)).to_have_text("Connected")


def test_a_flood_is_bounded(staged: Page, server: Server) -> None:
    opened = double(staged, server, acking)
    expect(topic_line(staged, "t")).to_have_attribute("data-phase", "on")
    for n in range(2_345):
        message = f'{{"id":"{n}","payload":{n}}}'
        opened[0].send(f'{{"type":"event","topic":"t","message":{message}}}')
    events = panel(staged, "Events")
    run_clock(staged, lambda: "2,345 received" in events.inner_text(), 200)  # a drawing each
    expect(panel(staged, "Events")).to_contain_text("showing 200 of 1,000 kept, 2,345 received")
    expect(rows(staged)).to_have_count(MAX_ROWS)
    expect(rows(staged).first).to_contain_text("2344")
