"""examples/chat.html: two browsers chat, and a third sees what they said."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium
from tests.support.examples import opened
from tests.support.server import Running

pytestmark = needs_chromium
HTML = "<img src=x onerror=document.title='harmed'> & <b>bold</b>"


def say(page: Page, name: str, text: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_two_browsers_see_each_other_and_a_reload_shows_the_history(
    browser: Browser, root: Path, here: Running
) -> None:
    address = (root / "examples/chat.html").as_uri()
    with opened(browser, address) as ann, opened(browser, address) as bob:
        for page in (ann, bob):
            expect(page.locator("#state")).to_have_text("open")
        say(ann, "Ann", "Good morning")
        said = bob.locator("li p")
        expect(said).to_have_text(["Good morning"])
        say(bob, "Bob", HTML)
        for page in (ann, bob):
            expect(page.locator("li p")).to_have_text(["Good morning", HTML])
            expect(page.locator("li b")).to_have_text(["Ann", "Bob"])
        expect(ann.locator("li.mine b")).to_have_text(["Ann"])
        expect(ann.get_by_label("Message")).to_have_value("")
        ann.reload()
        expect(ann.locator("li p")).to_have_text(["Good morning", HTML])
        expect(ann.locator("li.mine b")).to_have_text(["Ann"])  # who has kept her name
        assert ann.locator("li img, li p b").count() == 0
        assert ann.title() == "Chat"
        assert here.topics() == {"chat": 2}


@pytest.mark.parametrize("payload", [None, "words", {"text": 1}, {"name": "Eve"}, ["a"]])
def test_a_message_of_another_form_is_ignored(
    browser: Browser, root: Path, here: Running, payload: object
) -> None:
    with opened(browser, (root / "examples/chat.html").as_uri()) as ann:
        request = ann.request
        request.post(f"{here.url}/topics", data={"name": "chat"})
        for sent in (payload, {"name": "Bob", "text": "still here"}):
            body = {"topic": "chat", "payload": sent}
            assert request.post(f"{here.url}/publish", data=body).status == 200
        expect(ann.locator("li p")).to_have_text(["still here"])
