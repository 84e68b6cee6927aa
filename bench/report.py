"""Medians, ratios with their spread, the table in bench/README.md and the plots."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from scenarios import FLOORS, PEERS, SCENARIOS, TARGETS, Scenario, Target
from servers import BENCH

START, END = "<!-- table: written by bench/run.py -->\n", "<!-- end of table -->\n"

PLOTS = (
    "![Deliveries a second and CPU per delivery, by server](results/fanout.png)\n\n"
    "![Latency and memory against connections](results/connections.png)\n\n"
)

Result = dict[str, Any]


def by_round(result: Result, scenario: str, server: str, figure: str) -> dict[int, float]:
    """A figure by round; empty where the server was missing, failed or had no part."""
    return {
        row["round"]: row[figure]
        for row in result["rows"]
        if row["scenario"] == scenario and row["server"] == server and figure in row
    }


def values(result: Result, scenario: str, server: str, figure: str) -> list[float]:
    """The same without the rounds' numbers, for a median."""
    return list(by_round(result, scenario, server, figure).values())


def why_not(result: Result, scenario: str, server: str) -> str:
    """What a cell says where there is no figure."""
    for row in result["rows"]:
        if row["scenario"] == scenario and row["server"] == server:
            for word in ("missing", "failed"):
                if word in row:
                    reason = " ".join(str(row[word]).split()).replace("|", "\\|")
                    return f"{word}: {reason}"
    return "not measured"


