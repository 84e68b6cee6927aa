"""What `Counters` counts of slow clients, gaps and recoveries, and when deliveries are timed."""

import pytest

from hub.brokers.base import OutageReason
from hub.brokers.history import OVERHEAD
from hub.brokers.memory import MemoryBroker
from hub.counters import Counters, Histogram
from hub.delivery.fanout import WRITES
from hub.observer import REPORTS
from hub.settings import Settings
from hub.values import Rule
from tests.support.node import Node

SMALL = {"max_queue_size": 2}


def counted(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts that are not 0, by the words of their labels."""
    return {str(word): count for word, count in counts.items() if count}


def overflow(node: Node, events: int) -> None:
    for number in range(events):
        node.publish("t", number)
        node.tick()


def test_it_counts_every_report_but_those_of_subscriptions() -> None:
    """Subscriptions have a gauge; the end of an outage is a value of `redis_up`."""
    ignored = {it for it in REPORTS if it not in vars(Counters)}
    assert ignored == {"subscribed", "unsubscribed", "broker_back"}


def test_a_client_that_is_disconnected_for_being_slow() -> None:
    counters = Counters()
    node = Node(Settings(**SMALL), observer=counters)
    node.subscribed("t", room=0)
    overflow(node, 4)  # the transport holds one, the queue two, the fourth is too many
    assert counted(counters.slow_consumers) == {"disconnect": 1}
    assert counted(counters.drops) == {"slow_consumer": 3}
    assert counted(counters.gaps) == {}


def test_a_client_whose_events_are_dropped_is_slow_once_until_its_queue_is_empty() -> None:
    counters = Counters()
    node = Node(Settings(**SMALL, backpressure="drop_oldest"), observer=counters)
    slow = node.subscribed("t", room=0)
    overflow(node, 6)
    assert counted(counters.slow_consumers) == {"drop_oldest": 1}
    assert counted(counters.drops) == {"drop_oldest": 3}
    assert counted(counters.gaps) == {}
    slow.transport.drain()
    assert counted(counters.gaps) == {"drop_oldest": 1}
    slow.transport.drain(room=0)
    overflow(node, 4)
    assert counted(counters.slow_consumers) == {"drop_oldest": 2}
    node.hub.leave(slow.client)
    assert counted(counters.drops) == {"drop_oldest": 4, "lost": 2}


def test_a_client_that_is_cut() -> None:
    counters = Counters()
    node = Node(Settings(write_timeout=10.0), observer=counters)
    slow = node.subscribed("t", room=0)
    overflow(node, 1)
    for now in (0.0, 20.0):
        node.visit_all(now)
    node.hub.leave(slow.client)
    assert counted(counters.slow_consumers) == {"cut": 1}
    assert counted(counters.disconnects) == {"write_timeout": 1}


def test_gaps_and_recoveries() -> None:
    counters = Counters()
    broker = MemoryBroker(lambda: 0.0, {"": Rule(5, 300.0, 10_000)}, lambda: "a")
    node = Node(Settings(history_size=5), broker, counters)
    node.subscribed("t")
    for number in range(3):
        node.publish("t", number)
    for offset, epoch in ((1, "a"), (0, "z")):
        recover = {"epoch": epoch, "offset": offset}
        node.connect("back").say({"type": "subscribe", "topic": "t", "recover": recover})
    node.tick()
    assert counters.recoveries == {True: 1, False: 1}
    assert counters.recovered_events == 2
    node.hub.missed("t")
    node.hub.missed("none")
    assert counted(counters.gaps) == {"outage": 1}


def test_outages_and_the_times_of_the_broker() -> None:
    counters = Counters()
    node = Node(observer=counters)
    node.hub.broker_lost(OutageReason.TIMEOUT)
    node.hub.broker_back()
    node.hub.broker_answered(0.002)
    node.hub.broker_returned(0.003)
    assert counted(counters.outages) == {"timeout": 1}
    assert (counters.broker_answers.sum, counters.broker_returns.sum) == (0.002, 0.003)


def test_a_histogram_has_each_value_in_one_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == pytest.approx(6.6)


def test_the_budget_counts_the_events_that_it_drops() -> None:
    broker = MemoryBroker(lambda: 0.0, {"": Rule(9, 300.0, 10_000)}, total_bytes=2 * OVERHEAD + 500)
    node = Node(Settings(history_size=9), broker)
    node.subscribed("t")
    for _ in range(4):
        node.publish("t", "x" * 100)
    assert 0 < broker.history_budget.dropped < 4


# --- The time of a delivery -----------------------------------------------------------------------


def test_one_batch_is_timed_after_each_request() -> None:
    counters = Counters()
    node = Node(observer=counters)
    node.subscribed("t")
    lag = counters.delivery_lag
    overflow(node, 3)
    assert sum(lag.counts) == 0
    node.hub.fanout.sample()
    node.hub.fanout.sample()
    overflow(node, 3)
    assert sum(lag.counts) == 1
    assert lag.sum > 0


def test_a_batch_that_is_late_is_timed_until_it_is_written() -> None:
    counters = Counters()
    node = Node(observer=counters)
    for topic, subscribers in (("large", WRITES + 1), ("small", WRITES)):
        for _ in range(subscribers):
            node.subscribed(topic)
    node.hub.fanout.sample()
    node.publish("large", 1)  # which is timed, and written after the small one
    node.publish("small", 1)
    node.turn()
    node.hub.fanout.sample()  # while one is timed, no other is
    assert (node.hub.fanout.deliveries, sum(counters.delivery_lag.counts)) == (WRITES, 0)
    node.turn()
    assert sum(counters.delivery_lag.counts) == 1
    node.publish("small", 2)
    node.tick()
    assert sum(counters.delivery_lag.counts) == 1
