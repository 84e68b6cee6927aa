"""examples/dashboard: a program feeds pages, which are complete at once."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import CHROMIUM
from tests.support.examples import commands, opened, started
from tests.support.server import Running

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FIGURES = ("visitors", "orders", "latency")


def test_who_opens_the_page_gets_the_last_values_at_once_and_then_each_new_one(
    browser: Browser, root: Path, here: Running
) -> None:
    (command,) = commands("Live dashboard")
    address = (root / "examples/dashboard/index.html").as_uri()
    with opened(browser, address) as early:
        lines = early.locator("polyline")
        with started(f"{command} 0.02", root):
            expect(early.get_by_role("status")).to_contain_text("live")
            # The figures of a minute, and no more than a minute is drawn.
            early.wait_for_function("document.querySelector('polyline').points.length === 60")
            first = [lines.nth(place).get_attribute("points") for place in range(3)]
            early.wait_for_function(
                "given => document.querySelector('polyline').getAttribute('points') !== given",
                arg=first[0],
            )
        # The program has ended, so what another page shows is what the topic remembers.
        history = early.request.get(f"{here.url}/topics/shop/history?limit=1000").json()["events"]
        newest = history[-1]["message"]["payload"]
        with opened(browser, address) as late:
            late.wait_for_function("document.querySelector('polyline').points.length === 60")
            for name in FIGURES:
                expect(late.locator(f"#{name} p")).to_have_text(f"{newest[name]:,}")
            for page in (early, late):
                expect(page.get_by_role("status")).to_contain_text("live")
            drawn = [
                late.locator("polyline").nth(place).get_attribute("points") for place in range(3)
            ]
            assert drawn == [lines.nth(place).get_attribute("points") for place in range(3)]
