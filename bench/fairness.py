"""Measures how one client delays others: round trips of quiet clients during an attack.

    .venv/bin/python bench/fairness.py                 every row
    .venv/bin/python bench/fairness.py --only burst    tables or rows, by key

The server has one core and all clients share the other; every row of every round starts a new
server. A row whose measurement is invalid (a quiet client lost a message, a flood got no answer) is
printed as failed, and the exit status is 1.
"""

import argparse
import base64
import http.client
import json
import os
import resource
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from fairness_clients import (
    CONTINUATION,
    EVENT,
    INFO,
    NICENESS,
    PATIENCE,
    PING,
    Child,
    burn,
    command,
    connect,
    flood,
    frame,
    quiet,
    read,
    subscribe,
)
from report import ranged
from servers import GENERATOR_CORE, SERVER_CORE, ours, running

QUIET: Final = 50  # clients
PERIOD: Final = 0.02  # seconds between two messages of each
BURST: Final = 4_000_000  # bytes sent at once; the limit of a batch is 4,194,304
READERS: Final = 20  # subscribers of the topic of a burst
ITEMS: Final = 1_000  # of a batch
FILES: Final = 20_000  # open files that 12,800 subscribers need

# Subscribers that only wait answer no pings, and setting up 400,000 topics may take a minute. One
# client subscribes to 200,000 of them.
PATIENT: Final = {"PING_INTERVAL": "3600", "IDLE_TIMEOUT": "7200"}
ROOMY: Final = {"MAX_SUBSCRIPTIONS": "1000000", "MAX_TOPICS": "1000000"}
SERVER: Final = replace(ours(), environ={**ours().environ, **PATIENT, **ROOMY})

Figures = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """The arguments of the command line that rows need."""

    seconds: float  # of one measurement
    scale: float  # factor for counts of topics, subscribers and bytes; below 1 for tests

    def of(self, count: int) -> int:
        return max(1, round(count * self.scale))


def call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Make a request, and return its status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check(is_so: bool, what: str) -> None:
    if not is_so:
        raise RuntimeError(what)


def codes(closes: dict[int, int]) -> str:
    """Return the close codes as text for a table cell."""
    return " ".join(map(str, sorted(closes))) or "-"


# fairness


@dataclass(frozen=True)
class Attack:
    """The messages of the attacking client, in pieces, and the subscribers of its topics."""

    message: Callable[[int], bytes]  # for the nth topic
    answer: bytes  # occurs once in each answer; empty if messages are not answered
    burst: int = 0  # bytes of a piece; 0: a piece has `together` messages
    together: int = 64  # messages of a piece
    ahead: float = 1  # the next piece is started while fewer messages than this are unanswered
    opening: bytes | None = b""  # sent first on each connection; None: HTTP
    topics: int = 1
    subscribers: int = 0  # of each topic
    idle: int = 0  # subscribers of a topic to which nobody publishes
    access: bool = False  # whether the server has access control, and the attack has no right


ACKED, REFUSED = b'"type":"ack"', b'"type":"error"'


# What the quiet clients do, without a token, and nothing else.
ACCESS: Final = {
    "JWT_SECRET": "x" * 32,
    "ANONYMOUS_SUBSCRIBE": "quiet/#",
    "ANONYMOUS_PUBLISH": "quiet/#",
}
GUESS: Final = b".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=")
    for part in (b'{"alg":"HS256"}', b'{"sub":"ann"}', b"x" * 32)
)


def _publish(topic: int) -> bytes:
    return command(type="publish", topic=f"loud/{topic}", payload=0)


def _list(query: str) -> Attack:
    """Return an attack that lists connections again and again, on a server that has 10,000."""
    request = f"GET /connections{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    return Attack(lambda _: request, b'{"connections":', together=1, opening=None, idle=10_000)


ATTACKS: Final = {
    "publisher": Attack(_publish, ACKED, ahead=4_096),
    "publisher-heard": Attack(_publish, ACKED, ahead=4_096, subscribers=10),
    "empty-texts": Attack(lambda _: frame(b""), REFUSED, together=1_024, ahead=float("inf")),
    "empty-pings": Attack(lambda _: frame(b"", PING), b"\x8a\x00", burst=BURST),
    "empty-fragments": Attack(
        lambda _: frame(b"", CONTINUATION, False),
        b"",
        together=10_000,
        opening=frame(b"", final=False),
    ),
    "publishes-4mb": Attack(_publish, ACKED, burst=BURST),
    "rest-4mb": Attack(
        lambda _: b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b'"status":"ok"',
        burst=BURST,
        opening=None,
    ),
    "guesses": Attack(
        lambda _: b"GET /stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % GUESS,
        b"Token is not valid",
        opening=None,
        access=True,
    ),
    "forbidden": Attack(_publish, REFUSED, ahead=4_096, access=True),
    "connections": _list(""),
    "connections-of-nobody": _list("?sub=nobody"),
    "connections-of-topic": _list("?topic=idle"),
    "topics-64": Attack(_publish, ACKED, topics=64, subscribers=200),
}


