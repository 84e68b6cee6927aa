"""The view "History" of the console: the events of a topic, newest first."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    payloads,
    publish_elsewhere,
    rows,
    run_code,
    serving,
    visit,
)
from tests.support.npm import needs_npm
from tests.support.process import ROOT
from tests.support.tokens import SECRET, sign

pytestmark = needs_chromium
VIEW = "?view=history&of="


@pytest.fixture(scope="module")
def keeping() -> Iterator[Server]:
    """A server that keeps 100 events of each topic."""
    with serving(HISTORY_SIZE="100") as running:
        yield running


def fill(page: Page, server: Server, topic: str, count: int) -> None:
    """Create a topic with events."""
    assert page.request.post(f"{server.url}/topics", data={"name": topic}).ok
    items = [{"topic": topic, "payload": {"n": n}} for n in range(1, count + 1)]
    if items:
        assert page.request.post(f"{server.url}/publish/batch", data={"items": items}).ok


def lines(page: Page) -> Locator:
    return page.get_by_role("table", name="Events, newest first").locator("tbody tr")


def offsets(page: Page) -> Locator:
    return lines(page).get_by_role("cell").filter(has_text=re.compile(r"^\d+$"))


def numbers(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last - 1, -1)]


def test_the_newest_events_come_first_and_new_ones_appear(page: Page, keeping: Server) -> None:
    topic = "shop/orders é"
    fill(page, keeping, topic, 2)
    visit(page, keeping, VIEW + topic)
    view = panel(page, "History")
    expect(view.get_by_role("heading")).to_have_text(f"History of {topic}")
    expect(offsets(page)).to_have_text(["2", "1"])
    expect(lines(page).locator("summary")).to_have_text(['{"n": 2}', '{"n": 1}'])
    expect(view).to_contain_text(re.compile(r"Epoch\w+Newest offset2Events/s"))
    expect(view).to_contain_text("Events 1 to 2 of 2; nothing older is kept")

    lines(page).last.locator("summary").click()
    publish_elsewhere(page, keeping, topic, 12345678901234567890)
    expect(offsets(page)).to_have_text(["3", "2", "1"])
    expect(lines(page).first.locator("summary")).to_have_text("12345678901234567890")
    expect(lines(page).last.locator("pre")).to_have_text('{\n  "n": 1\n}')  # stays open
    expect(lines(page).last.locator("pre")).to_be_visible()


def test_older_events_come_in_pages(page: Page, keeping: Server) -> None:
    fill(page, keeping, "long", 130)  # of which 100 are kept
    visit(page, keeping, VIEW + "long")
    newest, older = (page.get_by_role("button", name=name) for name in ("Newest", "Older"))
    expect(offsets(page)).to_have_text(numbers(130, 81))
    expect(newest).to_be_disabled()
    older.click()
    expect(offsets(page)).to_have_text(numbers(80, 31))
    expect(older).to_be_disabled()
    expect(panel(page, "History")).to_contain_text("Events 31 to 80 of 130; nothing older is kept")
    publish_elsewhere(page, keeping, "long", 131)
    page.reload()
    expect(offsets(page)).to_have_text(numbers(80, 32))
    newest.click()
    expect(offsets(page).first).to_have_text("131")
    page.go_back()
    expect(offsets(page).first).to_have_text("80")


def test_events_that_were_forgotten_meanwhile_are_told(page: Page, keeping: Server) -> None:
    fill(page, keeping, "forgetful", 60)
    visit(page, keeping, VIEW + "forgetful")
    page.get_by_role("button", name="Older").click()
    expect(offsets(page)).to_have_text(numbers(10, 1))
    items = [{"topic": "forgetful", "payload": n} for n in range(150)]
    assert page.request.post(f"{keeping.url}/publish/batch", data={"items": items}).ok
    expect(panel(page, "History")).to_contain_text("These events have been forgotten meanwhile")
    page.get_by_role("button", name="Newest").click()
    expect(offsets(page).first).to_have_text("210")


def test_recover_from_here_replays_the_events_after_it(page: Page, keeping: Server) -> None:
    fill(page, keeping, "replay", 5)
    visit(page, keeping, VIEW + "replay")
    page.get_by_role("button", name="Recover from here: offset 3").click()
    expect(payloads(page)).to_have_text(['{"n": 5}', '{"n": 4}'])
    expect(rows(page)).to_contain_text(["recovered", "recovered"])

    page.go_back()  # subscribed by now; again from an earlier event
    page.get_by_role("button", name="Recover from here: offset 1", exact=True).click()
    expect(rows(page)).to_have_count(6)
    assert [it["offset"] for it in run_code(page)["events"]] == [2, 3, 4, 5]


def test_a_topic_is_chosen_by_its_name(page: Page, keeping: Server) -> None:
    fill(page, keeping, "chosen", 1)
    visit(page, keeping, "?view=history")
    view = panel(page, "History")
    expect(view).to_contain_text("Choose a topic")
    view.get_by_label("Topic", exact=True).fill("chosen")
    view.get_by_label("Topic", exact=True).press("Enter")
    expect(offsets(page)).to_have_text(["1"])


def test_an_empty_history_is_told(page: Page, keeping: Server) -> None:
    fill(page, keeping, "empty", 0)
    visit(page, keeping, VIEW + "empty")
    expect(panel(page, "History")).to_contain_text("Nothing has been published to empty yet.")


def test_without_history_the_setting_is_named(page: Page, server: Server) -> None:
    fill(page, server, "forgotten", 1)
    visit(page, server, VIEW + "forgotten")
    view = panel(page, "History")
    expect(view).to_contain_text("forgotten does not exist, or has no history.")
    expect(view).to_contain_text("HISTORY_SIZE=100 python server.py")


def test_a_token_without_the_right_is_explained(browser: Browser) -> None:
    page = browser.new_page()
    with serving(JWT_SECRET=SECRET, HISTORY_SIZE="5") as server:
        token = sign(subscribe=["chat/#"])
        page.add_init_script(f"sessionStorage.setItem('token', {json.dumps(token)})")
        page.goto(f"{server.url}/{VIEW}it's")
        view = panel(page, "History")
        expect(view).to_contain_text("The token does not allow subscribe on topic")
        expect(view).to_contain_text("python server.py token --sub=ops --subscribe='it'\\''s'")
    page.close()


def test_the_python_code_reads_the_same(page: Page, keeping: Server) -> None:
    fill(page, keeping, 'it\'s "read"', 3)
    visit(page, keeping, VIEW + 'it\'s "read"')
    expect(offsets(page)).to_have_text(numbers(3, 1))
    page.get_by_role("button", name="Python").click()
    done = subprocess.run(
        [sys.executable, "-c", page.get_by_label("Code of what you did last").inner_text()],
        env=os.environ | {"PYTHONPATH": str(ROOT / "clients/python")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "payload={'n': 3}" in done.stdout
    page.get_by_role("button", name="curl").click()


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_accessible_and_fits(browser: Browser, keeping: Server, scheme: str) -> None:
    for options in ({"viewport": PHONE, "has_touch": True}, {}):
        page = browser.new_page(**options, color_scheme=scheme)
        topic = f"fits/{scheme}/{'long' * 50}{len(options)}"
        fill(page, keeping, topic, 2)
        publish_elsewhere(page, keeping, topic, {"text": "long " * 200})
        visit(page, keeping, VIEW + topic)
        lines(page).first.locator("summary").click()
        expect(lines(page).first.locator("pre")).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        page.goto(f"{keeping.url}/{VIEW}nowhere")
        expect(panel(page, "History")).to_contain_text("has no history")
        assert_accessible(page)
        page.close()
