"""examples/llm: viewers that are cut or late in mid-answer get the whole answer once."""

import importlib.util
import os
import signal
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.backstage import Backstage
from tests.support.browser import needs_chromium
from tests.support.eventually import wait_until
from tests.support.examples import (
    EXAMPLES,
    call,
    commands,
    copied,
    cut,
    opened,
    remembered,
    started,
)
from tests.support.proxy import Proxy
from tests.support.server import Running

pytestmark = needs_chromium
QUESTION = "Why is <b>the sky</b> blue?"
LOST = r"ws://\S+: .* \((1005|1006)\); connecting again in .*"


def whole(question: str) -> str:
    """Return the answer that the fake model gives."""
    found = importlib.util.spec_from_file_location("model", EXAMPLES / "llm/model.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return "".join(module.model(question))


def ask(page: Page) -> None:
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_role("button", name="Ask").click()


def has_begun(here: Running) -> bool:
    """Return whether ten tokens of an answer were published."""
    _, answer = call(f"{here.url}/topics?prefix=answers/")
    return any(len(remembered(here, topic)) >= 10 for topic in answer["topics"])


def test_a_viewer_that_is_cut_and_one_that_is_late_get_the_whole_answer_once(
    browser: Browser,
    backstage: Backstage,
    root: Path,
    tmp_path: Path,
    here: Running,
    way: Proxy,
) -> None:
    (command,) = commands("Streamed answers")
    page = "examples/llm/index.html"
    cuttable = (copied(tmp_path / "cuttable", way.port) / page).as_uri()
    with (
        started(command, root) as model,
        opened(browser, (root / page).as_uri()) as calm,
        opened(browser, cuttable, says=LOST) as hurt,
    ):
        calm.wait_for_function(  # until the model listens
            "async (url) => 'questions' in (await (await fetch(url)).json()).topics",
            arg=f"{here.url}/topics",
        )
        expect(hurt.locator("#state")).to_have_text("open")
        ask(calm)
        wait_until(lambda: has_begun(here))
        os.killpg(model.pid, signal.SIGSTOP)  # so that the rest certainly happens in mid-answer
        hurt.wait_for_function("Number(document.querySelector('#count').textContent) >= 10")
        expect(hurt.locator("article:not(.done)")).to_be_visible()
        with hurt.expect_websocket():  # a new one
            backstage.run(cut(way))
        with opened(browser, (root / page).as_uri()) as late:
            late.wait_for_function("Number(document.querySelector('#count').textContent) >= 10")
            os.killpg(model.pid, signal.SIGCONT)
            expected = whole(QUESTION)
            for viewer in (calm, hurt, late):
                expect(viewer.locator("article.done")).to_be_visible()
                assert viewer.locator("#text").text_content() == expected
                expect(viewer.locator("#asked")).to_have_text(QUESTION)
                expect(viewer.get_by_role("status")).to_have_text(
                    f"open, {len(expected.split(' ')) - 1} tokens"
                )


def test_a_viewer_may_cut_its_connection_and_a_missing_model_is_named(
    browser: Browser, root: Path
) -> None:
    address = (root / "examples/llm/index.html").as_uri()
    with opened(browser, address, says=LOST) as page:
        expect(page.locator("#state")).to_have_text("open")
        with page.expect_websocket():  # a new one
            page.get_by_role("button", name="Cut my connection").click()
        expect(page.locator("#state")).to_have_text("open")
        ask(page)
        expect(page.get_by_role("status")).to_contain_text("no model is running")
