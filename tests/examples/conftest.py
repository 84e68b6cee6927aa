"""A server for the programs and pages of examples/."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.backstage import Backstage
from tests.support.browser import PATIENCE
from tests.support.examples import SETTINGS, copied
from tests.support.proxy import Proxy, proxy
from tests.support.server import Running, running

expect.set_options(timeout=PATIENCE)


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
