"""The code that the console shows for what one just did: each piece is run."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PATIENCE, needs_chromium
from tests.support.console import (
    Server,
    panel,
    payloads,
    publish,
    publish_elsewhere,
    serving,
    state,
    subscribe,
    topic_line,
    visit,
    watched,
)
from tests.support.eventually import wait_until
from tests.support.process import ROOT
from tests.support.programs import needs
from tests.support.tokens import SECRET, sign

pytestmark = [needs_chromium, needs("curl")]
LOG_JSON = """const { log } = console;
    console.log = (it) => log(typeof it === "string" ? it : JSON.stringify(it));"""
LANGUAGES = ["curl", "Python", "JavaScript"]
TOPIC = 'it\'s "q" $HOME `id` \\ <b> ü'
PAYLOADS = {
    "quotes": {
        "it's": '"q" $HOME `id` \\ \n\t\u2028 <b> 😀',
        "nested": [None, True, False, [], {}],
    },
    "numbers": [12345678901234567890123, 0.1, -1.5e-7, 0, -7],
    "long": {"words": ["word " * 5] * 30, "deep": {"er": {"a" * 70: ["b" * 70, {"c": None}]}}},
    "proto": {"__proto__": {"a": 1}},
    "text": "no {json}",
}


@contextmanager
def started(code: str, language: str, token: str = "") -> Iterator[Callable[[], str]]:
    """Run code in a shell or in Python, and yield what reads its next line."""
    command = ["sh", "-c", code] if language == "curl" else [sys.executable, "-uc", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "clients/python"), "TOKEN": token}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        guard = threading.Timer(2 * PATIENCE / 1000, process.kill)  # also ends a read
        guard.start()
        try:
            yield process.stdout.readline
        finally:
            guard.cancel()
            process.kill()


def run(code: str, language: str, browser: Browser, token: str = "") -> str:
    """Run code until it ends, and return what it says."""
    if language == "JavaScript":
        return run_in_page(code.replace("YOUR TOKEN", token), browser)
    command = ["sh", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "clients/python"), "TOKEN": token}
    result = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE / 1000,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def foreign_page(browser: Browser) -> tuple[Page, list[str]]:
    """Open a page of another origin, and return what it logs, values as JSON."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_script_tag(content=LOG_JSON)
    return page, said


def run_in_page(code: str, browser: Browser) -> str:
    """Run code as a module of a page of another origin until it ends, and return what it logs."""
    page, said = foreign_page(browser)
    with page.expect_console_message(lambda message: message.text == "done"):
        page.add_script_tag(content=f'{code}\nconsole.log("done");', type="module")
    page.close()
    return "\n".join(said)


def code(page: Page, language: str) -> str:
    panel_ = page.get_by_role("complementary", name="Code")
    panel_.get_by_role("button", name=language, exact=True).click()
    return page.get_by_label("Code of what you did last").inner_text()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with serving(JWT_SECRET=SECRET) as running:
        yield running


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAYLOADS)
def test_the_code_of_a_publish_publishes_the_same(
    page: Page, browser: Browser, server: Server, name: str, language: str
) -> None:
    payload = PAYLOADS[name]
    if language == "JavaScript" and name == "numbers":
        payload = [0.1, -1.5e-7, 0, -7]  # JavaScript has no such integers
    topic = f"{TOPIC} {name} {language}"
    visit(page, server)
    subscribe(page, topic)
    typed = payload if name == "text" else json.dumps(payload, indent=1)
    publish(page, topic, str(typed))
    expect(payloads(page)).to_have_count(1)
    expected = payloads(page).inner_text()

    page.get_by_role("button", name="Clear").click()
    expect(payloads(page)).to_have_count(0)
    run(code(page, language), language, browser)
    expect(payloads(page)).to_have_text(expected)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_of_a_subscribe_listens(
    page: Page, browser: Browser, server: Server, language: str
) -> None:
    topic = f"{TOPIC} listen {language}"
    visit(page, server)
    subscribe(page, topic)
    text = code(page, language)
    page.get_by_role("button", name=f"Unsubscribe from {topic}").click()

    def publish_until(heard: Callable[[], bool]) -> None:
        """Publish as soon as the code has subscribed, which makes the topic."""
        body = {"topic": topic, "payload": "heard"}
        wait_until(lambda: page.request.post(f"{server.url}/publish", data=body).ok)
        assert heard()

    if language == "JavaScript":
        other, _ = foreign_page(browser)
        other.add_script_tag(content=text, type="module")
        with other.expect_console_message(lambda message: "heard" in message.text):
            publish_until(lambda: True)
        other.close()
        return
    with started(text, language) as read:
        publish_until(lambda: any("heard" in read() for _ in range(10)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_with_access_on_the_code_needs_a_token_and_never_shows_it(
    browser: Browser, guarded: Server, language: str
) -> None:
    token = sign()
    page = browser.new_page()
    with watched(page):
        page.goto(f"{guarded.url}/?topic=guarded")
        page.evaluate("(token) => sessionStorage.setItem('token', token)", token)
        page.reload()
        expect(topic_line(page, "guarded")).to_have_attribute("data-phase", "on")
        publish(page, "guarded", "1")
        expect(payloads(page)).to_have_text(["1"])
        text = code(page, language)
        assert token not in text
        run(text, language, browser, token)
        expect(payloads(page)).to_have_text(["1", "1"])
    page.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_of_a_rest_call_makes_it(
    page: Page, browser: Browser, server: Server, language: str
) -> None:
    """The code that other views show."""
    name = f"{TOPIC} {language}"
    script = """async ([method, path, body]) =>
        (await import("/console/code.js")).rest(method, path, body)"""
    page.goto(f"{server.url}/?topic=here")
    key = {"curl": "curl", "Python": "python", "JavaScript": "js"}[language]

    def call(*arguments: Any) -> str:
        return run(page.evaluate(script, list(arguments))[key], language, browser)

    assert "created" in call("POST", "topics", {"name": name})
    listed = page.request.get(f"{server.url}/topics?prefix={TOPIC[:4]}").json()["topics"]
    assert name in listed
    answer = call("GET", "topics?limit=1000")
    assert language in answer
    path = page.evaluate("(name) => `topics/${encodeURIComponent(name)}`", name)
    assert "deleted" in call("DELETE", path)


def test_the_panel_names_what_was_done_and_copies(page: Page, server: Server) -> None:
    visit(page, server, "?topic=named")
    publish_elsewhere(page, server, "named", 1)
    publish(page, "named", "1")
    expect(panel(page, "Publish")).to_contain_text("Published to named")
    aside = page.get_by_role("complementary", name="Code")
    expect(aside).to_contain_text("Publish to named")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    aside.get_by_role("button", name="Python").click()
    aside.get_by_role("button", name="Copy").click()
    expect(aside.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "await client.publish(" in copied
    expect(state(page)).to_have_text("Connected")
