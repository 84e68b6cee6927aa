"""One Redis for all of these tests; a prefix of its own for each."""

import itertools
from collections.abc import Iterator

import pytest

from hub import redis_broker
from tests.support.redis import RedisServer, redis_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def address(redis: RedisServer) -> str:
    return f"127.0.0.1:{redis.port}"


@pytest.fixture
def prefix() -> str:
    return f"test{next(_numbers)}"


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown topics are refused at once after a connect, not after five seconds."""
    monkeypatch.setattr(redis_broker, "GRACE", 0.0)
