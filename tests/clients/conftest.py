"""What the tests of the clients share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from broadcast_client import _connection as connection

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the Python client's pauses very short."""
    monkeypatch.setattr(connection, "FIRST", 0.01)
    monkeypatch.setattr(connection, "LONGEST", 0.02)
    monkeypatch.setattr(connection, "GOODBYE", 0.05)


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """Return a tab of its own.

    Chromium delays the WebSockets of a process in which 16 or more failed, by up to 5 s, and the
    pages of a shared tab are in the same process.
    """
    from tests.support.browser import PATIENCE  # only here: most tests need no browser

    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE)
        yield page
