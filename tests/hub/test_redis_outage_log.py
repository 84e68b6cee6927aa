"""Log lines about an outage of Redis."""

import logging

import pytest

from hub.redis.address import parse_redis_address
from hub.redis.outage_log import KINDS, PAUSE, OutageLog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outage(clock: Clock, *, strict: bool = False, remembers: bool = False) -> OutageLog:
    address = parse_redis_address("redis://:pw@host")
    return OutageLog(address, clock, strict=strict, remembers=remembers)


def test_each_new_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    it = outage(Clock())
    for why in ("closed by Redis", "WRONGPASS", "closed by Redis", "WRONGPASS"):
        it.lost(why)
    assert caplog.messages == [
        "no Redis at redis://host:6379: closed by Redis; retrying",
        "no Redis at redis://host:6379: WRONGPASS; retrying",
    ]
    it.end()
    it.lost("WRONGPASS")
    assert len(caplog.messages) == 3


def test_reasons_that_differ_only_in_numbers_or_addresses_are_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = outage(Clock())
    for number in range(20):
        it.lost(f"cannot connect to 10.0.0.{number}:{number} (redis-{number}, f{number}a9)")
    assert len(caplog.messages) == 1


def test_many_reasons_do_not_flood_the_log_or_hide_a_later_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    it = outage(clock)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        it.lost(letter)
    assert len(caplog.messages) == KINDS
    clock.now += PAUSE
    for letter in "abcdefghijklmnopqrstuvwxyz":
        it.lost(letter * 2)
    assert len(caplog.messages) == KINDS + 1
    clock.now += PAUSE
    it.lost("WRONGPASS")
    it.lost("WRONGPASS")
    assert "WRONGPASS" in caplog.messages[-1]
    assert len(caplog.messages) == KINDS + 2


def test_unexpected_error_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    it = outage(Clock())
    it.lost("closed by Redis")
    for _ in range(2):
        it.lost("a fault of this server (LookupError)", LookupError("ours"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    assert caplog.records[1].exc_info is not None


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_outage_log_says_how_commands_are_answered(
    caplog: pytest.LogCaptureFixture, strict: bool, remembers: bool
) -> None:
    outage(Clock(), strict=strict, remembers=remembers).declare()
    (line,) = caplog.messages
    assert line.startswith("Redis is out of reach: ")
    assert ("REDIS_FAIL_MODE=strict" in line) == strict
    refused = "topics with history refuse publish and subscribe (UNAVAILABLE)"
    assert (refused in line) == (remembers and not strict)
