"""Take the pictures of docs/console.md: make pictures.

The animation needs Pillow, which is in the lock of the benchmark.
"""

import re
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import PATIENCE, chromium
from tests.support.console import (
    DESKTOP,
    PHONE,
    Server,
    payloads,
    publish,
    publish_elsewhere,
    rows,
    serving,
    state,
    subscribe,
    visit,
)
from tests.support.process import ROOT

IMAGES = ROOT / "docs/images"
STAGE = {"width": 1000, "height": 640}  # of the animation
ORDERS = [
    ("orders/lisbon", {"order": 1041, "item": "espresso", "total": 2.4}),
    ("orders/oslo", {"order": 1042, "item": "croissant", "total": 4.2}),
    ("stock", {"item": "croissant", "left": 3}),
    ("orders/lisbon", {"order": 1043, "item": "lemonade", "total": 7}),
    ("kitchen", {"ready": 1041}),
]
# A pointer, since a screenshot has none.
POINTER = """() => {
    const pointer = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    pointer.innerHTML = '<path d="M1 1v15l4-3.5 2.5 6 2.5-1-2.5-6H13z" fill="#000" stroke="#fff"/>';
    pointer.id = "pointer";
    const style = "position:fixed;z-index:99;width:20px;height:24px;pointer-events:none";
    for (const part of style.split(";")) pointer.style.setProperty(...part.split(":"));
    document.body.append(pointer);
}"""
MOVE = """([x, y]) => {
    const { style } = document.getElementById("pointer");
    style.left = `${x}px`;
    style.top = `${y}px`;
}"""


class Film:
    """Frames of a page, each with the time for which it is shown."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._times: list[int] = []

    def show(self, ms: int) -> None:
        """Take a frame that is shown for `ms` milliseconds."""
        self._page.evaluate("scrollTo(0, 0)")
        self._frames.append(Image.open(BytesIO(self._page.screenshot())).convert("RGB"))
        self._times.append(ms)

    def point(self, target: Locator) -> None:
        """Move the pointer to a control."""
        box = target.bounding_box()
        assert box is not None
        self._page.evaluate(MOVE, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])

    def click(self, target: Locator) -> None:
        self.point(target)
        self.show(500)
        target.click()

    def save(self, path: Path) -> None:
        first, *rest = self._frames
        first.save(
            path,
            save_all=True,
            append_images=rest,
            duration=self._times,
            loop=0,
            quality=75,
            method=6,
            minimize_size=True,
        )


def prepare(page: Page, server: Server, query: str) -> None:
    page.set_default_timeout(PATIENCE)
    visit(page, server, query)


def take_still(browser: Browser, server: Server) -> None:
    """Show a busy minute: several topics, an open row, and a recovery."""
    page = browser.new_page(viewport=DESKTOP)
    names = dict.fromkeys(topic for topic, _ in ORDERS)
    prepare(page, server, "?" + "&".join(f"topic={it}" for it in names))
    expect(page.locator("#topics [data-phase=on]")).to_have_count(len(names))
    for second in range(14):
        for place in range(1 + (second * 7) % 4):
            topic, payload = ORDERS[(second + place) % len(ORDERS)]
            publish_elsewhere(page, server, topic, payload)
        page.wait_for_timeout(700)
    page.get_by_role("button", name="Cut for 3 s").click()
    for topic, payload in ORDERS[:3]:
        publish_elsewhere(page, server, topic, payload)
    expect(rows(page, "recovery")).to_have_count(1)
    for topic, payload in ORDERS[3:]:
        publish_elsewhere(page, server, topic, payload)
        page.wait_for_timeout(700)
    publish(page, "stock", '{"item": "croissant", "left": 2}')
    expect(payloads(page).first).to_have_text('{"item": "croissant", "left": 2}')
    rows(page).first.locator("summary").click()
    rows(page).first.hover()
    expect(page.locator("#latency")).not_to_be_empty()
    page.wait_for_timeout(1_500)  # the rates are drawn once a second
    page.screenshot(path=IMAGES / "console.png")
    page.close()


def take_phone(browser: Browser, server: Server) -> None:
    page = browser.new_page(viewport=PHONE, device_scale_factor=1.5, is_mobile=True, has_touch=True)
    prepare(page, server, "?topic=demo&topic=news")
    page.get_by_role("button", name="Start demo").click()
    page.wait_for_timeout(14_000)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=IMAGES / "console-phone.png")
    page.close()


def take_film(browser: Browser, server: Server) -> None:
    """Publish on the left, see it on the right; cut the connection, and get what was missed."""
    page = browser.new_page(viewport=STAGE)
    prepare(page, server, "?topic=orders")
    subscribe(page, "stock")
    page.get_by_role("button", name="Clear").click()
    for topic, payload in (("orders", {"order": 1}), ("stock", {"croissant": 3})):
        publish_elsewhere(page, server, topic, payload)
    expect(payloads(page)).to_have_count(2)
    page.evaluate(POINTER)
    film = Film(page)
    payload = page.get_by_label("Payload")
    film.point(payload)
    for text in ("", '{"order": 2,', '{"order": 2, "item":', '{"order": 2, "item": "espresso"}'):
        payload.fill(text)
        film.show(300)
    film.click(page.get_by_role("button", name="Publish"))
    expect(payloads(page)).to_have_count(3)
    film.show(1_500)
    film.click(page.get_by_role("button", name="Cut for 3 s"))
    expect(state(page)).to_have_text("Cut off")
    film.show(600)
    for number in (3, 4):
        publish_elsewhere(page, server, "orders", {"order": number, "item": "bagel"})
        page.wait_for_timeout(600)
        film.show(800)
    expect(rows(page, "recovery")).to_contain_text("2 missed, 2 recovered")
    expect(rows(page).get_by_text(re.compile("^recovered$"))).to_have_count(2)
    page.wait_for_timeout(300)
    film.show(3_500)
    film.save(IMAGES / "console.webp")
    page.close()


def main() -> None:
    with serving(HISTORY_SIZE="100") as server, chromium() as browser:
        take_still(browser, server)
        take_phone(browser, server)
        take_film(browser, server)


if __name__ == "__main__":
    main()
