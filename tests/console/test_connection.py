"""The connection of the console: how it ends, what is shown then, and what is recovered."""

import json
import re
import signal
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.backstage import Backstage
from tests.support.blocking import blocking_proxy
from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    acking,
    double,
    panel,
    payloads,
    publish,
    publish_elsewhere,
    rows,
    run_clock,
    serving,
    state,
    stop_clock,
    subscribe,
    topic_line,
    visit,
)
from tests.support.proxy import proxy

pytestmark = needs_chromium
BANNER = "#banner"
IS_OFF = re.compile("Not connected since|No answer from the server since")
# Hides the page, or shows it again; headless Chromium has no other way.
HIDDEN = """(hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
KEEP_SOCKETS = """window.sockets = [];
window.WebSocket = class extends WebSocket {
    constructor(...options) {
        super(...options);
        sockets.push(this);
    }
};"""
HONEST = 3_000  # ms within which the console must say that it is cut off


def time_of(row: Locator) -> datetime:
    return datetime.strptime(row.locator("time").inner_text(), "%H:%M:%S.%f").replace(tzinfo=UTC)


# --- A server that goes ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_the_console_reconnects_by_itself(page: Page, how: signal.Signals) -> None:
    with serving() as first:
        visit(page, first, "?topic=lasting")
        expect(topic_line(page, "lasting")).to_have_attribute("data-phase", "on")
        expect(page.locator(BANNER)).to_be_hidden()
        first.end(how)
        expect(page.locator(BANNER)).to_contain_text(re.compile(r"Not connected since \d\d:\d\d"))
        expect(page.locator(BANNER)).to_contain_text(re.compile(r"Attempt \d+ in \d+\.\d s"))
        expect(topic_line(page, "lasting")).to_have_attribute("data-phase", "waiting")
        if how is signal.SIGTERM:
            expect(rows(page, "info")).to_contain_text("Server is shutting down.")

    with serving(first.port) as second:
        expect(topic_line(page, "lasting")).to_have_attribute("data-phase", "on")
        expect(page.locator(BANNER)).to_be_hidden()
        publish_elsewhere(page, second, "lasting", "again")
        expect(payloads(page)).to_have_text('"again"')


def test_try_now_does_not_wait_for_the_pause(staged: Page) -> None:
    with serving() as first:
        visit(staged, first)
        first.end(signal.SIGKILL)
    expect(state(staged)).to_have_text("Reconnecting")
    stop_clock(staged)  # no pause ends by itself
    with serving(first.port):
        staged.get_by_role("button", name="Try now").click()
        expect(state(staged)).to_have_text("Connected")


def test_a_frozen_server_is_reported_within_3_seconds(staged: Page) -> None:
    """The server answers nothing, and no connection ends."""
    with serving() as server:
        visit(staged, server)
        staged.clock.run_for(2_000)
        expect(staged.locator("#latency")).not_to_be_empty()
        stop_clock(staged)
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(HONEST // 250):
            staged.clock.run_for(250)
        expect(staged.locator(BANNER)).to_contain_text("No answer from the server since")
        expect(state(staged)).to_have_text("No answer")
        server.process.send_signal(signal.SIGCONT)
        expect(state(staged)).to_have_text("Connected")
        expect(staged.locator(BANNER)).to_be_hidden()


def test_a_frozen_server_is_given_up_at_last(staged: Page) -> None:
    with serving() as server:
        visit(staged, server)
        expect(topic_line(staged, "here")).to_have_attribute("data-phase", "on")
        stop_clock(staged)
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(48):
            staged.clock.run_for(250)
        expect(rows(staged, "note").last).to_contain_text("the connection was lost (1006)")
        server.process.send_signal(signal.SIGCONT)
        run_clock(staged, rows(staged, "recovery").count)
        expect(state(staged)).to_have_text("Connected")
        # It was away since the server fell silent, not since it was given up.
        back, lost = rows(staged, "recovery").last, rows(staged, "note").last
        away = re.search(r"Back after ([\d.]+) s", back.inner_text())
        assert away is not None
        assert float(away[1]) > (time_of(back) - time_of(lost)).total_seconds() + 5


def test_a_page_that_was_hidden_gives_a_silent_server_up_soon(staged: Page) -> None:
    """A phone has often lost its connection while it was locked."""
    with serving() as server:
        visit(staged, server)
        staged.evaluate(HIDDEN, True)
        stop_clock(staged)
        staged.clock.run_for(2_000)
        server.process.send_signal(signal.SIGSTOP)
        staged.evaluate(HIDDEN, False)
        for _ in range(HONEST // 250 + 1):
            staged.clock.run_for(250)
        expect(rows(staged, "note").last).to_contain_text("the connection was lost (1006)")
        server.process.send_signal(signal.SIGCONT)
        staged.clock.resume()
        expect(state(staged)).to_have_text("Connected")


def test_a_network_that_is_gone_is_reported(page: Page, server: Server) -> None:
    visit(page, server)
    page.context.set_offline(True)
    expect(page.locator(BANNER)).to_contain_text(IS_OFF)
    page.context.set_offline(False)
    expect(state(page)).to_have_text("Connected")
    expect(page.locator(BANNER)).to_be_hidden()


def test_a_publish_survives_a_lost_connection(page: Page) -> None:
    with serving() as first:
        visit(page, first)
        subscribe(page, "patient")
        first.end(signal.SIGKILL)
        expect(state(page)).to_have_text("Reconnecting")
        publish(page, "patient", '"late"')
        expect(panel(page, "Publish")).to_contain_text("once the connection is back")

    with serving(first.port):
        expect(panel(page, "Publish")).to_contain_text("Published to patient, acknowledged in")
        expect(payloads(page)).to_have_text('"late"')


def test_nothing_is_sent_while_the_connection_is_closing(staged: Page) -> None:
    """Chromium would log an error."""
    staged.add_init_script(KEEP_SOCKETS)
    with Backstage() as backstage, serving() as server:
        way = backstage.enter(proxy(server.port))
        staged.goto(f"http://127.0.0.1:{way.port}/?topic=here")
        expect(topic_line(staged, "here")).to_have_attribute("data-phase", "on")
        (here,) = staged.request.get(f"{server.url}/connections").json()["connections"]
        stop_clock(staged)
        way.deaf = True  # the answer to the server's Close does not arrive
        body = {"client_id": here["client_id"]}
        assert staged.request.post(f"{server.url}/disconnect", data=body).ok
        staged.wait_for_function("sockets[0].readyState === WebSocket.CLOSING")
        staged.clock.run_for(2_000)
        assert staged.evaluate("sockets[0].readyState === WebSocket.CLOSING")


# --- A network that blocks WebSocket --------------------------------------------------------------


def test_where_websockets_are_blocked_the_console_uses_streams(page: Page, server: Server) -> None:
    with Backstage() as backstage:
        way = backstage.enter(blocking_proxy(server.port))
        page.goto(f"http://127.0.0.1:{way.port}/?topic=streamed")
        expect(topic_line(page, "streamed")).to_have_attribute("data-phase", "on")
        expect(page.get_by_role("banner")).to_contain_text("over SSE")
        cut = page.get_by_role("button", name="Cut for 3 s")
        expect(cut).to_be_disabled()
        expect(cut).to_have_attribute("title", re.compile("Only a WebSocket can be cut"))
        publish(page, "streamed", '"through"')
        expect(panel(page, "Publish")).to_contain_text("Published to streamed")
        expect(payloads(page)).to_have_text('"through"')


# --- Recovery -------------------------------------------------------------------------------------


def test_a_cut_shows_what_was_missed_and_recovered(staged: Page) -> None:
    page = staged
    with serving(HISTORY_SIZE="10") as server:
        visit(page, server, "?topic=kept&topic=quiet")
        expect(topic_line(page, "quiet")).to_have_attribute("data-phase", "on")
        publish_elsewhere(page, server, "kept", 0)
        expect(payloads(page)).to_have_text(["0"])
        stop_clock(page)  # however long the publishes take, the cut lasts
        page.get_by_role("button", name="Cut for 3 s").click()
        page.clock.run_for(1_000)
        expect(page.locator(BANNER)).to_contain_text("You cut the connection. Back in")
        for n in (1, 2):
            publish_elsewhere(page, server, "kept", n)
        page.clock.resume()

        expect(rows(page, "recovery")).to_have_text(
            re.compile(r"Back after \d+\.\d s: 2 missed, 2 recovered \(kept\)\.")
        )
        expect(page.locator("#status")).to_contain_text("2 missed, 2 recovered (kept).")
        expect(payloads(page)).to_have_text(["2", "1", "0"])
        expect(rows(page).get_by_text("recovered")).to_have_count(2)
        publish_elsewhere(page, server, "kept", 3)
        expect(payloads(page).first).to_have_text("3")
        expect(rows(page).get_by_text("recovered")).to_have_count(2)


def test_the_status_line_does_not_cover_the_bar_of_a_lost_connection(staged: Page) -> None:
    staged.set_viewport_size(PHONE)
    with serving(HISTORY_SIZE="10") as server:
        visit(staged, server, "?topic=kept")
        expect(topic_line(staged, "kept")).to_have_attribute("data-phase", "on")
        stop_clock(staged)  # so the status line stays
        staged.get_by_role("button", name="Cut for 3 s").click()
        staged.clock.run_for(3_500)
        expect(staged.locator("#status")).to_contain_text("Back after")
        server.end(signal.SIGKILL)
        expect(staged.locator(BANNER)).to_be_visible()
        said = staged.locator("#status").bounding_box()
        bar = staged.locator(BANNER).bounding_box()
        assert said
        assert bar
        assert said["y"] + said["height"] <= bar["y"]


def test_a_cut_says_which_topics_have_no_history(page: Page) -> None:
    with serving(HISTORY_RULES="kept/=10:60") as server:
        visit(page, server, "?topic=kept/1&topic=plain")
        expect(topic_line(page, "plain")).to_have_attribute("data-phase", "on")
        page.get_by_role("button", name="Cut for 3 s").click()
        row = rows(page, "recovery")
        expect(row).to_contain_text("nothing was lost (kept/1)")
        expect(row).to_contain_text("plain has no history: start the server with HISTORY_SIZE=100")
        expect(rows(page, "lost")).to_contain_text("plain: Something may be missing here")


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "forgotten"])
def test_missed_events_are_shown_or_reported_as_lost(page: Page, remembered: bool) -> None:
    with serving(HISTORY_SIZE="5") as server:
        visit(page, server, "?topic=missed")
        expect(topic_line(page, "missed")).to_have_attribute("data-phase", "on")
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Disconnect").click()
        page.get_by_role("button", name="Close").click()
        expect(state(page)).to_have_text("Disconnected")
        count = 5 if remembered else 6
        for n in range(count):
            publish_elsewhere(page, server, "missed", n)
        page.locator(BANNER).get_by_role("button", name="Connect").click()

        if remembered:
            expect(rows(page, "recovery")).to_contain_text("5 missed, 5 recovered (missed)")
            expect(payloads(page)).to_have_text(["4", "3", "2", "1", "0"])
        else:
            expect(rows(page, "recovery")).to_contain_text(
                "the history of missed does not reach back so far"
            )
            expect(rows(page, "lost")).to_contain_text("which the server has forgotten")
            expect(rows(page)).to_have_count(0)


def test_after_disconnect_the_console_does_not_reconnect(staged: Page, server: Server) -> None:
    opened: list[object] = []
    staged.on("websocket", lambda socket: opened.append(socket))
    visit(staged, server)
    staged.get_by_role("button", name="Settings").click()
    staged.get_by_role("button", name="Disconnect").click()
    expect(state(staged)).to_have_text("Disconnected")
    staged.clock.fast_forward("02:00")

    expect(state(staged)).to_have_text("Disconnected")
    assert len(opened) == 1


def test_the_name_is_the_client_id(page: Page, server: Server) -> None:
    visit(page, server)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Name").press("Enter")
    expect(state(page)).to_have_text("Connected")
    answer = page.request.get(f"{server.url}/connections").json()
    assert [it["client_id"] for it in answer["connections"]] == ["ann"]


# --- What only a double of the server says --------------------------------------------------------


def test_after_a_refusal_by_policy_the_console_does_not_reconnect(
    staged: Page, server: Server
) -> None:
    opened = double(staged, server, lambda it: it.close(code=1008, reason="ORIGIN"))
    expect(state(staged)).to_have_text("Refused")
    refused = "Not reconnecting: refused by the server (1008 ORIGIN)."
    expect(staged.locator(BANNER)).to_contain_text(refused)
    staged.clock.fast_forward("02:00")
    expect(staged.locator(BANNER)).to_contain_text(refused)
    assert len(opened) == 1


def test_a_gap_is_shown_in_its_place(staged: Page, server: Server) -> None:
    opened = double(staged, server, acking)
    expect(topic_line(staged, "t")).to_have_attribute("data-phase", "on")
    gap = {"id": "info_1", "payload": {"reason": "GAP", "dropped": 17}}
    opened[0].send(json.dumps({"type": "info", "topic": "t", "message": gap}))
    staged.clock.run_for(200)

    expect(rows(staged, "lost")).to_contain_text("t: Missing here: 17 events")
