"""The applications of `examples/` that issue tokens, run as their README says."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from hub.settings import read_settings
from tests.support.backstage import Backstage
from tests.support.examples import commands, copied, line_of, opened, output, started
from tests.support.redis import free_port
from tests.support.server import Running, running

PASSWORD = "sesame"


@dataclass
class App:
    """A running application, and its server."""

    framework: str
    url: str
    server: Running
    secret: str  # that signs its tokens

    @contextmanager
    def visited(self, browser: Browser, user: str, **options: Any) -> Iterator[Page]:
        """Open the page of a user, who logs in; the options are those of `opened`."""
        login = {"username": user, "password": PASSWORD}
        if self.framework == "FastAPI":
            options["http_credentials"] = login
        with opened(browser, self.url, **options) as page:
            if self.framework == "Django":
                page.get_by_label("Username").fill(user)
                page.get_by_label("Password").fill(PASSWORD)
                page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("heading")).to_have_text(f"Notes for {user}")
            yield page

    def wait_for_users(self, page: Page, count: int) -> None:
        """Wait until the pages of so many users have subscribed."""
        page.wait_for_function(
            "async ([url, count]) => (await (await fetch(url)).json()).count === count",
            arg=[f"{self.server.url}/topics", count],
        )


@contextmanager
def serving(framework: str, backstage: Backstage, folder: Path) -> Iterator[App]:
    """Make the secrets in a folder, and start the server and an application."""
    *secrets, serve, _, _ = commands("FastAPI")
    for command in secrets:
        assert output(command, folder) == ""
    settings = dict(it.split("=", 1) for it in shlex.split(serve)[:-2])
    for name in ("API_KEYS_FILE", "JWT_SECRET_FILE"):
        settings[name] = str(folder / settings[name])
    server = backstage.enter(running(read_settings(settings)))
    root = copied(folder, server.port)
    install, start = commands(framework)[-2:]
    assert output(install, root, PIP_NO_INDEX="1", PIP_ROOT_USER_ACTION="ignore") == ""
    port = free_port()
    with started(re.sub(r"\b8000$", str(port), start), root) as process:
        line_of(process, rf"(running on|server at) http://127\.0\.0\.1:{port}")
        secret = (folder / "secrets/jwt-secret").read_text().strip()
        yield App(framework, f"http://127.0.0.1:{port}/", server, secret)


def send(page: Page, to: str, text: str) -> None:
    """Send a note from a page."""
    page.get_by_label("To").fill(to)
    page.get_by_label("Note").fill(text)
    page.get_by_role("button", name="Send").click()
