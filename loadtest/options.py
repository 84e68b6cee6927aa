"""The options that the load test adds to Locust's, and their checks."""

import argparse
import math
from collections.abc import Callable
from typing import Final

from loadtest.events import MIN_SIZE

# A publisher reads only when it waits for an ack, so it must publish before the server pings it and
# cuts it (PING_INTERVAL, IDLE_TIMEOUT).
_MIN_RATE: Final = 0.05


def _number(low: float, whole: bool = False) -> Callable[[str], float]:
    """Return a parser of numbers of at least `low`."""

    def parse(text: str) -> float:
        try:
            number = int(text) if whole else float(text)
        except ValueError:
            number = math.nan
        if not low <= number < math.inf:
            allowed = f"a {'whole ' if whole else ''}number from {low:g} is allowed"
            raise argparse.ArgumentTypeError(f"{text!r} is not valid: {allowed}")
        return number

    return parse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; Locust shows them in `--help`."""
    load = parser.add_argument_group("load")
    share = _number(0)
    for name, default, what in (
        ("subscribers", 80, "WebSockets that subscribe to a topic"),
        ("streams", 10, "streams of Server-Sent Events of a topic"),
        ("publishers", 8, "WebSockets that publish"),
        ("rest-users", 2, "back ends that publish and read by REST"),
    ):
        text = f"their share of the users: {what} [{default}]"
        load.add_argument(f"--{name}", type=share, default=default, metavar="SHARE", help=text)
    load.add_argument("--topics", type=_number(1, whole=True), default=10, help="number [10]")
    load.add_argument("--prefix", default="loadtest/", help="of the topics' names [loadtest/]")
    load.add_argument(
        "--size",
        type=_number(MIN_SIZE, whole=True),
        default=200,
        help=f"bytes of a payload, from {MIN_SIZE} [200]",
    )
    load.add_argument(
        "--rate", type=_number(_MIN_RATE), default=1.0, help="events a second of each publisher [1]"
    )
    access = parser.add_argument_group("access")
    access.add_argument(
        "--token-file", metavar="FILE", help="a file with the clients' token [BROADCAST_TOKEN]"
    )
    access.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="the file of API_KEYS_FILE, for topics and back ends [the token]",
    )
    limits = parser.add_argument_group("limits, beyond which the run fails")
    for name, default, what in (
        ("max-failures", 0, "percent of failures"),
        ("max-p95", 250, "milliseconds from publish to delivery, for 95 % of the deliveries"),
        ("max-p99", 1_000, "the same for 99 %"),
        ("max-connect", 5_000, "milliseconds of a connect, for 99 % of them"),
        ("silence", 10, "seconds without an event, after which a subscriber gives up"),
    ):
        text = f"{what} [{default:,}]"
        limits.add_argument(f"--{name}", type=_number(0), default=default, help=text)
    own = parser.add_argument_group("limits of the generator, beyond which it warns")
    own.add_argument("--max-cpu", type=_number(0), default=85, help="percent of a core [85]")
    own.add_argument("--max-lag", type=_number(0), default=100, help="milliseconds [100]")
