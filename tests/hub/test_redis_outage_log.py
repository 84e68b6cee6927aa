"""Log lines about an outage of Redis."""

import logging

import pytest

from hub.brokers.base import OutageReason
from hub.logs import events
from hub.redis.address import parse_redis_address
from hub.redis.outage_log import KINDS, PAUSE, OutageLog
from tests.support.logs import fields, records, said

REDIS = "redis://host:6379"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outage(clock: Clock, *, strict: bool = False, remembers: bool = False) -> OutageLog:
    address = parse_redis_address("redis://:pw@host")
    return OutageLog(address, clock, strict=strict, remembers=remembers)


def declared(clock: Clock, caplog: pytest.LogCaptureFixture) -> OutageLog:
    """Return the log of an outage that is declared."""
    it = outage(clock)
    it.lost("closed by Redis")
    it.declare(OutageReason.CLOSED)
    assert len(said(caplog)) == 1
    return it


def test_an_outage_is_one_line_with_all_reasons_so_far_and_its_end_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    it = outage(clock)
    for why in ("closed by Redis", "cannot connect", "cannot connect", "closed by Redis"):
        it.lost(why)
    assert said(caplog) == []
    it.declare(OutageReason.CLOSED)
    for why in ("cannot connect", "closed by Redis"):
        it.lost(why)
    clock.now = 90.5
    it.end()
    lost, joined = records(caplog)
    assert fields(lost)["detail"] == "closed by Redis; cannot connect"
    assert fields(lost)["reason"] == "closed"
    assert said(caplog, events.REDIS_JOINED) == [
        f"joined the other servers through Redis: redis={REDIS} seconds=90.5"
    ]
    assert (lost.levelno, joined.levelno) == (logging.WARNING, logging.INFO)


def test_a_loss_that_is_no_outage_is_a_part_of_the_line_about_the_next_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    it = outage(clock)
    it.end()
    it.lost("closed by Redis")
    clock.now = 0.5
    it.end()
    assert said(caplog) == [
        f"joined the other servers through Redis: redis={REDIS}",
        f"joined the other servers through Redis: redis={REDIS} seconds=0.5"
        " detail='closed by Redis'",
    ]


def test_each_new_reason_in_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    it = declared(Clock(), caplog)
    for why in ("closed by Redis", "WRONGPASS", "closed by Redis", "WRONGPASS"):
        it.lost(why)
    assert said(caplog, events.REDIS_STILL_LOST) == [
        f"Redis is still out of reach: redis={REDIS} detail=WRONGPASS"
    ]
    it.end()
    it.lost("WRONGPASS")
    it.declare(OutageReason.UNUSABLE)
    assert len(said(caplog, events.REDIS_LOST)) == 2


def test_reasons_that_differ_only_in_numbers_or_addresses_are_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = declared(Clock(), caplog)
    for number in range(20):
        it.lost(f"cannot connect to 10.0.0.{number}:{number} (redis-{number}, f{number}a9)")
    assert len(said(caplog)) == 2


def test_many_reasons_do_not_flood_the_log_or_hide_a_later_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    it = declared(clock, caplog)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        it.lost(letter)
    assert len(said(caplog)) == KINDS
    clock.now += PAUSE
    for letter in "abcdefghijklmnopqrstuvwxyz":
        it.lost(letter * 2)
    assert len(said(caplog)) == KINDS + 1
    clock.now += PAUSE
    it.lost("WRONGPASS")
    it.lost("WRONGPASS")
    assert "WRONGPASS" in said(caplog)[-1]
    assert len(said(caplog)) == KINDS + 2


def test_an_unexpected_error_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    it = outage(Clock())
    it.lost("closed by Redis")
    for _ in range(2):
        it.lost("a fault of this server (LookupError)", LookupError("ours"))
    (record,) = records(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_the_log_of_an_outage_says_how_commands_are_answered(
    caplog: pytest.LogCaptureFixture, strict: bool, remembers: bool
) -> None:
    outage(Clock(), strict=strict, remembers=remembers).declare(OutageReason.TIMEOUT)
    (record,) = records(caplog)
    says = str(fields(record)["consequence"])
    assert ("REDIS_FAIL_MODE=strict" in says) == strict
    refused = "topics with history refuse publish and subscribe (UNAVAILABLE)"
    assert (refused in says) == (remembers and not strict)
