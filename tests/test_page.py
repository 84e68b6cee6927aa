"""The page that `GET /` serves, in a real browser with a real server.

The tests are synchronous: Playwright's own loop runs in this thread while the browser is open, and
the server is a process that can be killed. Playwright's clock passes long times (a minute without a
reconnect), and a double of the server sends what the real one never sends.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    WebSocketRoute,
    expect,
)

from tests.support.browser import CHROMIUM, PATIENCE, chromium

ROOT = Path(__file__).parent.parent
# Chromium itself logs these while the server goes or is gone, or refuses a token; no script can
# keep it from that.
OFFLINE = re.compile(
    r"Failed to load resource: (net::ERR_|.* status of (401|503))"
    r"|WebSocket connection to .* failed: "
    # Warnings of the client, which tests cause.
    r"|ws://[^ ]+: |\w+: lost: "
)
expect.set_options(timeout=PATIENCE)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@dataclass(frozen=True)
class Server:
    """A running `server.py`."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.communicate(timeout=10)


@contextmanager
def serving(port: int = 0, **settings: str) -> Iterator[Server]:
    """Start a server on `port` (0: any free one), and wait until it listens."""
    process = subprocess.Popen(
        [sys.executable, "server.py"],
        cwd=ROOT,
        env=os.environ | {"HOST": "127.0.0.1", "PORT": str(port), **settings},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        while not (found := re.search(r"listening on (http://\S+)", "".join(said[-1:]))):
            said.append(process.stderr.readline())
            assert said[-1], "the server ended:\n" + "".join(said)
        yield Server(process, found[1])
    finally:
        process.kill()
        with suppress(ValueError):  # ended by the test: its stderr is closed
            process.communicate(timeout=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server of all tests that do not kill it; each test uses its own topics."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def watched(page: Page) -> Iterator[Page]:
    """Fail the test if the page logs an error, such as a breach of its policy."""
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []

    def on_console(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not OFFLINE.match(said.text):
            wrong.append(said.text)

    def on_error(error: Error) -> None:
        wrong.append(str(error))

    page.on("console", on_console)
    page.on("pageerror", on_error)
    yield page
    page.goto("about:blank")
    page.remove_listener("console", on_console)
    page.remove_listener("pageerror", on_error)
    assert wrong == []


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """The tab that most tests share, since opening one takes as long as a test."""
    return browser.new_page()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A tab with the real clock and the real network."""
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


@pytest.fixture
def connected(page: Page, server: Server) -> Page:
    page.goto(server.url)
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Name").press("Enter")
    expect(state(page)).to_have_text("Connected as ann")
    return page


# --- What a person sees and does ------------------------------------------------------------------


def state(page: Page) -> Locator:
    return page.get_by_role("banner").get_by_role("status")


def panel(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def rows(page: Page, kind: str = "event") -> Locator:
    return page.get_by_role("list", name="Events").locator(f"li.{kind}")


def chip(page: Page, topic: str) -> Locator:
    return (
        page.get_by_role("list", name="Your topics").get_by_role("listitem").filter(has_text=topic)
    )


def subscribe(page: Page, topic: str) -> None:
    panel(page, "Subscribe").get_by_label("Topic", exact=True).fill(topic)
    panel(page, "Subscribe").get_by_label("Topic", exact=True).press("Enter")
    expect(chip(page, topic)).to_have_attribute("data-state", "on")


def publish(page: Page, topic: str, payload: str) -> None:
    panel(page, "Publish").get_by_label("Topic", exact=True).fill(topic)
    panel(page, "Publish").get_by_label("Payload").fill(payload)
    panel(page, "Publish").get_by_label("Payload").press("Control+Enter")


def publish_elsewhere(page: Page, server: Server, topic: str, payload: object) -> None:
    """Publish over REST, as another client."""
    answer = page.request.post(f"{server.url}/publish", data={"topic": topic, "payload": payload})
    assert answer.ok


# --- The way of a newcomer ------------------------------------------------------------------------


def test_the_page_says_what_to_do_next(page: Page, server: Server) -> None:
    page.goto(server.url)
    events = panel(page, "Events")

    expect(state(page)).to_have_text("Disconnected")
    expect(events).to_contain_text("Connect, subscribe to a topic, then publish to it.")
    page.get_by_role("button", name="Connect").click()
    expect(events).to_contain_text("Subscribe to a topic, then publish to it.")
    subscribe(page, "first")
    expect(events).to_contain_text("Waiting for events of first.")


def test_the_page_shows_its_own_publishes(connected: Page) -> None:
    subscribe(connected, "orders")
    publish(connected, "orders", '{"total": 12345678901234567890}')

    expect(panel(connected, "Publish")).to_contain_text("Published to orders, acknowledged in")
    expect(rows(connected)).to_have_count(1)
    expect(rows(connected).locator(".topic")).to_have_text("orders")
    expect(rows(connected).locator(".id")).not_to_be_empty()
    expect(rows(connected).locator("pre")).to_have_text('{\n  "total": 12345678901234567890\n}')
    expect(chip(connected, "orders")).to_contain_text("1")


def test_the_page_shows_the_publishes_of_others_newest_first(
    connected: Page, server: Server
) -> None:
    subscribe(connected, "news")
    publish_elsewhere(connected, server, "news", {"n": 1})
    publish_elsewhere(connected, server, "news", None)

    expect(rows(connected).locator("pre")).to_have_text(["null", '{\n  "n": 1\n}'])


def test_markup_in_a_payload_is_shown_as_text(connected: Page, server: Server) -> None:
    subscribe(connected, "<b>bold</b>")
    publish_elsewhere(connected, server, "<b>bold</b>", "<img src=x onerror=alert(1)>")

    expect(rows(connected).locator("pre")).to_have_text('"<img src=x onerror=alert(1)>"')
    expect(rows(connected).locator(".topic")).to_have_text("<b>bold</b>")
    expect(connected.locator("img, b")).to_have_count(0)


def test_unsubscribing_ends_the_topic(connected: Page, server: Server) -> None:
    subscribe(connected, "brief")
    connected.get_by_role("button", name="Unsubscribe from brief").press("Enter")

    expect(chip(connected, "brief")).to_have_count(0)
    expect(panel(connected, "Subscribe").get_by_label("Topic", exact=True)).to_be_focused()
    publish(connected, "brief", "1")
    expect(panel(connected, "Publish")).to_contain_text("TOPIC_NOT_FOUND")


# --- Publishing -----------------------------------------------------------------------------------


def test_an_unknown_topic_is_refused_with_a_way_out(connected: Page) -> None:
    publish(connected, "nobody", "1")

    expect(panel(connected, "Publish")).to_contain_text("TOPIC_NOT_FOUND")
    expect(rows(connected, "error")).to_contain_text("TOPIC_NOT_FOUND")
    connected.get_by_role("button", name="Subscribe to nobody first").click()
    expect(chip(connected, "nobody")).to_have_attribute("data-state", "on")
    publish(connected, "nobody", "1")
    expect(rows(connected).locator("pre")).to_have_text("1")


def test_text_that_is_not_json_is_published_as_a_string(connected: Page) -> None:
    subscribe(connected, "plain")
    publish(connected, "plain", "it's {here")

    expect(panel(connected, "Publish")).to_contain_text(
        "Not valid JSON, so it is sent as a string."
    )
    expect(rows(connected).locator("pre")).to_have_text('"it\'s {here"')


def test_the_curl_command_survives_the_shell(page: Page, server: Server) -> None:
    page.goto(server.url)
    panel(page, "Publish").get_by_label("Topic", exact=True).fill("it's")

    def body_of(payload: str) -> object:
        panel(page, "Publish").get_by_label("Payload").fill(payload)
        command = page.get_by_label("curl command").inner_text()
        assert "\n" not in command
        *words, body = shlex.split(command)
        assert words[:4] == ["curl", "-X", "POST", f"{server.url}/publish"]
        return json.loads(body)

    pretty = '{"a": "it\'s $HOME",\n\t"b": [1, 2]}'
    assert body_of(pretty) == {"topic": "it's", "payload": json.loads(pretty)}
    no_json = "'; echo `pwd` \"\\ \n'"
    assert body_of(no_json) == {"topic": "it's", "payload": no_json}


# --- The server's word ----------------------------------------------------------------------------


def test_stats_name_the_topics_and_a_click_subscribes(
    page: Page, browser: Browser, server: Server
) -> None:
    other = browser.new_page()
    other.goto(server.url)
    subscribe(other, "busy")
    page.goto(server.url)
    line = panel(page, "Server").get_by_role("row").filter(has_text="busy")

    expect(line).to_contain_text("1")
    line.get_by_role("button", name="Subscribe to busy").click()
    expect(chip(page, "busy")).to_have_attribute("data-state", "on")
    expect(line).to_contain_text("2")
    other.close()


def test_failing_stats_are_reported_and_retried(staged: Page, server: Server) -> None:
    staged.route("**/stats", lambda route: route.fulfill(body="<p>busy</p>"))
    staged.goto(server.url)
    expect(panel(staged, "Server").get_by_role("status")).to_contain_text("No figures")

    staged.unroute("**/stats")
    staged.clock.fast_forward("00:02")
    expect(panel(staged, "Server").get_by_role("status")).to_be_empty()


def test_a_deleted_topic_is_reported_and_its_chip_removed(connected: Page, server: Server) -> None:
    subscribe(connected, "doomed")
    assert connected.request.delete(f"{server.url}/topics/doomed").ok

    expect(rows(connected, "info")).to_contain_text("Topic has been deleted")
    expect(chip(connected, "doomed")).to_have_count(0)


# --- Connections that end -------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_the_page_reconnects_by_itself(page: Page, how: signal.Signals) -> None:
    with serving() as first:
        page.goto(first.url)
        subscribe(page, "lasting")  # connects too
        first.end(how)
        expect(state(page)).to_contain_text("Reconnecting")
        expect(chip(page, "lasting")).to_have_attribute("data-state", "waiting")
        if how is signal.SIGTERM:
            expect(rows(page, "info")).to_contain_text("Server is shutting down.")

    with serving(first.port) as second:
        expect(chip(page, "lasting")).to_have_attribute("data-state", "on")
        publish_elsewhere(page, second, "lasting", "again")
        expect(rows(page).locator("pre")).to_have_text('"again"')


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "forgotten"])
def test_missed_events_are_shown_or_reported_as_lost(page: Page, remembered: bool) -> None:
    with serving(HISTORY_SIZE="5") as server:
        page.goto(server.url)
        subscribe(page, "missed")
        page.get_by_role("button", name="Disconnect").click()
        expect(state(page)).to_have_text("Disconnected")
        count = 5 if remembered else 6
        for n in range(count):
            publish_elsewhere(page, server, "missed", n)
        page.get_by_role("button", name="Connect").click()

        if remembered:
            expect(rows(page, "note")).to_contain_text("Recovered: nothing was lost")
            expect(rows(page).locator("pre")).to_have_text(["4", "3", "2", "1", "0"])
        else:
            expect(rows(page, "lost")).to_contain_text("which the server has forgotten")
            expect(rows(page)).to_have_count(0)


def test_a_publish_survives_a_lost_connection(page: Page) -> None:
    with serving() as first:
        page.goto(first.url)
        subscribe(page, "patient")
        first.end(signal.SIGKILL)
        expect(state(page)).to_contain_text("Reconnecting")
        publish(page, "patient", '"late"')
        expect(panel(page, "Publish")).to_contain_text("once the connection is back")

    with serving(first.port):
        expect(panel(page, "Publish")).to_contain_text("Published to patient, acknowledged in")
        expect(rows(page).locator("pre")).to_have_text('"late"')


def test_after_disconnect_the_page_does_not_reconnect(staged: Page, server: Server) -> None:
    opened: list[object] = []
    staged.on("websocket", lambda socket: opened.append(socket))
    staged.goto(server.url)
    subscribe(staged, "left")
    staged.get_by_role("button", name="Disconnect").click()
    expect(state(staged)).to_have_text("Disconnected")
    staged.clock.fast_forward("02:00")

    expect(state(staged)).to_have_text("Disconnected")
    assert len(opened) == 1


# --- What only a double of the server says --------------------------------------------------------


def double(staged: Page, server: Server, answer: Callable[[WebSocketRoute], None]) -> None:
    """Open the page with a double of the server that calls `answer`, and connect."""
    staged.route_web_socket(re.compile("/ws"), answer)
    staged.goto(server.url)
    staged.get_by_role("button", name="Connect").click()


def acking(socket: WebSocketRoute) -> None:
    """Make the double ack all commands from now on."""

    def ack(text: str | bytes) -> None:
        said = json.loads(text)
        if "request_id" in said:
            answer = {"type": "ack", "request_id": said["request_id"], "topic": said["topic"]}
            socket.send(json.dumps(answer))

    socket.on_message(ack)


def test_after_a_refusal_by_policy_the_page_does_not_reconnect(
    staged: Page, server: Server
) -> None:
    opened: list[WebSocketRoute] = []

    def refuse(socket: WebSocketRoute) -> None:
        opened.append(socket)
        socket.close(code=1008, reason="ORIGIN")

    double(staged, server, refuse)
    refused = "Not reconnecting: refused by the server (1008 ORIGIN)"
    expect(state(staged)).to_have_text(refused)
    staged.clock.fast_forward("02:00")
    expect(state(staged)).to_have_text(refused)
    assert len(opened) == 1


def test_a_silent_connection_is_given_up(staged: Page, server: Server) -> None:
    opened: list[WebSocketRoute] = []
    double(staged, server, lambda socket: opened.append(socket))  # which answers no ping
    expect(state(staged)).to_contain_text("Connected")
    staged.clock.fast_forward("00:11")

    expect(rows(staged, "note").last).to_contain_text("Connection closed: the connection was lost")
    expect(rows(staged, "note").first).to_contain_text("Connected again")
    assert len(opened) == 2


def test_a_flood_is_bounded_and_can_be_paused(staged: Page, server: Server) -> None:
    opened: list[WebSocketRoute] = []

    def send(first: int, last: int) -> None:
        for n in range(first, last):
            message = {"id": str(n), "payload": n}
            opened[0].send(json.dumps({"type": "event", "topic": "t", "message": message}))

    double(staged, server, lambda socket: opened.append(socket))
    expect(state(staged)).to_contain_text("Connected")
    acking(opened[0])
    subscribe(staged, "t")
    send(0, 300)
    expect(panel(staged, "Events")).to_contain_text("300 received")
    expect(rows(staged)).to_have_count(200)
    expect(rows(staged).first).to_contain_text("299")

    staged.get_by_role("button", name="Pause").click()
    send(300, 303)
    expect(staged.get_by_role("button", name="Resume (3 new)")).to_be_visible()
    expect(rows(staged).first).to_contain_text("299")
    staged.get_by_role("button", name="Resume").click()
    expect(rows(staged).first).to_contain_text("302")

    staged.get_by_role("button", name="Clear").click()
    expect(rows(staged)).to_have_count(0)


def test_a_gap_is_shown_in_its_place(staged: Page, server: Server) -> None:
    opened: list[WebSocketRoute] = []
    double(staged, server, lambda socket: opened.append(socket))
    expect(state(staged)).to_contain_text("Connected")
    acking(opened[0])
    subscribe(staged, "t")
    gap = {"id": "info_1", "payload": {"reason": "GAP", "dropped": 17}}
    opened[0].send(json.dumps({"type": "info", "topic": "t", "message": gap}))

    expect(rows(staged, "lost")).to_contain_text("Missing here: 17 events")


def test_the_page_fits_a_phone_and_a_desktop(page: Page, server: Server) -> None:
    page.goto(server.url)
    subscribe(page, "long" * 40)
    expect(panel(page, "Server")).to_contain_text("long" * 40)

    for width in (380, 1000, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
