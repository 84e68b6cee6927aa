"""The scenarios, and the targets of the server."""

from dataclasses import dataclass

LATENCY = ("p50_ms", "p999_ms", "max_ms", "server_busy", "generator_busy")
PEERS = "every peer"
FLOORS = ("floor", "floor-joined")
FAST = ("ours", *FLOORS, "bun", "gorilla")
WORKERS = ("ours", "workers-2", "workers-4", "workers-8")
WHY_WORKERS = "these rows compare this server as one process, with a Redis, and with workers"
WELL_KNOWN = ("ours", "bun", "gorilla", "centrifugo", "centrifugo-tuned", "nats")
TARGET_ROUNDS = 5  # of a server whose figure a target refers to


@dataclass(frozen=True)
class Scenario:
    """One table of the report: the generator's arguments, and the figure that is compared."""

    key: str
    title: str
    arguments: str
    figure: str = "server_us"  # of the generator's result, which the table compares
    unit: str = "µs CPU per delivery"
    rounds: int = 3  # of a server whose figure no target refers to
    only: tuple[str, ...] = ()  # servers; empty: all
    why: str = ""  # the reason for `only`, for the report
    rest: bool = False  # needs POST /publish
    columns: tuple[str, ...] = (
        "per_second",
        "server_busy",
        "generator_us",
        "generator_busy",
        "rss",
    )
    pinned: bool = True
    history: bool = False  # topics remember 300 events
    cluster: bool = False  # two nodes and a Redis: publisher on one, subscribers on the other
    workers: bool = False  # this server with a Redis, as one process and with workers
    quick: bool = False  # also in `make bench-quick`


SCENARIOS = (
    Scenario("fanout", "fan-out to 1,000, 1 in flight", "--mode burst", quick=True),
    Scenario(
        "fanout-16",
        "fan-out to 1,000, 16 in flight",
        "--mode burst --window 16",
        quick=True,
    ),
    Scenario("fanout-unpinned", "the same unpinned, 1 in flight", "--mode burst", pinned=False),
    Scenario(
        "fanout-10k",
        "fan-out to 10,000, 1 in flight",
        "--mode burst --conns 10000 --seconds 4",
        rounds=2,
    ),
    Scenario(
        "topics-20",
        "1,000 clients in 20 of 1,000 topics each, 16 in flight",
        "--mode burst --topics 1000 --per 20 --window 16",
    ),
    Scenario(
        "echo",
        "1 to 1 on one pair of connections, 64 in flight",
        "--mode echo --conns 1 --window 64",
        quick=True,
    ),
    Scenario("echo-64", "1 to 1 on 64 pairs, 1 in flight each", "--mode echo --conns 64"),
    Scenario(
        "rest",
        "REST publishes on 16 kept-alive connections",
        "--mode rest --conns 16",
        unit="µs CPU per publish",
        rest=True,
    ),
    *(
        Scenario(
            f"latency-{conns}",
            f"1,000 messages/s to 10 of {conns:,} subscribers each: latency",
            f"--mode rate --conns {conns} --topics {conns // 10} --rate 1000 --seconds 6",
            figure="p99_ms",
            unit="ms p99",
            columns=LATENCY,
        )
        for conns in (100, 1_000, 10_000)
    ),
    Scenario(
        "latency-long",
        "1,000 messages/s to 10 of 10,000 subscribers each, 20 s: the longest pause",
        "--mode rate --conns 10000 --topics 1000 --rate 1000 --seconds 20",
        figure="max_ms",
        unit="ms, worst",
        only=WELL_KNOWN,
        why="a measurement takes 20 s, and the table before this one has them",
        columns=("p50_ms", "p99_ms", "p999_ms", "server_busy", "generator_busy"),
        rounds=2,
    ),
    Scenario(
        "storm",
        "5,000 connects, 64 at a time",
        "--mode storm --conns 5200",
        unit="µs CPU per connection",
    ),
    Scenario(
        "idle-1k",
        "memory of 1,000 idle subscribers",
        "--mode idle --conns 1200 --seconds 0.5 --warm-up 1",
        figure="rss_per_connection",
        unit="bytes RSS per connection",
        columns=("rss",),
        quick=True,
    ),
    Scenario(
        "idle-10k",
        "memory of 10,000 idle subscribers",
        "--mode idle --conns 10200 --seconds 0.5 --warm-up 1",
        rounds=2,
        figure="rss_per_connection",
        unit="bytes RSS per connection",
        columns=("rss",),
    ),
    Scenario(
        "idle-cpu",
        "processor time of 10,000 idle subscribers",
        # Every client is due for a ping once, after 54 s.
        "--mode idle --conns 10000 --seconds 60 --warm-up 1",
        figure="server_busy",
        unit="of a core",
        only=WELL_KNOWN,
        why="a measurement takes a minute, and the target is of this server alone",
        columns=("server_busy", "rss"),
        rounds=2,
    ),
    Scenario(
        "history",
        "fan-out to 1,000 with a history of 300 events, 1 in flight",
        "--mode burst",
        history=True,
    ),
    Scenario(
        "recovery",
        "64 clients at a time recover 100 events each",
        "--mode recover --conns 65 --window 100",
        unit="µs CPU per recovered event",
        history=True,
    ),
    Scenario("payload-16", "fan-out to 1,000 of 16 bytes", "--mode burst --payload 16"),
    Scenario("payload-4k", "fan-out to 1,000 of 4 KB", "--mode burst --payload 4096"),
    Scenario("payload-60k", "fan-out to 1,000 of 60 KB", "--mode burst --payload 60000"),
    Scenario(
        "topics-100k",
        "100,000 topics with one subscriber each, 64 in flight",
        "--mode burst --topics 100000 --per 100 --window 64",
    ),
    Scenario(
        "rate",
        "one server: 10,000 messages/s from one to one subscriber",
        "--mode rate --rate 10000 --conns 1 --seconds 3",
        unit="µs CPU per message",
        columns=("per_second", "p50_ms", "server_busy", "generator_busy"),
    ),
    Scenario(
        "cluster-rate",
        "two nodes: 10,000 messages/s from one to a subscriber on the other",
        "--mode rate --rate 10000 --conns 1 --seconds 3",
        figure="nodes_us",
        unit="µs CPU of both nodes per message",
        columns=(
            "per_second",
            "publisher_us",
            "server_us",
            "redis_us",
            "p50_ms",
            "nodes_busy",
            "generator_busy",
        ),
        cluster=True,
    ),
    Scenario(
        "cluster-latency",
        "two nodes: 1,000 messages/s from one to a subscriber on the other",
        "--mode rate --rate 1000 --conns 1 --seconds 6",
        figure="p50_ms",
        unit="ms p50",
        columns=("p99_ms", *LATENCY[1:]),
        cluster=True,
    ),
    Scenario(
        "cluster-burst",
        "two nodes: 256 in flight from one to a subscriber on the other",
        "--mode burst --window 256 --conns 1",
        figure="nodes_us",
        unit="µs CPU of both nodes per message",
        columns=("per_second", "publisher_us", "server_us", "redis_us", "generator_busy"),
        cluster=True,
    ),
    Scenario(
        "cluster-fanout",
        "two nodes: 16 in flight from one to 100 subscribers on the other",
        "--mode burst --window 16 --conns 100",
        figure="nodes_us",
        unit="µs CPU of both nodes per delivery",
        columns=("per_second", "publisher_us", "server_us", "redis_us", "generator_busy"),
        cluster=True,
    ),
    *(
        Scenario(
            f"workers-fanout{'' if window == 1 else f'-{window}'}",
            f"workers: fan-out to 1,000 through Redis, {window} in flight",
            f"--mode burst --window {window}",
            unit="µs CPU of all processes per delivery",
            only=WORKERS,
            why=WHY_WORKERS,
            columns=("per_second", "redis_us", "server_busy", "generator_us", "generator_busy"),
            workers=True,
        )
        for window in (1, 16)
    ),
    Scenario(
        "workers-storm",
        "workers: 5,000 connects, 64 at a time",
        "--mode storm --conns 5200",
        unit="µs CPU of all processes per connection",
        only=WORKERS,
        why=WHY_WORKERS,
        workers=True,
    ),
)


