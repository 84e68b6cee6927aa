"""Fixtures for the console in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PATIENCE
from tests.support.console import DESKTOP, Server, serving, watched

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server of all tests that do not end it; each test uses its own topics."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """The tab that most tests share, since opening one takes as long as a test."""
    return browser.new_page()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A tab with the real clock and the real network; an error on its console fails the test."""
    tab.set_viewport_size({"width": DESKTOP["width"], "height": DESKTOP["height"]})
    with watched(tab):
        yield tab


@pytest.fixture
def staged(browser: Browser) -> Iterator[Page]:
    """A new tab whose clock and network the test controls."""
    page = browser.new_page()
    page.clock.install()
    with watched(page):
        yield page
    page.close()
