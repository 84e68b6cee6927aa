"""Decides whether a run has passed."""

import argparse
from typing import Final

from locust.env import Environment
from locust.stats import RequestStats, StatsEntry

KINDS: Final = ("WS", "SSE")  # types of the rows that have deliveries


def faults(environment: Environment, options: argparse.Namespace) -> list[str]:
    """Return a line for each reason why the run has failed."""
    stats = environment.runner.stats
    errors = environment.runner.exceptions.values()
    found = [f"{it['count']} errors of the load test: {it['msg']}" for it in errors]
    share = 100 * stats.total.fail_ratio
    if share > options.max_failures:
        found.append(
            f"{stats.total.num_failures:,} failures in {stats.total.num_requests:,} requests:"
            f" {share:.2g} %, {options.max_failures:g} allowed"
        )
    if not stats.total.num_requests:
        found.append("nothing was measured")
    for kind in KINDS:
        events, subscribes = _row(stats, "event", kind), _row(stats, "subscribe", kind)
        publishing = options.publishers or options.rest_users
        subscribed = subscribes.num_requests > subscribes.num_failures
        if publishing and subscribed and not events.num_requests:
            found.append(f"no {kind} event was delivered")
        found += _slow(events, 0.95, options.max_p95) + _slow(events, 0.99, options.max_p99)
        found += _slow(_row(stats, "connect", kind), 0.99, options.max_connect)
    return found


def passed(environment: Environment) -> str:
    """Return the line for a run without faults."""
    stats = environment.runner.stats
    parts = [f"{stats.total.num_failures:,} failures in {stats.total.num_requests:,} requests"]
    for kind in KINDS:
        events = _row(stats, "event", kind)
        p95, p99 = map(events.get_response_time_percentile, (0.95, 0.99))
        parts.append(
            f"{events.num_requests:,} {kind} events, 95% within {p95:,} ms, 99% {p99:,} ms"
        )
    return "; ".join(parts)


def _row(stats: RequestStats, name: str, kind: str) -> StatsEntry:
    """Return a row of the report, or an empty one if there is none."""
    return stats.entries.get((name, kind)) or StatsEntry(stats, name, kind)


def _slow(entry: StatsEntry, part: float, limit: float) -> list[str]:
    """Return a line if this part of the requests took longer than the limit in milliseconds."""
    taken = entry.get_response_time_percentile(part)
    if taken <= limit:
        return []
    name = f"{entry.method} {entry.name}"
    return [f"{name}: {part:.0%} within {taken:,} ms, {limit:,g} allowed"]
