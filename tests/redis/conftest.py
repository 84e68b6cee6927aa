"""Fixtures: one Redis server for all tests, and a key prefix for each test."""

import itertools
from collections.abc import Iterator

import pytest

from tests.support.redis import RedisServer, redis_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def address(shared_redis: RedisServer) -> str:
    return f"127.0.0.1:{shared_redis.port}"


@pytest.fixture
def prefix() -> str:
    return f"test{next(_numbers)}"
