"""Fixtures: one Redis server for the tests of this folder, and a key prefix for each test."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.redis import RedisServer, redis_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


OverRedis = Callable[[Settings, int], Settings]


@pytest.fixture
def over_redis() -> OverRedis:
    """Return a function that adds a Redis on a port to settings, the same prefix each time."""
    prefix = f"test{next(_numbers)}"

    def add(settings: Settings, port: int) -> Settings:
        address = parse_redis_address(f"127.0.0.1:{port}")
        return replace(settings, redis_addr=address, redis_prefix=prefix)

    return add
