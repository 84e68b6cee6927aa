"""Several observers of one hub."""

from typing import Any

from hub.observer import REPORTS, Observer, Observers
from tests.support.node import Node


class Recording(Observer):
    """Records publishes; the other reports are those of `Observer`."""

    def __init__(self, name: str, reports: list[Any]) -> None:
        self.name = name
        self.reports = reports

    def published(self, topic: str, size: int) -> None:
        self.reports.append((self.name, "published", topic))


class Counting(Recording):
    def delivered(self, events: int) -> None:
        self.reports.append((self.name, "delivered", events))


def test_each_observer_gets_the_reports_that_it_overrides_in_order() -> None:
    reports: list[Any] = []
    node = Node(observer=Observers(Recording("first", reports), Counting("second", reports)))
    node.subscribed("t")
    node.subscribed("t")
    node.publish("t", 1)
    node.tick()
    assert reports == [
        ("first", "published", "t"),
        ("second", "published", "t"),
        ("second", "delivered", 2),
    ]


def test_observers_may_be_nested() -> None:
    reports: list[Any] = []
    inner = Observers(Recording("first", reports), Recording("second", reports))
    node = Node(observer=Observers(Counting("zero", reports), inner))
    node.publish("t", 1)
    assert [name for name, *_ in reports] == ["zero", "first", "second"]


def test_a_report_of_one_observer_is_its_own_method() -> None:
    one = Counting("one", [])
    several = Observers(Observer(), one)
    assert several.delivered == one.delivered
    assert vars(several).keys() == {"published", "delivered"}
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
