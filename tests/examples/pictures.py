"""Take the pictures of examples/README.md: make pictures.

Each picture shows the page twice, in light and in dark.
"""

import base64
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, expect

from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, chromium
from tests.support.examples import EXAMPLES, SETTINGS, commands, copied, opened, started
from tests.support.notes import send, serving
from tests.support.server import running

SCALE = 1.75  # of pixels, for sharp screens
# Whether a question was refused, or is being answered.
ANSWERED = """() => document.querySelector('#outcome').textContent
    || document.querySelector('#asked').textContent !== 'Ask the model'"""
FRAME = """<!doctype html>
<body style="margin: 0; width: max-content; display: flex; flex-flow: {flow}">
<img src="data:image/png;base64,{}" width={width}>
<img src="data:image/png;base64,{}" width={width}>"""


def take(browser: Browser, name: str, pages: list[Page], flow: str) -> None:
    """Write one picture of both pages, in a row or a column."""
    shots = [base64.b64encode(page.screenshot()).decode() for page in pages]
    size = pages[0].viewport_size
    assert size is not None
    with browser.new_page(device_scale_factor=SCALE) as page:
        page.set_content(FRAME.format(*shots, flow=flow, width=size["width"]))
        page.locator("body").screenshot(path=EXAMPLES / f"images/{name}.png")


def say(page: Page, name: str, text: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("li p").last).to_have_text(text)


def chat(light: Page, dark: Page) -> None:
    say(light, "Ann", "Good morning! Has the new build arrived?")
    say(dark, "Bob", "Since ten past nine. All tests are green.")
    say(light, "Ann", "Then we ship it after lunch.")
    say(dark, "Bob", "<b>Fine</b> with me :)")
    expect(light.locator("li")).to_have_count(4)


def dashboard(root: Path, light: Page, dark: Page) -> None:
    with started(f"{commands('Live dashboard')[0]} 0.02", root):
        light.wait_for_function("document.querySelector('polyline').points.length === 60")
    dark.reload()
    dark.wait_for_function("document.querySelector('polyline').points.length === 60")


def llm(root: Path, light: Page, dark: Page) -> None:
    with started(commands("Streamed answers")[0], root):
        expect(light.get_by_role("status")).to_contain_text("open")
        ask(light)
        dark.wait_for_function("Number(document.querySelector('#count').textContent) >= 50")


def ask(page: Page) -> None:
    """Ask until the model is there to answer."""
    while page.locator("#asked").text_content() == "Ask the model":
        page.evaluate("document.querySelector('#outcome').textContent = ''")
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function(ANSWERED)


def notes(browser: Browser, backstage: Backstage, folder: Path) -> None:
    """Take the picture of the notes, which have a server of their own."""
    folder.mkdir()
    look = {"viewport": {"width": 440, "height": 240}, "device_scale_factor": SCALE}
    with (
        serving("FastAPI", backstage, folder) as app,
        app.visited(browser, "ann", **look, color_scheme="light") as ann,
        app.visited(browser, "bob", **look, color_scheme="dark") as bob,
    ):
        app.wait_for_users(ann, 2)
        send(ann, "bob", "The parcel is at my desk.")
        expect(bob.get_by_role("listitem")).to_have_count(1)
        send(bob, "ann", "Thank you, I am on my way.")
        expect(ann.get_by_role("listitem")).to_have_count(1)
        take(browser, "notes", [ann, bob], "row")


def main() -> None:
    """Take all pictures."""
    expect.set_options(timeout=PATIENCE)
    with TemporaryDirectory() as folder, chromium() as browser, Backstage() as backstage:
        root = copied(Path(folder), backstage.enter(running(SETTINGS)).port)
        for name, file, act, flow, width, height in (
            ("chat", "chat.html", chat, "row", 440, 420),
            ("dashboard", "dashboard/index.html", partial(dashboard, root), "column", 800, 250),
            ("llm", "llm/index.html", partial(llm, root), "row", 440, 400),
        ):
            address = (root / "examples" / file).as_uri()
            look = {"viewport": {"width": width, "height": height}, "device_scale_factor": SCALE}
            with (
                opened(browser, address, **look, color_scheme="light") as light,
                opened(browser, address, **look, color_scheme="dark") as dark,
            ):
                act(light, dark)
                take(browser, name, [light, dark], flow)
        notes(browser, backstage, Path(folder) / "notes")


if __name__ == "__main__":
    main()
