"""Several observers of one hub."""

from typing import Any

from hub.delivery.client import Client
from hub.observer import REPORTS, Observer, Observers
from hub.reports import DropReason
from tests.support.node import Node


class Recording(Observer):
    """Records dropped messages; the other reports are those of `Observer`."""

    def __init__(self, name: str, reports: list[Any]) -> None:
        self.name = name
        self.reports = reports

    def dropped(self, reason: DropReason, messages: int) -> None:
        self.reports.append((self.name, "dropped", messages))


class Counting(Recording):
    def left(self, client: Client, reason: str, seconds: float) -> None:
        self.reports.append((self.name, "left", reason))


def lose_a_congested_client(observer: Observer) -> None:
    """Lose a client with one message in its queue."""
    node = Node(observer=observer)
    slow = node.subscribed("t", room=0)
    for number in range(2):  # the transport holds the first
        node.publish("t", number)
        node.tick()
    node.hub.leave(slow.client)


def test_each_observer_gets_the_reports_that_it_overrides_in_order() -> None:
    reports: list[Any] = []
    lose_a_congested_client(Observers(Recording("first", reports), Counting("second", reports)))
    assert reports == [
        ("second", "left", "lost"),
        ("first", "dropped", 1),
        ("second", "dropped", 1),
    ]


def test_observers_may_be_nested() -> None:
    reports: list[Any] = []
    inner = Observers(Recording("first", reports), Recording("second", reports))
    lose_a_congested_client(Observers(Counting("zero", reports), inner))
    assert [name for name, *_ in reports] == ["zero", "zero", "first", "second"]


def test_a_report_of_one_observer_is_its_own_method() -> None:
    one = Counting("one", [])
    several = Observers(Observer(), one)
    assert several.left == one.left
    assert vars(several).keys() == {"dropped", "left"}
    assert not vars(Observers())


def test_every_report_is_passed_on() -> None:
    calls: list[str] = []

    def recorded(name: str) -> Any:
        return lambda self, *arguments: calls.append(name)

    kind = type("All", (Observer,), {name: recorded(name) for name in REPORTS})
    several = Observers(kind(), kind())
    for name in REPORTS:
        getattr(several, name)()
    assert calls == [name for name in REPORTS for _ in range(2)]
