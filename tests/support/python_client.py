"""What the tests of the Python client await."""

import asyncio
from typing import Any

import pytest
from broadcast_client import RefusedError

from tests.support.double import PATIENCE


async def error_of(waiting: Any) -> RefusedError:
    """Return the error that an awaitable of the client ends with."""
    with pytest.raises(RefusedError) as caught:
        async with asyncio.timeout(PATIENCE):
            await waiting
    return caught.value
