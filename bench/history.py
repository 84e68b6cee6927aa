"""Measures the cost of history: the server with and without it, and the cost of a recovery.

    .venv/bin/python bench/history.py

Fan-out and recovery are measured as in `make bench`, fan-out in rounds, A B A B. The cost of a
recovery of 100 events is printed beside that of 100 live events to one of 1,000 subscribers.
"""

import argparse
import statistics
from dataclasses import replace

import report
from measure import measure_all
from run import prepare, titles
from scenarios import SCENARIOS
from servers import ours

ROUNDS = 5
EVENTS = 100  # in a recovery
SECONDS = 3.0  # of a measurement
FANOUT = ("fanout", "fanout-16", "topics-20", "echo")
RECOVERY = "recovery"


def main() -> None:
    prepare()
    plain = ours(title="without a history")
    server = replace(plain, name="history", title="with a history")
    server = replace(server, environ={**server.environ, **server.history})
    scenarios = [
        replace(
            it,
            rounds=ROUNDS,
            arguments=f"{it.arguments} --seconds {SECONDS} --warm-up {min(0.5, SECONDS)}",
        )
        for it in SCENARIOS
        if it.key in (*FANOUT, RECOVERY)
    ]
    fanout = [it for it in scenarios if it.key in FANOUT]
    recovery = [it for it in scenarios if it.key == RECOVERY]
    rows = measure_all([plain, server], fanout) + measure_all([server], recovery)
    result = {"rows": rows, "titles": titles([plain, server])}
    print(report.table(result, fanout))
    live = [EVENTS * it for it in report.values(result, FANOUT[0], "history", "server_us")]
    prices = [EVENTS * it for it in report.values(result, RECOVERY, "history", "server_us")]
    print(f"recovery of {EVENTS} events: {report.ranged(prices)} µs CPU")
    print(f"sending them live to one of 1,000: {report.ranged(live)} µs CPU")
    print(f"ratio of the medians: {statistics.median(prices) / statistics.median(live):.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="of a measurement")
    asked = arguments.parse_args()
    ROUNDS, SECONDS = asked.rounds, asked.seconds
    main()
