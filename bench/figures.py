"""What is read out of a result: figures by round, ratios, and how each is shown."""

from collections.abc import Sequence
from statistics import median
from typing import Any

BUSY = 0.8  # of the generator's core, from which on a figure by the clock may be its own

Result = dict[str, Any]


def by_round(result: Result, scenario: str, server: str, figure: str) -> dict[int, float]:
    """A figure by round; empty where the server was missing, failed or had no part."""
    return {
        row["round"]: _nodes_busy(row) if figure == "nodes_busy" else row[figure]
        for row in result["rows"]
        if row["scenario"] == scenario
        and row["server"] == server
        and ("server_busy" if figure == "nodes_busy" else figure) in row
    }


def _nodes_busy(row: dict[str, Any]) -> float:
    """What two nodes take of the core that they share."""
    publisher: float = row["publisher_us"] * row["per_second"] / 1e6
    return publisher + float(row["server_busy"])


def values(result: Result, scenario: str, server: str, figure: str) -> list[float]:
    """The same without the rounds' numbers, for a median."""
    return list(by_round(result, scenario, server, figure).values())


def paired(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """The ratios of the rounds that both have."""
    return [above[turn] / below[turn] for turn in sorted(above.keys() & below) if below[turn]]


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranged(found: Sequence[float]) -> str:
    """A figure: its median, and the least and the most of any round."""
    return f"{number(median(found))} ({number(min(found))}-{number(max(found))})"


def spread(ratios: Sequence[float]) -> str:
    """A ratio, likewise."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def limited(result: Result, scenario: str, figure: str, *servers: str) -> str:
    """A mark, where the figure is by the clock and the generator's core was busy with a server.

    With two nodes, Redis is on that core too.
    """
    if figure != "per_second" and not figure.endswith("_ms"):
        return ""
    for server in servers:
        busy = [
            row["generator_busy"] + row.get("redis_us", 0) * row["per_second"] / 1e6
            for row in result["rows"]
            if (row["scenario"], row["server"]) == (scenario, server) and figure in row
        ]
        if busy and median(busy) > BUSY:
            return " †"
    return ""


def middle(found: Sequence[float]) -> str:
    return number(median(found))


def share(found: Sequence[float]) -> str:
    return f"{median(found):.1%}"


def megabytes(found: Sequence[float]) -> str:
    return f"{median(found) / 1e6:,.0f}"


COLUMNS = {
    "per_second": ("a second", ranged),
    "server_busy": ("server busy", share),
    "nodes_busy": ("both nodes busy", share),
    "generator_us": ("generator µs", middle),
    "generator_busy": ("generator busy", share),
    "rss": ("RSS MB", megabytes),
    "p50_ms": ("p50", ranged),
    "p999_ms": ("p99.9", ranged),
    "p99_ms": ("p99", ranged),
    "publisher_us": ("publisher's node µs", ranged),
    "server_us": ("subscribers' node µs", ranged),
    "redis_us": ("Redis µs", ranged),
    "max_ms": ("worst", ranged),
}
