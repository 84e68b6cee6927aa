"""The frame of the console: its views, keyboard, screen readers, phones and policy."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    DESKTOP,
    PHONE,
    SMALL,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    payloads,
    publish_elsewhere,
    rows,
    serving,
    state,
    topic_line,
    visit,
    watched,
)
from tests.support.npm import needs_npm

pytestmark = needs_chromium
VIEWS = ["live", "topics", "nodes", "connections", "history"]
# Returns what does not show all of its text, in the header.
CLIPPED = """() => [...document.querySelectorAll(".top button, .top a, #state")]
    .filter((it) => it.checkVisibility() && it.scrollWidth > it.clientWidth)
    .map((it) => it.outerHTML)"""
DEVICES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}


@needs_npm
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_view_is_accessible_and_fits(
    browser: Browser, server: Server, view: str, scheme: Any, device: str
) -> None:
    page = browser.new_page(color_scheme=scheme, **DEVICES[device])
    with watched(page):
        visit(page, server, f"?view={view}&topic=here&topic={'long' * 40}&of=here")
        publish_elsewhere(page, server, "here", {"n": 1})
        if view == "live":
            rows(page).locator("summary").click()
            page.get_by_role("button", name="Pause").click()
        assert_accessible(page)
        assert_fits(page)
    page.close()


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_rows_of_all_kinds_and_the_offline_state_are_accessible(
    browser: Browser, scheme: Any
) -> None:
    page = browser.new_page(color_scheme=scheme)
    with watched(page):
        with serving() as server:
            visit(page, server, "?topic=lost&topic=gone")
            expect(topic_line(page, "gone")).to_have_attribute("data-phase", "on")
            assert page.request.delete(f"{server.url}/topics/gone").ok
            expect(rows(page, "info")).to_have_count(1)
            page.get_by_role("button", name="Cut for 3 s").click()
            expect(rows(page, "recovery")).to_have_count(1)
            expect(rows(page, "lost")).to_have_count(1)
        expect(page.locator("#banner")).to_contain_text("Not connected since")
        assert_accessible(page)
    page.close()


@pytest.mark.parametrize(
    "size", [(320, 568), (360, 640), (740, 360), (844, 390), (768, 1024)], ids=str
)
def test_the_header_fits_on_small_screens(
    browser: Browser, server: Server, size: tuple[int, int]
) -> None:
    width, height = size
    viewport: Any = {"width": width, "height": height}
    page = browser.new_page(viewport=viewport, has_touch=True, is_mobile=True)
    with watched(page):
        visit(page, server)
        publish_elsewhere(page, server, "here", {"n": 1})
        expect(payloads(page)).to_be_in_viewport()
        expect(page.locator("#latency")).not_to_be_empty()
        # A page for phones grows with what does not fit.
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width] * 2
        assert page.evaluate(SMALL) == []
        assert page.evaluate(CLIPPED) == []
    page.close()


def test_on_a_phone_events_come_first(browser: Browser, server: Server) -> None:
    page = browser.new_page(**DEVICES["phone"])
    with watched(page):
        visit(page, server)
        publish_elsewhere(page, server, "here", {"n": 1})
        expect(payloads(page)).to_be_in_viewport()
        boxes = [panel(page, name).bounding_box() for name in ("Events", "Publish", "Topics")]
        tops = [box["y"] for box in boxes if box]
        assert tops == sorted(tops)
        assert tops[0] < PHONE["height"] / 4
    page.close()


def test_everything_is_reached_by_the_keyboard(page: Page, server: Server) -> None:
    visit(page, server, "?topic=keys")
    expect(topic_line(page, "keys")).to_have_attribute("data-phase", "on")
    for n in range(3):
        publish_elsewhere(page, server, "keys", n)
    expect(payloads(page)).to_have_text(["2", "1", "0"])

    reached: list[str] = []
    page.keyboard.press("Tab")
    while (name := page.evaluate("document.activeElement.outerHTML")) not in reached:
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        reached.append(name)
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    controls = page.evaluate(
        """[...document.querySelectorAll("a, button, input, select, textarea, summary")]
            .filter((it) => it.checkVisibility() && !it.disabled && it.tabIndex >= 0)
            .map((it) => it.outerHTML)"""
    )
    assert set(controls) <= set(reached)

    summaries = rows(page).locator("summary")
    summaries.first.focus()  # one of the rows is a stop of Tab; the arrows move to the others
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(summaries.last).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows(page).last.locator("pre")).to_have_text("0")
    page.keyboard.press("Home")
    expect(summaries.first).to_be_focused()

    page.get_by_role("button", name="Settings").press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Settings")).to_be_focused()


def test_views_open_by_links_and_by_the_back_button(page: Page, server: Server) -> None:
    visit(page, server)
    views = page.get_by_role("navigation", name="Views")
    for name in ("Topics", "Nodes", "Connections", "Live"):
        views.get_by_role("link", name=name).click()
        expect(panel(page, name).first).to_be_visible()
        expect(views.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(panel(page, "Connections")).to_be_visible()
    expect(page).to_have_title("Connections: websocket-broadcast")
    page.goto(f"{server.url}/?view=nothing&topic=here")
    expect(panel(page, "Events")).to_be_visible()


def test_nothing_moves_for_those_who_want_no_motion(browser: Browser, server: Server) -> None:
    moving = """[...document.querySelectorAll("*")].filter((it) => {
        const { transitionDuration, animationName } = getComputedStyle(it);
        return transitionDuration !== "0s" || animationName !== "none";
    }).length"""
    page = browser.new_page(reduced_motion="reduce")
    visit(page, server)
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
    page.close()


def test_no_address_of_others_is_asked(page: Page, server: Server) -> None:
    asked: set[str] = set()
    page.on("request", lambda it: asked.add(re.sub(r"^(\w+://[^/]+).*", r"\1", it.url)))
    visit(page, server)
    for name in ("Topics", "Nodes", "Connections"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(panel(page, name).first).to_be_visible()
    expect(state(page)).to_have_text("Connected")
    assert {it for it in asked if not it.startswith("data:")} == {server.url}


def test_behind_a_prefix_every_address_keeps_it(page: Page, server: Server) -> None:
    """A proxy may serve the console under a path: nothing is asked of the root."""
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url))
    page.on("websocket", lambda it: asked.append(it.url))

    def forward(route: Any) -> None:
        answer = route.fetch(url=route.request.url.replace("/inner/", "/"))
        route.fulfill(response=answer)

    page.route(f"{server.url}/inner/**", forward)
    page.route_web_socket(
        re.compile("/inner/ws"),
        lambda socket: None,
    )
    page.goto(f"{server.url}/inner/?topic=here")
    expect(page.get_by_role("link", name="Nodes")).to_have_attribute(
        "href", re.compile("/inner/\\?view=nodes&topic=here")
    )
    assert asked != []
    assert all("/inner/" in it for it in asked)


def test_a_page_that_cannot_start_says_what_may_be_wrong(browser: Browser) -> None:
    """A server that allows other origins alone refuses the scripts of its own page."""
    page = browser.new_page()
    with serving(ALLOWED_ORIGINS="https://app.example.com") as server, watched(page):
        page.goto(server.url)
        expect(page.get_by_text("ALLOWED_ORIGINS needs “same”")).to_be_visible()
    with serving() as server, watched(page):
        visit(page, server)
        expect(page.get_by_text("ALLOWED_ORIGINS")).to_be_hidden()
    page.close()