def fairness(asked: Asked, attack: Attack | None) -> Figures:
    """Measure the round trips of the quiet clients, during the attack or alone."""
    environ = ACCESS if attack is not None and attack.access else {}
    server = replace(SERVER, environ={**SERVER.environ, **environ})
    with running(server, SERVER_CORE) as (port, _), ExitStack() as stack:
        clients = stack.enter_context(Child(quiet, port, QUIET, PERIOD, False))
        if attack is None:
            return {**_clocked(clients, asked.seconds), "rate": "-", "codes": "-"}
        topics = [f"loud/{number}" for number in range(asked.of(attack.topics))]
        for topic in topics:
            call(port, "POST", "/topics", json.dumps({"name": topic}).encode())
        if attack.idle:
            count = asked.of(attack.idle)
            stack.enter_context(Child(read, port, ["idle"], count, NICENESS))
        readers = None
        if attack.subscribers:
            each = asked.of(attack.subscribers)
            readers = stack.enter_context(Child(read, port, topics, each, NICENESS))
        message = attack.message(0)
        messages = asked.of(attack.burst) // len(message) if attack.burst else attack.together
        piece = b"".join([attack.message(number % len(topics)) for number in range(messages)])
        flooder = stack.enter_context(
            Child(flood, port, piece, messages, attack.answer, attack.ahead, attack.opening)
        )
        flooder.tell()
        figures = _clocked(clients, asked.seconds)
        done = flooder.ask()
        check(done["done"] > 0, "no message of the flood was answered")
        if readers is not None:
            heard = readers.ask()
            check(heard["counts"].get(EVENT, 0) > 0, "no subscriber got an event of the flood")
            done["closes"] = Counter(done["closes"]) + Counter(heard["closes"])
        return {**figures, "rate": done["rate"], "codes": codes(done["closes"])}


def _clocked(clients: Child, seconds: float) -> Figures:
    clients.tell()
    time.sleep(seconds)
    figures: Figures = clients.ask()
    return figures


# burst


def burst(asked: Asked, together: bool) -> Figures:
    """Publish two batches of 4 MB, in sequence or `together`, to 20 clients on a busy core."""
    size = BURST // ITEMS - 30
    items = [{"topic": "burst", "payload": "x" * size}] * asked.of(ITEMS)
    body = json.dumps({"items": items}).encode()
    with running(SERVER, SERVER_CORE) as (port, _), ExitStack() as stack:
        call(port, "POST", "/topics", b'{"name":"burst"}')  # it exists until it is deleted
        readers = stack.enter_context(Child(read, port, ["burst"], READERS, 0))
        stack.enter_context(Child(burn))

        def post() -> float:
            start = time.monotonic()
            status, answer = call(port, "POST", "/publish/batch", body)
            took = time.monotonic() - start
            results = json.loads(answer).get("results", [])
            done = [it for it in results if it.get("status") == "published"]
            check(len(done) == len(items), f"{status}: {len(done)} items were published")
            return took

        if together:
            with ThreadPoolExecutor(2) as pool:
                took = [it.result() for it in [pool.submit(post), pool.submit(post)]]
        else:
            took = [post(), post()]
        sent = 2 * len(items) * READERS
        heard = _settled(readers, sent)
        cut = heard["closes"].get(1013, 0)
        events = heard["counts"].get(EVENT, 0)
        check(bool(heard["closes"]) or events == sent, f"{events} of {sent} events came")
        return {
            "cut": cut,
            "other": sum(heard["closes"].values()) - cut,
            "share": 100 * events / sent,
            "first": min(took) if together else took[0],
            "second": max(took) if together else took[1],
        }


def _settled(readers: Child, events: int) -> Any:
    """Return the readers' counts when all events or, for two seconds, no events have come."""
    heard = readers.ask()
    since = time.monotonic()
    while heard["counts"].get(EVENT, 0) < events and time.monotonic() < since + 2:
        time.sleep(0.1)
        before, heard = heard, readers.ask()
        if heard != before:
            since = time.monotonic()
    return heard


# leave


def longest(port: int, seconds: float, act: Callable[[], Any]) -> tuple[Figures, Any]:
    """Return the longest round trip of pings during `act` and `seconds` after, and its result."""
    with Child(quiet, port, 5, 0.01, True) as pings:  # one each 2 ms
        pings.tell()
        time.sleep(0.1)
        start = time.monotonic()
        outcome = act()
        took = time.monotonic() - start
        time.sleep(seconds)
        figures = pings.ask()
    return {"longest": figures["max"], "late": figures["late"], "took": took}, outcome


