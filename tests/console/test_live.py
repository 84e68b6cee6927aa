"""The view "Live" of the console: publish here, see it there."""

import json
import re

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    Server,
    panel,
    payloads,
    publish,
    publish_elsewhere,
    rows,
    serving,
    state,
    subscribe,
    topic_line,
    visit,
    watched,
)

pytestmark = needs_chromium


# --- The way of a newcomer ------------------------------------------------------------------------


def test_on_a_new_server_a_demo_ticks_without_a_click(page: Page) -> None:
    with serving() as server:
        page.goto(server.url)
        expect(state(page)).to_have_text("Connected")
        expect(payloads(page).first).to_contain_text('"order":')
        expect(page.get_by_role("button", name="Stop demo")).to_be_visible()
        expect(page).to_have_url(f"{server.url}/?topic=demo")

        page.get_by_role("button", name="Stop demo").click()
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Start demo").click()
        expect(rows(page).first).to_be_visible()


def test_where_there_are_topics_no_demo_starts(page: Page, server: Server) -> None:
    page.request.post(f"{server.url}/topics", data={"name": "kept"})
    with page.expect_response("**/stats"):
        page.goto(server.url)
    expect(page.get_by_role("button", name="Start demo")).to_be_visible()
    expect(panel(page, "Events")).to_contain_text("Subscribe to a topic, then publish to it.")
    subscribe(page, "first")
    expect(panel(page, "Events")).to_contain_text("Waiting for events of first.")


def test_a_hidden_page_publishes_no_demo(staged: Page) -> None:
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with serving() as server:
        asked: list[str] = []
        staged.on("request", lambda it: asked.append(it.url))
        staged.goto(f"{server.url}/?topic=demo")
        staged.get_by_role("button", name="Start demo").click()
        with staged.expect_request("**/publish"):
            staged.clock.run_for(1_000)
        staged.evaluate(hide, True)
        asked.clear()
        staged.clock.run_for(10_000)
        assert asked == []
        staged.evaluate(hide, False)
        with staged.expect_request("**/publish"):
            staged.clock.run_for(1_000)
        staged.goto("about:blank")


def test_the_console_shows_its_own_publishes(page: Page, server: Server) -> None:
    visit(page, server)
    subscribe(page, "orders")
    publish(page, "orders", '{"total": 12345678901234567890}')

    expect(panel(page, "Publish")).to_contain_text("Published to orders, acknowledged in")
    expect(payloads(page)).to_have_text(['{"total": 12345678901234567890}'])
    expect(rows(page).locator(".topic")).to_have_text("orders")
    expect(topic_line(page, "orders")).to_contain_text("1")


