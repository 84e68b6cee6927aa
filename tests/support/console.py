"""The console in a real browser: a server to show, and what a person sees and does.

Tests of the console are synchronous: Playwright's own loop runs in this thread while the browser is
open, and the server is a process that can be killed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from playwright.sync_api import (
    ConsoleMessage,
    Error,
    Locator,
    Page,
    WebSocketRoute,
    expect,
)

from tests.support.browser import PATIENCE
from tests.support.npm import NPM
from tests.support.process import PATIENCE as PROCESS_PATIENCE
from tests.support.process import ROOT

# Chromium itself logs these while the server goes or is gone, or refuses a request; no script can
# keep it from that.
OFFLINE = re.compile(
    r"Failed to load resource: (net::ERR_|.* status of \d+)"
    r"|WebSocket connection to .* failed: "
    # Warnings of the client, which tests cause.
    r"|ws://[^ ]+: |[^ ]+: lost: "
)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1400, "height": 900}
# Returns what axe-core finds, each with the elements that it concerns.
CHECK = """async () => (await axe.run(document)).violations.map(({ id, help, nodes }) =>
    `${id}: ${help}: ${nodes.map((it) => `${it.html} ${it.failureSummary}`).join(" | ")}`)"""
# Returns what a finger may miss: visible controls of less than 44 px, but for links in a text.
SMALL = """() => [...document.querySelectorAll(
        "a, button, input, select, textarea, summary, [role=button]")]
    .filter((it) => it.checkVisibility() && !it.matches(".skip"))
    .map((it) => [it.getBoundingClientRect(), it])
    .filter(([{ width, height }]) => width < 44 || height < 44)
    .map(([{ width, height }, it]) => `${it.outerHTML.slice(0, 120)}: ${width} x ${height}`)"""


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
        self.process.communicate(timeout=PROCESS_PATIENCE)


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
    guard = threading.Timer(PROCESS_PATIENCE, process.kill)
    guard.start()
    try:
        while not (found := re.search(r"listening on (http://\S+)", "".join(said[-1:]))):
            said.append(process.stderr.readline())
            assert said[-1], "the server ended:\n" + "".join(said)
        guard.cancel()
        yield Server(process, found[1])
    finally:
        guard.cancel()
        process.kill()
        with suppress(ValueError):  # ended by the test: its stderr is closed
            process.communicate(timeout=PROCESS_PATIENCE)


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
    assert not wrong, wrong


# --- What a person sees and does ------------------------------------------------------------------


def state(page: Page) -> Locator:
    """The state of the connection, in the header."""
    return page.get_by_role("banner").get_by_role("status")


def panel(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def rows(page: Page, kind: str = "event") -> Locator:
    """The rows of a kind in the list of events, newest first."""
    return page.get_by_role("list", name="Events, newest first").locator(f"> li.{kind}")


def payloads(page: Page) -> Locator:
    return rows(page).locator(".line")


def topic_line(page: Page, topic: str) -> Locator:
    """A topic in the list of those that the user has subscribed to."""
    return page.get_by_role("list", name="Your topics").locator(
        f"> li[data-topic={json.dumps(topic, ensure_ascii=False)}]"
    )


def visit(page: Page, server: Server, query: str = "?topic=here") -> None:
    """Open the console, and wait until it is connected. With a topic no demo starts."""
    page.goto(f"{server.url}/{query}")
    expect(state(page)).to_have_text("Connected")


def subscribe(page: Page, topic: str) -> None:
    panel(page, "Topics").get_by_label("Topic", exact=True).fill(topic)
    panel(page, "Topics").get_by_label("Topic", exact=True).press("Enter")
    expect(topic_line(page, topic)).to_have_attribute("data-phase", "on")


def publish(page: Page, topic: str, payload: str) -> None:
    panel(page, "Publish").get_by_label("Topic", exact=True).fill(topic)
    panel(page, "Publish").get_by_label("Payload").fill(payload)
    panel(page, "Publish").get_by_label("Payload").press("Control+Enter")


def run_code(page: Page) -> Any:
    """Run the curl command of the code panel in a shell, and return its answer."""
    command = page.get_by_label("Code of what you did last").inner_text()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def publish_elsewhere(page: Page, server: Server, topic: str, payload: object) -> None:
    """Publish over REST, as another client."""
    answer = page.request.post(f"{server.url}/publish", data={"topic": topic, "payload": payload})
    assert answer.ok, answer.text()


def stop_clock(page: Page) -> None:
    """Stop the clock of a staged page; only `page.clock.run_for` moves it from now on."""
    while True:
        soon = page.evaluate("Date.now()") / 1000 + 1
        try:
            page.clock.pause_at(datetime.fromtimestamp(soon, UTC))
            return
        except Error as error:
            if "past" not in error.message:
                raise  # else this machine is so busy that the second has passed


def run_clock(page: Page, come: Callable[[], object], step: int = 250) -> None:
    """Move the clock of a staged page by steps in ms until `come()` returns True."""
    end = time.monotonic() + PATIENCE / 1000
    while not come():
        assert time.monotonic() < end
        page.clock.run_for(step)


# --- What every view must do ----------------------------------------------------------------------


@cache
def _axe() -> str:
    return (NPM / "node_modules/axe-core/axe.min.js").read_text()


def assert_accessible(page: Page) -> None:
    """Fail if axe-core finds anything wrong with what the page shows now. Needs `needs_npm`."""
    page.evaluate(_axe())
    found = page.evaluate(CHECK)
    assert not found, "\n".join(found)


def assert_fits(page: Page) -> None:
    """Fail if the page scrolls sideways, or on a phone has a control that a finger may miss."""
    width, shown = page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
    assert shown <= width, f"{shown} px are shown in {width} px"
    found = page.evaluate(SMALL) if width == PHONE["width"] else []
    assert not found, "\n".join(found)


# --- A double of the server, for what the real one never sends ------------------------------------


def double(
    page: Page, server: Server, answer: Callable[[WebSocketRoute], object]
) -> list[WebSocketRoute]:
    """Open the page with a double of the server that calls `answer` for each WebSocket.

    Return the WebSockets, to which later ones are added.
    """
    opened: list[WebSocketRoute] = []

    def accept(socket: WebSocketRoute) -> None:
        opened.append(socket)
        answer(socket)

    page.route_web_socket(re.compile("/ws"), accept)
    page.goto(f"{server.url}/?topic=t")
    return opened


def acking(socket: WebSocketRoute) -> None:
    """Make the double ack all commands from now on."""

    def ack(text: str | bytes) -> None:
        said = json.loads(text)
        if said.get("request_id") == "beat":
            socket.send('{"type":"pong","request_id":"beat"}')
        elif "request_id" in said:
            answer = {"type": "ack", "request_id": said["request_id"], "topic": said["topic"]}
            socket.send(json.dumps(answer))

    socket.on_message(ack)