def leave(asked: Asked, topics: int) -> Figures:
    """Disconnect a client that is subscribed to a number of topics."""
    with running(SERVER, SERVER_CORE) as (port, _):
        (client,) = connect(port, 1)
        subscribe(client, [f"leave/{number}" for number in range(asked.of(topics))])
        # Not close(): the pinging process inherits the socket and would keep it open.
        figures, _ = longest(port, asked.seconds, partial(client.shutdown, socket.SHUT_RDWR))
        client.close()
        answer = call(port, "GET", "/stats")[1]
        left = json.loads(answer)["total_topics"]
        check(left == 0, f"{left} topics are still there after {asked.seconds} s")
        return {**figures, "took": "-", "status": "-"}


def delete(asked: Asked) -> Figures:
    """Delete a topic with 10,000 subscribers."""
    count = asked.of(10_000)
    with (
        running(SERVER, SERVER_CORE) as (port, _),
        Child(read, port, ["crowded"], count, NICENESS) as readers,
    ):
        act = partial(call, port, "DELETE", "/topics/crowded")
        figures, (status, _) = longest(port, asked.seconds, act)
        heard = readers.ask()["counts"].get(INFO, 0)
        check(heard == count, f"{heard} of {count} subscribers were told")
        return {**figures, "status": status}


def lists(asked: Asked, path: str) -> Figures:
    """Make a GET request to a server with 400,000 topics."""
    count = asked.of(400_000)
    with running(SERVER, SERVER_CORE) as (port, _), ExitStack() as stack:
        for start in range(0, count, 50_000):
            (client,) = connect(port, 1)
            stack.enter_context(client)
            part = range(start, min(start + 50_000, count))
            subscribe(client, [f"many/{number}" for number in part])
        figures, (status, answer) = longest(port, asked.seconds, partial(call, port, "GET", path))
        said = json.loads(answer)
        known = said["topics"] if path == "/health" else said.get("count", said.get("total_topics"))
        check(known == count, f"{known} of {count} topics are known")
        return {**figures, "status": status}


def scrape(asked: Asked) -> Figures:
    """Read the metrics of a server with 10,000 connections and 100,000 topics, ten times."""
    connections, topics = asked.of(10_000), asked.of(100_000)
    with (
        running(SERVER, SERVER_CORE) as (port, _),
        Child(read, port, ["idle"], connections - 1, NICENESS),
        connect(port, 1)[0] as client,
    ):
        subscribe(client, [f"many/{number}" for number in range(topics - 1)])
        times: list[float] = []

        def act() -> tuple[int, bytes]:
            for _ in range(10):
                start = time.monotonic()
                answer = call(port, "GET", "/metrics")
                times.append(time.monotonic() - start)
            return answer

        figures, (status, answer) = longest(port, asked.seconds, act)
        for name, count in {"connections": connections + 5, "topics": topics}.items():
            check(f"\nbroadcast_{name} {count:.1f}\n" in answer.decode(), f"not {count} {name}")
        return {**figures, "took": max(times), "status": status}


def brackets(asked: Asked, items: int) -> Figures:
    """Publish a batch of 4 MB of brackets in `items` items; a single item is too large."""
    each = asked.of(1_390_000) // items
    body = json.dumps(
        {"items": [{"topic": "t", "payload": [[]] * each}] * items}, separators=(",", ":")
    ).encode()
    with running(SERVER, SERVER_CORE) as (port, _):
        call(port, "POST", "/topics", b'{"name":"t"}')
        act = partial(call, port, "POST", "/publish/batch", body)
        figures, (status, _) = longest(port, asked.seconds, act)
        check(status in (200, 400), f"the batch was answered by {status}")
        return {**figures, "status": status}


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    key: str
    title: str
    measure: Callable[[Asked], Figures]
    goal: float | None = None  # upper bound of the group's goal figure


@dataclass(frozen=True)
class Group:
    """One table: its columns' titles by figure, and the figure that has a goal."""

    key: str
    columns: dict[str, str]
    goal: str
    rows: list[Row]


