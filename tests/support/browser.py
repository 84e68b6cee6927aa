"""A real browser for tests: Chromium, driven by Playwright in this thread."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.programs import skip_unless

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = skip_unless(CHROMIUM, "Chromium")
# Milliseconds that anything may take on a busy machine; only a failure takes them.
PATIENCE = 30_000
# No sandbox, since CI runs as root; names for a server of ours (RFC 6761: none that is real ends in
# .test); the rest keeps the browser from calling home.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]


# Runs a script, as `evaluate` of a page does, but for a limited time.
LIMITED = """([script, argument, ms]) => {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done after ${ms} ms: ${script}`)), ms);
    });
    const run = async () => {
        const made = (0, eval)(script);
        return typeof made === "function" ? made(argument) : made;
    };
    return Promise.race([run(), late]).finally(() => clearTimeout(timer));
}"""


def evaluate(page: Page, script: str, argument: Any = None) -> Any:
    """Run a script in a page; fail if it takes too long. `page.evaluate` waits for ever.

    The page has a real clock, and its policy allows eval().
    """
    return page.evaluate(LIMITED, [script, argument, 2 * PATIENCE])


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, timeout=3 * PATIENCE
        )
        yield browser
        browser.close()