def paired(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """The ratios of the rounds that both have."""
    return [above[turn] / below[turn] for turn in sorted(above.keys() & below) if below[turn]]


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(ratios: Sequence[float]) -> str:
    """A ratio: its median, and the least and the most of any round."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


COLUMNS = {
    "per_second": ("a second", number),
    "server_busy": ("server busy", "{:.1%}".format),
    "generator_us": ("generator µs", number),
    "generator_busy": ("generator busy", "{:.0%}".format),
    "rss": ("RSS MB", lambda value: f"{value / 1e6:,.0f}"),
    "p50_ms": ("p50", number),
    "p999_ms": ("p99.9", number),
    "p99_ms": ("p99", number),
    "publisher_us": ("publisher's node µs", number),
    "server_us": ("subscribers' node µs", number),
    "redis_us": ("Redis µs", number),
    "max_ms": ("worst", number),
}

FIGURES = {
    "server_us": "CPU",
    "publisher_us": "CPU of the publisher's node",
    "per_second": "rate",
    "rss_per_connection": "bytes of RSS per connection",
    "server_busy": "share of a core",
    "max_ms": "worst latency in ms",
}


def table(result: Result, scenarios: Sequence[Scenario] = SCENARIOS) -> str:
    """One part a scenario, one line a server, in the order of the figure."""
    return "\n".join(_part(result, scenario) for scenario in scenarios)


def _part(result: Result, scenario: Scenario) -> str:
    heads = [
        "server",
        scenario.unit,
        "times ours",
        *(COLUMNS[name][0] for name in scenario.columns),
    ]
    lines = [f"#### {scenario.title}\n", _row(heads), "|---" * len(heads) + "|"]
    asked = [row["server"] for row in result["rows"] if row["scenario"] == scenario.key]
    found: list[tuple[float, str]] = []
    for name, title in result["titles"].items():
        theirs = values(result, scenario.key, name, scenario.figure)
        failed = asked.count(name) - len(theirs)
        if theirs:
            note = f"{title} ({failed} of {asked.count(name)} rounds failed)" if failed else title
            found.append((median(theirs), _line(result, scenario, name, note)))
        elif failed:
            cells = [title, why_not(result, scenario.key, name), *[""] * (len(heads) - 2)]
            found.append((float("inf"), _row(cells)))
    everywhere = {row["server"] for row in result["rows"] if row["scenario"] == "fanout"}
    left_out = [title for name, title in result["titles"].items() if name in everywhere - {*asked}]
    note = f"\nNot measured: {', '.join(left_out)}.\n" if scenario.only and left_out else ""
    return "\n".join([*lines, *(line for _, line in sorted(found))]) + f"\n{note}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(result: Result, scenario: Scenario, name: str, title: str) -> str:
    theirs = by_round(result, scenario.key, name, scenario.figure)
    ratios = paired(theirs, by_round(result, scenario.key, "ours", scenario.figure))
    besides = [
        COLUMNS[column][1](median(values(result, scenario.key, name, column)))
        for column in scenario.columns
    ]
    figure = number(median(theirs.values()))
    return _row([title, figure, spread(ratios) if ratios else "", *besides])


def targets(result: Result) -> str:
    """What was to be reached, and what was."""
    lines = ["| target | bound | reached | |", "|---|---|---|---|"]
    for target in TARGETS:
        reached = _ratios(result, target)
        verdict = "not measured"
        if reached:
            middle = median(reached)
            met = middle >= target.bound if target.at_least else middle <= target.bound
            verdict = "met" if met else "**missed**"
        sign = "≥" if target.at_least else "≤"
        cells = [_named(result, target), f"{sign} {target.bound:g}", _shown(reached), verdict]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _named(result: Result, target: Target) -> str:
    """What a target compares, in words."""
    titles = {scenario.key: scenario.title for scenario in SCENARIOS}
    name = f"{titles[target.scenario]}: {FIGURES[target.figure]}"
    if not target.against:
        return name
    if target.against in titles:
        return f"{name} / the same in {titles[target.against]}"
    return f"{name} / {result['titles'].get(target.against, target.against)}"


def _shown(reached: Sequence[float]) -> str:
    if not reached:
        return ""
    return f"{number(median(reached))} ({number(min(reached))}-{number(max(reached))})"


def _ratios(result: Result, target: Target) -> list[float]:
    mine = by_round(result, target.scenario, "ours", target.figure)
    if not target.against:
        return list(mine.values())
    if target.against == PEERS:
        return paired(mine, _least(result, target))
    if target.against in result["titles"]:
        return paired(mine, by_round(result, target.scenario, target.against, target.figure))
    return paired(mine, by_round(result, target.against, "ours", target.figure))


def _least(result: Result, target: Target) -> dict[int, float]:
    """The least that any peer has of a figure, by round; nothing where one was not measured."""
    asked = {row["server"] for row in result["rows"] if row["scenario"] == target.scenario}
    peers = asked - {"ours", *FLOORS}
    figures = [by_round(result, target.scenario, name, target.figure) for name in peers]
    turns = set.intersection(*(set(figure) for figure in figures)) if figures else set()
    return {turn: min(figure[turn] for figure in figures) for turn in turns}


def check() -> None:
    """Fail before the measuring, not after it: where there is no place to write, or to draw.

    Raises:
        ImportError: matplotlib is not there; `make bench` installs it.
    """
    import plots  # noqa: F401

    text = (BENCH / "README.md").read_text()
    if START not in text or END not in text:
        raise SystemExit("bench/README.md has lost the marks between which the tables go")


def write(result: Result) -> None:
    """Put the tables into bench/README.md and draw the plots."""
    import plots  # matplotlib is needed for these alone

    readme = BENCH / "README.md"
    before, _, rest = readme.read_text().partition(START)
    after = rest.partition(END)[2]
    machine = result["machine"]
    head = (
        f"Measured on {result['date']} by `{result['command']}` in {result['minutes']} minutes:"
        f" {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']},"
        f" Python {machine['python']}.\n\n"
    )
    versions = [f"{result['titles'][name]}: {it}" for name, it in result["versions"].items()]
    head += f"Versions: {'; '.join(versions)}.\n\n" if versions else ""
    head += f"{PLOTS}### Targets\n\n{targets(result)}\n"
    body = f"## Results\n\n{head}### Scenarios\n\n{table(result)}"
    readme.write_text(f"{before}{START}\n{body}\n{END}{after}")
    plots.draw(result)
