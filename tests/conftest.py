"""Fixtures for all tests. Asynchronous tests run on uvloop, as the server does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import settings as hypothesis_settings

from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.loop import Loop
from tests.support.server import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine must not fail a test by being slow.
hypothesis_settings.register_profile("project", deadline=None)
hypothesis_settings.load_profile("project")


def pytest_asyncio_loop_factories(
    config: Any, item: Any
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": Loop}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    """A real server with the default settings."""
    async with running(Settings()) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real Chromium, for one module: its loop runs in this thread while it is open."""
    from tests.support.browser import chromium  # only here: most tests need no browser

    with chromium() as running_browser:
        yield running_browser


@pytest.fixture
def backstage() -> Iterator[Backstage]:
    """A second thread, for servers that a browser in this thread uses."""
    with Backstage() as running_loop:
        yield running_loop
