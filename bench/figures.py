"""Figures of a result: by round, as ratios, and as text."""

from collections.abc import Sequence
from statistics import median
from typing import Any

BUSY = 0.8  # share of the generator's core beyond which the generator may limit a figure

Result = dict[str, Any]


def by_round(result: Result, scenario: str, server: str, figure: str) -> dict[int, float]:
    """Return a figure by round; empty if the server was missing, failed or took no part."""
    return {
        row["round"]: _nodes_busy(row) if figure == "nodes_busy" else row[figure]
        for row in result["rows"]
        if row["scenario"] == scenario
        and row["server"] == server
        and ("server_busy" if figure == "nodes_busy" else figure) in row
    }


def _nodes_busy(row: dict[str, Any]) -> float:
    """Return the share of a core that both nodes use together."""
    publisher: float = row["publisher_us"] * row["per_second"] / 1e6
    return publisher + float(row["server_busy"])


def values(result: Result, scenario: str, server: str, figure: str) -> list[float]:
    """Return a figure of all rounds, as `by_round` does without their numbers."""
    return list(by_round(result, scenario, server, figure).values())


def paired(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """Return the ratios of the rounds that both have."""
    return [above[turn] / below[turn] for turn in sorted(above.keys() & below) if below[turn]]


def number(value: float) -> str:
    """Return a number as text with three significant digits, or as an integer from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranged(found: Sequence[float]) -> str:
    """Return a figure as text: its median, minimum and maximum."""
    return f"{number(median(found))} ({number(min(found))}-{number(max(found))})"


def spread(ratios: Sequence[float]) -> str:
    """Return a ratio as text: its median, minimum and maximum."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def limited(result: Result, scenario: str, figure: str, *servers: str) -> str:
    """Return a mark for a rate or latency that the generator's busy core may have limited.

    With two nodes, Redis runs on that core too.
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
