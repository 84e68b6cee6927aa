"""Fixtures for all tests. Asynchronous tests run on uvloop, as the server does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio
import uvloop
from hypothesis import settings as hypothesis_settings

from hub.settings import Settings
from tests.support.server import Running, running

# A busy machine must not fail a test by being slow.
hypothesis_settings.register_profile("project", deadline=None)
hypothesis_settings.load_profile("project")


def pytest_asyncio_loop_factories(
    config: Any, item: Any
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    """A real server with the default settings."""
    async with running(Settings()) as running_server:
        yield running_server
