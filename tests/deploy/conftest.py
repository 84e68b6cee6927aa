"""Each test of a balancer runs with each one, unless it names some."""

from typing import cast

import pytest

from tests.support.balancers import Start, caddy, haproxy, nginx


@pytest.fixture(params=[nginx, haproxy, caddy])
def start(request: pytest.FixtureRequest) -> Start:
    """The function that starts a balancer."""
    return cast(Start, request.param)
