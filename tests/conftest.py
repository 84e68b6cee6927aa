"""Every asynchronous test runs on uvloop, as the server does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from hub.settings import Settings
from tests.support.node import Node
from tests.support.server import Running, running


def pytest_asyncio_loop_factories(
    config: Any, item: Any
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def node() -> Node:
    """A node without sockets, with the default settings."""
    return Node()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    """A real server with the default settings."""
    async with running(Settings()) as running_server:
        yield running_server
