"""The metrics of all workers as one: plain data, without Prometheus.

A report has the metric families of one process. Counters, histograms and most gauges are added up.
If a sum would hide something, each value has the number of its worker as a label instead.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

Labels = dict[str, str]


class Family(NamedTuple):
    """The samples of one metric."""

    name: str
    help: str
    type: str  # as Prometheus names it
    samples: list[tuple[str, Labels, float]]  # a name with its suffix, labels, and the value


Report = list[Family]

LABEL: Final = "worker"
# Families whose values have LABEL. Each process has its own loop, files and connection to Redis. A
# sum of topics would count a topic once for each worker that has it.
BY_WORKER: Final = frozenset(
    {
        "broadcast_event_loop_lag_seconds",
        "broadcast_open_fds",
        "broadcast_redis_up",
        "broadcast_topics",
    }
)
BY_WORKER_PREFIXES: Final = ("process_", "python_gc_")
# Gauges of which the largest value counts.
LARGEST: Final = frozenset({"broadcast_queue_max_bytes", "broadcast_draining", "broadcast_build"})
# Gauges that no longer count once another worker has replaced theirs.
OF_CURRENT: Final = frozenset({"broadcast_draining", "broadcast_max_connections"})
_GROWING: Final = frozenset({"counter", "histogram"})


def decode(plain: Iterable[Iterable[object]]) -> Report:
    """Return a report from plain data, in which it was sent as JSON."""
    return [Family(*family) for family in plain]  # type: ignore[arg-type]


def is_by_worker(name: str) -> bool:
    """Return whether each value of a family has the number of its worker."""
    return name in BY_WORKER or name.startswith(BY_WORKER_PREFIXES)


def of_worker(report: Report, number: int) -> Report:
    """Return the report of a worker, with LABEL in the families that need it."""
    own = {LABEL: str(number)}
    return [
        it._replace(samples=[(name, labels | own, value) for name, labels, value in it.samples])
        if is_by_worker(it.name)
        else it
        for it in report
    ]


def of_replaced(report: Report) -> Report:
    """Return the families that still count for a worker that is replaced but has clients left."""
    return [it for it in report if not is_by_worker(it.name) and it.name not in OF_CURRENT]


def of_ended(report: Report) -> Report:
    """Return the families that still count for a worker that has ended or is silent.

    These are the counts that only grow: without them the totals would fall.
    """
    return [it for it in of_replaced(report) if it.type in _GROWING]


def total(reports: Iterable[Report]) -> Report:
    """Add up several reports."""
    families: dict[tuple[str, str], Family] = {}  # a gauge and a counter may have one name
    sums: dict[tuple[str, str], dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for report in reports:
        for family in report:
            name_and_type = family.name, family.type
            families.setdefault(name_and_type, family)
            values = sums.setdefault(name_and_type, {})
            for name, labels, value in family.samples:
                key = name, tuple(labels.items())
                if family.name in LARGEST:
                    values[key] = max(values.get(key, value), value)
                else:
                    values[key] = values.get(key, 0) + value
    return [
        families[key]._replace(
            samples=[(name, dict(labels), value) for (name, labels), value in values.items()]
        )
        for key, values in sums.items()
    ]