def test_a_row_opens_to_the_whole_event(page: Page, server: Server) -> None:
    visit(page, server, "?topic=whole")
    expect(topic_line(page, "whole")).to_have_attribute("data-phase", "on")
    publish_elsewhere(page, server, "whole", {"a": [1, "x" * 500]})
    row = rows(page)
    expect(row.locator("pre")).to_have_count(0)  # nothing is made before it is asked for
    row.locator("summary").click()
    expect(row.locator("pre")).to_have_text(json.dumps({"a": [1, "x" * 500]}, indent=2))
    expect(row.locator("dl")).to_have_text(re.compile(r"topicwholeid\d+-\w+server time20.+Z"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    row.get_by_role("button", name="Copy the payload").click()
    expect(row.get_by_role("button", name="Copy the payload")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied) == {"a": [1, "x" * 500]}


def test_the_publishes_of_others_are_shown_newest_first(page: Page, server: Server) -> None:
    visit(page, server, "?topic=news")
    expect(topic_line(page, "news")).to_have_attribute("data-phase", "on")
    publish_elsewhere(page, server, "news", {"n": 1})
    publish_elsewhere(page, server, "news", None)

    expect(payloads(page)).to_have_text(["null", '{"n": 1}'])


def test_markup_is_shown_as_text(page: Page, server: Server) -> None:
    visit(page, server)
    subscribe(page, "<b>bold</b>")
    publish_elsewhere(page, server, "<b>bold</b>", "<img src=x onerror=alert(1)>")

    expect(payloads(page)).to_have_text('"<img src=x onerror=alert(1)>"')
    expect(rows(page).locator(".topic")).to_have_text("<b>bold</b>")
    rows(page).locator("summary").click()
    expect(rows(page).locator("pre")).to_have_text('"<img src=x onerror=alert(1)>"')
    expect(page.locator("img, b")).to_have_count(0)


def test_characters_that_turn_the_direction_of_writing_are_escaped(
    page: Page, server: Server
) -> None:
    visit(page, server)
    subscribe(page, "a\u202eb")
    publish_elsewhere(page, server, "a\u202eb", {"pay": "\u202e001"})

    expect(payloads(page)).to_have_text('{"pay": "\\u202e001"}')
    expect(rows(page).locator(".topic")).to_have_text("a\\u202eb")
    rows(page).locator("summary").click()
    expect(rows(page).locator("pre")).to_contain_text('"pay": "\\u202e001"')


def test_unsubscribing_ends_the_topic(page: Page, server: Server) -> None:
    visit(page, server, "?topic=brief")
    page.get_by_role("button", name="Unsubscribe from brief").press("Enter")

    expect(topic_line(page, "brief")).to_have_count(0)
    expect(panel(page, "Topics").get_by_label("Topic", exact=True)).to_be_focused()
    publish(page, "brief", "1")
    expect(panel(page, "Publish")).to_contain_text("TOPIC_NOT_FOUND")


# --- Publishing -----------------------------------------------------------------------------------


def test_an_unknown_topic_is_refused_with_a_way_out(page: Page, server: Server) -> None:
    visit(page, server)
    publish(page, "nobody", "1")

    expect(panel(page, "Publish")).to_contain_text("TOPIC_NOT_FOUND")
    expect(rows(page, "error")).to_contain_text("TOPIC_NOT_FOUND")
    rows(page, "error").locator("summary").click()
    expect(rows(page, "error").locator("pre")).to_contain_text('"type": "error"')
    page.get_by_role("button", name="Subscribe to nobody first").click()
    expect(topic_line(page, "nobody")).to_have_attribute("data-phase", "on")
    publish(page, "nobody", "1")
    page.get_by_role("button", name="1 new").click()  # the open row has held the list
    expect(payloads(page)).to_have_text("1")


def test_text_that_is_not_json_is_published_as_a_string(page: Page, server: Server) -> None:
    visit(page, server)
    subscribe(page, "plain")
    publish(page, "plain", "it's {here")

    expect(panel(page, "Publish")).to_contain_text("Not valid JSON, so it is sent as a string.")
    expect(payloads(page)).to_have_text('"it\'s {here"')


# --- Finding something ----------------------------------------------------------------------------


def test_the_list_is_filtered_by_text_and_topic(page: Page, server: Server) -> None:
    visit(page, server, "?topic=red&topic=blue")
    expect(topic_line(page, "blue")).to_have_attribute("data-phase", "on")
    for topic, payload in (("red", {"n": "one"}), ("blue", {"n": "two"}), ("blue", {"n": "One"})):
        publish_elsewhere(page, server, topic, payload)
    expect(rows(page)).to_have_count(3)

    page.get_by_label("Filter events by text").fill("ONE")
    expect(payloads(page)).to_have_text(['{"n": "One"}', '{"n": "one"}'])
    topic_line(page, "blue").get_by_role("button", name="blue", exact=True).click()
    expect(payloads(page)).to_have_text(['{"n": "One"}'])
    publish_elsewhere(page, server, "blue", {"n": "three"})
    publish_elsewhere(page, server, "red", {"n": "one"})
    publish_elsewhere(page, server, "blue", ["one"])
    expect(payloads(page)).to_have_text(['["one"]', '{"n": "One"}'])
    expect(panel(page, "Events")).to_contain_text("showing 2 of 6 kept, 6 received")

    page.get_by_label("Filter events by text").fill("nowhere")
    expect(panel(page, "Events")).to_contain_text("No event matches the filter.")
    page.get_by_role("button", name="Only blue: show all topics").click()
    page.get_by_label("Filter events by text").fill("")
    expect(rows(page)).to_have_count(6)


def test_a_link_restores_topics_filter_and_view(
    page: Page, browser: Browser, server: Server
) -> None:
    visit(page, server)
    subscribe(page, "a/b&c")
    subscribe(page, "später")
    topic_line(page, "später").get_by_role("button", name="später", exact=True).click()
    page.get_by_label("Filter events by text").fill("x y")
    expect(page).to_have_url(re.compile("topic=a%2Fb%26c&topic=sp%C3%A4ter"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")

    other = browser.new_page()
    with watched(other):
        other.goto(link)
        for topic in ("here", "a/b&c", "später"):
            expect(topic_line(other, topic)).to_have_attribute("data-phase", "on")
        expect(other.get_by_label("Filter events by text")).to_have_value("x y")
        expect(other.get_by_role("button", name="Only später: show all topics")).to_be_visible()
        other.get_by_role("navigation").get_by_role("link", name="Nodes").click()
        expect(other).to_have_url(re.compile(r"\?view=nodes&.*topic=here&topic=a"))
        other.reload()
        expect(panel(other, "Nodes")).to_be_visible()
        expect(panel(other, "Events")).to_be_hidden()
        other.go_back()
        expect(panel(other, "Events")).to_be_visible()
        expect(topic_line(other, "später")).to_be_visible()
    other.close()


def test_a_paused_list_stands_still_and_a_cleared_one_is_empty(page: Page, server: Server) -> None:
    visit(page, server, "?topic=still")
    expect(topic_line(page, "still")).to_have_attribute("data-phase", "on")
    publish_elsewhere(page, server, "still", 1)
    expect(payloads(page)).to_have_text(["1"])
    page.get_by_role("button", name="Pause").click()
    for n in (2, 3):
        publish_elsewhere(page, server, "still", n)
    expect(page.get_by_role("button", name="Resume (2 new)")).to_be_visible()
    expect(payloads(page)).to_have_text(["1"])
    page.get_by_role("button", name="Resume").click()
    expect(payloads(page)).to_have_text(["3", "2", "1"])
    page.get_by_role("button", name="Clear").click()
    expect(rows(page)).to_have_count(0)
    publish_elsewhere(page, server, "still", 4)
    expect(payloads(page)).to_have_text(["4"])
    expect(panel(page, "Events")).to_contain_text("showing 1 of 1 kept, 1 received")


def test_new_events_do_not_move_what_is_read(page: Page, server: Server) -> None:
    visit(page, server, "?topic=long")
    expect(topic_line(page, "long")).to_have_attribute("data-phase", "on")
    for n in range(50):
        publish_elsewhere(page, server, "long", n)
    expect(rows(page)).to_have_count(50)
    rows(page).last.scroll_into_view_if_needed()
    publish_elsewhere(page, server, "long", "new")
    page.get_by_role("button", name="1 new").click()
    expect(payloads(page).first).to_have_text('"new"')
    expect(payloads(page).first).to_be_in_viewport()


def test_an_open_event_stays_in_its_place(page: Page, server: Server) -> None:
    visit(page, server, "?topic=read")
    expect(topic_line(page, "read")).to_have_attribute("data-phase", "on")
    publish_elsewhere(page, server, "read", "old")
    rows(page).locator("summary").click()
    place = rows(page).bounding_box()
    publish_elsewhere(page, server, "read", "new")
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert rows(page).bounding_box() == place
    page.get_by_role("button", name="1 new").click()
    expect(payloads(page)).to_have_text(['"new"', '"old"'])
    rows(page).last.locator("summary").click()
    publish_elsewhere(page, server, "read", "newer")
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    rows(page).last.locator("summary").click()  # closed again
    expect(payloads(page).first).to_have_text('"newer"')


def test_a_deleted_topic_is_reported_and_leaves_the_list(page: Page, server: Server) -> None:
    visit(page, server, "?topic=doomed")
    expect(topic_line(page, "doomed")).to_have_attribute("data-phase", "on")
    assert page.request.delete(f"{server.url}/topics/doomed").ok

    expect(rows(page, "info")).to_contain_text("doomed: The topic was deleted.")
    expect(topic_line(page, "doomed")).to_have_count(0)
    expect(page).to_have_url(f"{server.url}/")


def test_topics_have_colours_that_last(page: Page, server: Server) -> None:
    visit(page, server, "?topic=red&topic=blue")
    colour = "(node) => getComputedStyle(node).color"
    first = [topic_line(page, it).locator(".name").evaluate(colour) for it in ("red", "blue")]
    page.reload()
    again = [topic_line(page, it).locator(".name").evaluate(colour) for it in ("red", "blue")]
    assert first == again
    assert first[0] != first[1]
