"""A Redis that refuses commands: one log line for each reason, and no repeated commands."""

from functools import partial
from typing import Any

import pytest
import redis

from hub.brokers.base import PublishResult
from hub.errors import ErrorCode, Refusal
from hub.redis.broker import Bus
from hub.redis.publish_pipeline import MAX_EVENT
from tests.support.bus import bus_node
from tests.support.eventually import eventually
from tests.support.logs import said
from tests.support.redis import redis_server

QUICK = 0.1  # seconds between beats, and until an outage is declared


def attempts(client: redis.Redis) -> int:
    """Return the number of connections that Redis received; an attempt makes two."""
    return int(client.info("stats")["total_connections_received"])


def event(number: int) -> bytes:
    return b'{"n":%d}' % number


async def test_scripts_flushed_under_load_keep_the_order() -> None:
    with redis_server() as server:
        async with bus_node(f"127.0.0.1:{server.port}", "p", beat=QUICK) as node:
            await node.subscribe("t")
            completed: list[int] = []

            def publish(numbers: range) -> None:
                for number in numbers:
                    done = partial(lambda number, _: completed.append(number), number)
                    node.broker.publish("t", event(number), done)

            for turn in range(5):
                first = turn * 40
                publish(range(first, first + 20))
                await eventually(lambda: completed)
                with server.client() as client:
                    client.script_flush()
                publish(range(first + 20, first + 40))
                await eventually(lambda first=first: len(completed) == first + 40)  # type: ignore[misc]
                await eventually(lambda: node.bus.bus is Bus.UP)
            assert completed == list(range(200))
            heard = [event for what, _, event in node.heard if what == "event"]
            assert heard == [event(number) for number in range(200)]


async def test_redis_that_refuses_writes_is_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server, server.client() as client:
        async with bus_node(f"127.0.0.1:{server.port}", "p", beat=QUICK) as node:
            await node.subscribe("t")
            client.config_set("maxmemory", "1")
            await eventually(lambda: node.bus.bus is Bus.OUT)
            before = attempts(client)
            await eventually(lambda: attempts(client) >= before + 6)
            assert node.heard == []
            client.config_set("maxmemory", "0")
            await eventually(lambda: node.bus.bus is Bus.UP)
            assert await node.publish("t", event(1)) == PublishResult(nodes=1)
            assert await node.hear(2) == [("missed", "t", b""), ("event", "t", event(1))]
    assert len([it for it in said(caplog) if "OOM" in it]) == 1


async def test_gap_is_reported_before_events_that_arrive_before_up(
    address: str, prefix: str
) -> None:
    """The channel is subscribed again, but the broker is not up yet."""
    async with bus_node(address, prefix) as node:
        await node.subscribe("t")
        channel = f"{prefix}:topic:t".encode()
        node.bus.subscriptions.receive([b"subscribe", channel, 1])
        assert node.heard == []
        for number in range(2):
            data = b"wsE1" + b"x" * 16 + event(number)
            node.bus.subscriptions.receive([b"message", channel, data])
        node.bus.up()
        assert node.heard == [
            ("missed", "t", b""),
            ("event", "t", event(0)),
            ("event", "t", event(1)),
        ]


async def test_refused_session_never_becomes_up() -> None:
    """Redis refuses the lease, but not the beat after it, which has nothing to write."""
    with redis_server() as server, server.client() as client:
        async with bus_node(f"127.0.0.1:{server.port}", "p", beat=QUICK) as node:
            client.config_set("maxmemory", "1")
            client.delete(f"p:leases:{node.bus.node_id}")
            await eventually(lambda: node.bus.bus is Bus.OUT)
            ups: list[None] = []
            node.bus.up = lambda: ups.append(None)  # type: ignore[method-assign]
            before = attempts(client)
            await eventually(lambda: attempts(client) >= before + 6)
            assert ups == []


async def test_forbidden_channels_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server, server.client() as client:
        client.execute_command("ACL SETUSER app on >pw ~* +@all resetchannels")
        async with bus_node(f"redis://app:pw@127.0.0.1:{server.port}", "p", beat=QUICK) as node:
            assert node.bus.bus is Bus.OUT
            before = attempts(client)
            await eventually(lambda: attempts(client) >= before + 6)
            client.execute_command("ACL SETUSER app allchannels")
            await eventually(lambda: node.bus.bus is Bus.UP)
    refusals = [it for it in said(caplog) if "Redis refused: NOPERM" in it]
    assert len(refusals) == 1
    assert not [it for it in caplog.records if it.levelname == "ERROR"]


async def test_event_too_large_for_redis_is_refused(address: str, prefix: str) -> None:
    async with bus_node(address, prefix) as node:
        await node.subscribe("t")
        fits = b"{%s}" % (b" " * (MAX_EVENT - 2))
        outcome = await node.publish("t", fits + b" ")
        assert isinstance(outcome, Refusal)
        assert (outcome.code, str(MAX_EVENT) in outcome.text) == (ErrorCode.INVALID_MESSAGE, True)
        assert await node.publish("t", fits) == PublishResult(nodes=1)
        assert await node.hear(1) == [("event", "t", fits)]


async def test_unexpected_error_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def faulty(*_: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise LookupError("ours")

    monkeypatch.setattr("hub.redis.supervisor.open_session", faulty)
    async with bus_node("127.0.0.1:1", "p", beat=QUICK):
        await eventually(lambda: attempts >= 4)
    assert len([it for it in caplog.records if it.levelname == "ERROR"]) == 1
