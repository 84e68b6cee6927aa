"""One browser and one server for the pages of examples/."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE, chromium
from tests.support.examples import SETTINGS, copied
from tests.support.proxy import Proxy, proxy
from tests.support.server import Running, running

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running_browser:
        yield running_browser


@pytest.fixture
def backstage() -> Iterator[Backstage]:
    with Backstage() as running_backstage:
        yield running_backstage


@pytest.fixture
def here(backstage: Backstage) -> Running:
    """The server that the README starts, in another thread."""
    return backstage.enter(running(SETTINGS))


@pytest.fixture
def way(backstage: Backstage, here: Running) -> Proxy:
    """A proxy in front of the server."""
    return backstage.enter(proxy(here.port))


@pytest.fixture
def root(tmp_path: Path, here: Running) -> Path:
    """A copy of the tree with the examples, for this server."""
    return copied(tmp_path, here.port)
