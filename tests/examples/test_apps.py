"""examples/fastapi_app.py and django_app.py: users get tokens, and notes that are theirs alone."""

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from playwright.sync_api import Browser, expect

from tests.support.backstage import Backstage
from tests.support.browser import evaluate, needs_chromium
from tests.support.examples import EXAMPLES, call
from tests.support.markdown import blocks, section
from tests.support.notes import App, send, serving
from tests.support.process import ROOT

RECIPES = section((ROOT / "docs/security.md").read_text(), "Issue tokens")
HTML = "<b>Hello</b> & <img src=x onerror=document.title='harmed'>"


@pytest.fixture(params=["FastAPI", "Django"])
def app(request: pytest.FixtureRequest, backstage: Backstage, tmp_path: Path) -> Iterator[App]:
    with serving(request.param, backstage, tmp_path) as running_app:
        yield running_app


@needs_chromium
def test_a_note_reaches_its_user_alone(browser: Browser, app: App) -> None:
    refused = r"Failed to load resource: .* status of (404|503) .*"
    with app.visited(browser, "ann", says=refused) as ann:
        send(ann, "+", "hello")
        expect(ann.get_by_role("status")).to_have_text("There is no such user.")
        send(ann, "bob", "hello")  # who has never been there
        expect(ann.get_by_role("status")).to_contain_text("Not sent")
        with app.visited(browser, "bob") as bob:
            app.wait_for_users(ann, 2)
            send(ann, "bob", HTML)
            expect(ann.get_by_role("status")).to_have_text("Sent.")
            expect(bob.get_by_role("listitem")).to_have_text([f"ann: {HTML}"])
            send(bob, "ann", "Good morning")
            expect(ann.get_by_role("listitem")).to_have_text(["bob: Good morning"])
            bob.reload()
            expect(bob.get_by_role("listitem")).to_have_text([f"ann: {HTML}"])
            assert bob.title() == "Notes"


@needs_chromium
def test_the_token_of_a_user_gives_the_own_topics_only(browser: Browser, app: App) -> None:
    stranger = browser.new_context()
    answer = stranger.request.get(f"{app.url}token", max_redirects=0)
    assert answer.status == (401 if app.framework == "FastAPI" else 302)
    stranger.close()
    with app.visited(browser, "ann") as ann:
        answer = ann.request.get(f"{app.url}token")
        assert "no-store" in answer.headers["cache-control"]
        token = answer.text()
        subject = jwt.decode(token, app.secret, ["HS256"])["sub"]
        wanted = """([server, token, topic]) => import(`${server}/client.js`).then(({ connect }) =>
            connect(undefined, { token }).subscribe(topic).ready()
                .then(() => "ready", (error) => error.code))"""
        for topic, outcome in ((f"user/{subject}/notes", "ready"), ("user/9/notes", "FORBIDDEN")):
            assert evaluate(ann, wanted, [app.server.url, token, topic]) == outcome
        body = {"topic": f"user/{subject}/notes", "payload": "forged"}
        answered = call(f"{app.server.url}/publish", body, Authorization=f"Bearer {token}")
        assert answered[0] == 403


@needs_chromium
def test_a_page_of_another_site_cannot_send_a_note(browser: Browser, app: App) -> None:
    """Its requests may carry the user's login, but no JSON and no token of Django."""
    form, path, status = {
        "FastAPI": ('{"to": "ann", "text": "forged"}', "notes", 422),
        "Django": ("to=ann&text=forged", "", 403),
    }[app.framework]
    with app.visited(browser, "ann") as ann:
        app.wait_for_users(ann, 1)
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = ann.request.post(f"{app.url}{path}", data=form, headers={"Content-Type": kind})
            assert answer.status == status
        send(ann, "ann", "my own")
        expect(ann.get_by_role("listitem")).to_have_text(["ann: my own"])


@pytest.mark.parametrize("place", [0, 1])
def test_it_issues_tokens_as_the_document_says(place: int) -> None:
    """Only the rights are its own."""
    framework, module = (("Django", "django_app.py"), ("FastAPI", "fastapi_app.py"))[place]
    assert f"\n{framework}" in RECIPES
    lines = blocks(RECIPES)[place].lines
    source = (EXAMPLES / module).read_text()
    before, after = "\n".join(lines).split("    rights = ")
    assert before in source
    assert after.partition("\n")[2] in source