@dataclass(frozen=True)
class Target:
    """A bound for the ratio of this server's figure to another figure of the same run."""

    scenario: str
    figure: str
    against: str  # a server; PEERS: the best peer; a scenario: this server there; "": no ratio
    bound: float
    at_least: bool = False  # the bound is a minimum, else a maximum


TARGETS = (
    Target("fanout", "server_us", "floor", 1.25),
    Target("fanout", "server_us", "gorilla", 0.75),
    Target("fanout", "per_second", "bun", 1.0, at_least=True),
    Target("fanout", "per_second", "gorilla", 1.3, at_least=True),
    Target("fanout-16", "per_second", "bun", 1.0, at_least=True),
    Target("fanout-16", "per_second", "gorilla", 6.0, at_least=True),
    Target("fanout-16", "per_second", "floor-joined", 0.9, at_least=True),
    Target("fanout-10k", "server_us", "fanout", 1.3),
    Target("echo", "per_second", "gorilla", 1.5, at_least=True),
    Target("echo", "per_second", "bun", 0.6, at_least=True),
    Target("idle-1k", "rss_per_connection", "", 5 * 1024),
    Target("idle-1k", "rss_per_connection", PEERS, 1.0),
    Target("idle-10k", "rss_per_connection", "", 5 * 1024),
    Target("idle-10k", "rss_per_connection", PEERS, 1.0),
    Target("storm", "server_us", "gorilla", 1.0),
    Target("idle-cpu", "server_busy", "", 0.01),
    Target("latency-long", "max_ms", "", 20.0),
    Target("cluster-rate", "publisher_us", "", 25.0),
    Target("cluster-rate", "server_us", "", 25.0),
    Target("cluster-burst", "per_second", "socketio", 5.0, at_least=True),
    Target("cluster-burst", "per_second", "centrifugo", 0.7, at_least=True),
    Target("cluster-fanout", "per_second", "socketio", 5.0, at_least=True),
    Target("cluster-fanout", "per_second", "centrifugo", 0.7, at_least=True),
    # 2 workers take at most 1.1 times the processor time of one process.
    Target("workers-fanout", "server_us", "workers-2", 0.91, at_least=True),
)


def with_targets(scenario: Scenario, server: str) -> int:
    """Return the rounds of a server in a whole run: more if a target refers to its figure."""
    for target in TARGETS:
        if target.scenario == scenario.key:
            rivals = {target.against, "ours"}
            if server in rivals or (target.against == PEERS and server not in FLOORS):
                return TARGET_ROUNDS
        elif target.against == scenario.key and server == "ours":
            return TARGET_ROUNDS
    return scenario.rounds
