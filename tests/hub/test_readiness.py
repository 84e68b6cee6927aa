"""The checks of readiness, with a clock that the test sets."""

import pytest

from hub.brokers.memory import MemoryBroker
from hub.readiness import Readiness
from hub.settings import Settings
from tests.support.node import Node


class Away(MemoryBroker):
    """A broker that can lose the other nodes."""

    reachable: bool | None = False  # type: ignore[assignment]


def readiness(node: Node, **settings: object) -> Readiness:
    return Readiness(node.hub, node.drain, Settings(**settings), 0.0)  # type: ignore[arg-type]


def test_a_single_server_is_ready_until_the_shutdown() -> None:
    node = Node()
    it = readiness(node)
    assert (it.refusal(), it.checks()) == ("", {"shutdown": "ok", "connections": "ok"})
    node.drain.announce()
    assert it.refusal() == "Server is shutting down"
    assert it.checks() == {"shutdown": "draining", "connections": "ok"}


def test_a_full_server_is_ready() -> None:
    node = Node()
    it = readiness(node, max_connections=2)
    first = node.connect()
    assert not it.full
    node.connect()
    assert it.full
    assert (it.refusal(), it.checks()) == ("", {"shutdown": "ok", "connections": "full"})
    node.hub.leave(first.client)
    assert not it.full


@pytest.mark.parametrize(
    ("mode", "workers", "fails"), [("local", 1, False), ("strict", 1, True), ("local", 2, True)]
)
def test_a_lost_redis_is_reported_and_after_the_grace_fails_a_server_that_needs_it(
    mode: str, workers: int, fails: bool
) -> None:
    broker = Away()
    node = Node(broker=broker)
    it = readiness(node, redis_fail_mode=mode, workers=workers, ready_redis_grace=10.0)
    it.sweep(0.0)  # never connected: there is no grace
    assert (it.refusal() != "") is fails
    broker.reachable = True
    it.sweep(100.0)
    assert (it.refusal(), it.checks()["redis"]) == ("", "ok")
    broker.reachable = False
    it.sweep(101.0)
    it.sweep(111.0)
    assert (it.refusal(), it.checks()["redis"]) == ("", "lost")
    it.sweep(111.1)
    assert it.refusal() == ("Redis is out of reach" if fails else "")
    broker.reachable = True
    assert it.refusal() == ""