GROUPS: Final = [
    Group(
        "fairness",
        {
            "p50": "p50, ms",
            "p99": "p99",
            "max": "max",
            "late": "client lateness, p99",
            "count": "messages",
            "rate": "attack, messages/s",
            "codes": "attacker closed with",
        },
        "p99",
        [
            Row("alone", "alone", partial(fairness, attack=None)),
            *(
                Row(key, title, partial(fairness, attack=ATTACKS[key]), 20)
                for key, title in {
                    "publisher": "a publisher at full speed, no subscriber",
                    "publisher-heard": "a publisher at full speed, 10 subscribers",
                    "empty-texts": "empty text frames",
                    "empty-pings": "empty pings, 4 MB at a time",
                    "empty-fragments": "empty fragments, never final",
                    "publishes-4mb": "tiny publishes, 4 MB at a time",
                    "rest-4mb": "pipelined `GET /health`, 4 MB at a time",
                    "guesses": "`GET /stats` with invalid tokens",
                    "forbidden": "publishes without a right",
                    "connections": "`GET /connections` with 10,000 connections",
                    "connections-of-nobody": "the same with `?sub=`, of which there is none",
                    "connections-of-topic": "the same with `?topic=`, of 10,000 subscribers",
                    "topics-64": "64 publishes at a time, to 64 topics of 200 subscribers",
                }.items()
            ),
        ],
    ),
    Group(
        "burst",
        {
            "cut": f"of {READERS} closed with 1013",
            "other": "closed otherwise",
            "share": "% of events received",
            "first": "first batch, s",
            "second": "second batch, s",
        },
        "cut",
        [
            Row("burst-sequence", "in sequence", partial(burst, together=False), 0),
            Row("burst-together", "both at once", partial(burst, together=True), 0),
        ],
    ),
    Group(
        "leave",
        {
            "longest": "longest ping, ms",
            "late": "client lateness, p99",
            "took": "answered after, s",
            "status": "status",
        },
        "longest",
        [
            Row("leave-50k", "a client leaves 50,000 topics", partial(leave, topics=50_000), 50),
            Row("leave-200k", "a client leaves 200,000 topics", partial(leave, topics=200_000), 50),
            Row("delete", "`DELETE` of a topic with 10,000 subscribers", delete, 100),
            *(
                Row(path[1:], f"`GET {path}` with 400,000 topics", partial(lists, path=path), 50)
                for path in ("/stats", "/topics", "/health")
            ),
            Row(
                "metrics",
                "`GET /metrics` with 10,000 connections and 100,000 topics, the slowest of ten",
                scrape,
                20,
            ),
            Row("brackets", "a batch of 1,390,000 brackets", partial(brackets, items=64), 50),
            Row(
                "brackets-one",
                "the same in one item, which is too large",
                partial(brackets, items=1),
                50,
            ),
        ],
    ),
]


def shown(rounds: list[Figures], key: str) -> str:
    values = [it[key] for it in rounds]
    if all(isinstance(it, int | float) for it in values):
        return ranged(values)
    return ", ".join(sorted(set(map(str, values))))


def verdict(goal: float | None, values: list[float]) -> str:
    if goal is None:
        return "-"
    return f"≤ {goal:g}: " + ("met" if statistics.median(values) <= goal else "**missed**")


def table(group: Group, rows: list[Row], results: dict[str, list[Figures]]) -> str:
    head = [group.key, *group.columns.values(), "goal"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        rounds = [it for it in results[row.key] if "failed" not in it]
        failed = [it["failed"] for it in results[row.key] if "failed" in it]
        if failed:
            count = f"{len(failed)} of {len(results[row.key])} rounds failed"
            lines.append(f"| {row.title} | {count}: {failed[0]} |")
        if rounds:
            cells = [shown(rounds, key) for key in group.columns]
            goal = verdict(row.goal, [it[group.goal] for it in rounds])
            lines.append(f"| {' | '.join([row.title, *cells, goal])} |")
    return "\n".join(lines)


def chosen(only: str) -> dict[str, list[Row]]:
    """Return the rows to measure, by group; `only` has keys of groups and rows; empty: all.

    Raises:
        SystemExit: there is no such key.
    """
    keys = set(only.split(",")) if only else {group.key for group in GROUPS}
    known = {group.key for group in GROUPS} | {row.key for it in GROUPS for row in it.rows}
    if not keys <= known:
        sys.exit(f"no such row: {', '.join(sorted(keys - known))}; there are {', '.join(known)}")
    return {
        group.key: [row for row in group.rows if keys & {group.key, row.key}] for group in GROUPS
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", default="", help="keys of tables or rows, with commas")
    arguments.add_argument(
        "--scale", type=float, default=1.0, help="factor for topics, subscribers and bytes"
    )
    given = arguments.parse_args()
    rows = chosen(given.only)
    asked = Asked(given.seconds, given.scale)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    os.sched_setaffinity(0, {GENERATOR_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # runs the cleanup of servers and clients
    results: dict[str, list[Figures]] = {}
    for number in range(given.rounds):
        for row in (row for part in rows.values() for row in part):
            print(f"round {number + 1}: {row.title}", file=sys.stderr, flush=True)
            try:
                figures = row.measure(asked)
            except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
                figures = {"failed": f"{type(error).__name__}: {error}"}
            results.setdefault(row.key, []).append(figures)
    for group in GROUPS:
        if rows[group.key]:
            print(f"\n{table(group, rows[group.key], results)}")
    sys.exit(any("failed" in it for rounds in results.values() for it in rounds))


if __name__ == "__main__":
    main()
