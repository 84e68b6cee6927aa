"""Medians, ratios with their spread, the table in bench/README.md and the plots."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from scenarios import SCENARIOS, TARGETS, Scenario, Target
from servers import BENCH

START, END = "<!-- table: written by bench/run.py -->\n", "<!-- end of table -->\n"

PLOTS = (
    "![Deliveries a second and CPU per delivery, by server](results/fanout.png)\n\n"
    "![Latency and memory against connections](results/connections.png)\n\n"
)

Result = dict[str, Any]


def values(result: Result, scenario: str, server: str, figure: str) -> list[float]:
    """A figure by round; empty where the server was missing, failed or had no part."""
    return [
        row[figure]
        for row in result["rows"]
        if row["scenario"] == scenario and row["server"] == server and figure in row
    ]


def why_not(result: Result, scenario: str, server: str) -> str:
    """What a cell says where there is no figure."""
    for row in result["rows"]:
        if row["scenario"] == scenario and row["server"] == server:
            for word in ("missing", "failed"):
                if word in row:
                    return f"{word}: {row[word]}"
    return "not offered"


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
    "rss": ("RSS MB", lambda value: f"{value / 1e6:,.0f}"),
    "p50_ms": ("p50", number),
    "p999_ms": ("p99.9", number),
    "max_ms": ("worst", number),
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
    lines = [f"### {scenario.title}\n", _row(heads), "|---" * len(heads) + "|"]
    mine = values(result, scenario.key, "ours", scenario.figure)
    asked = {row["server"] for row in result["rows"] if row["scenario"] == scenario.key}
    found: list[tuple[float, str]] = []
    for name, title in result["titles"].items():
        theirs = values(result, scenario.key, name, scenario.figure)
        if theirs:
            found.append((median(theirs), _line(result, scenario, name, mine, theirs)))
        elif name in asked:
            cells = [title, why_not(result, scenario.key, name), *[""] * (len(heads) - 2)]
            found.append((float("inf"), _row(cells)))
    return "\n".join([*lines, *(line for _, line in sorted(found))]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(
    result: Result, scenario: Scenario, name: str, mine: Sequence[float], theirs: Sequence[float]
) -> str:
    ratios = [their / my for their, my in zip(theirs, mine, strict=False)] if all(mine) else []
    besides = [
        COLUMNS[column][1](median(values(result, scenario.key, name, column)))
        for column in scenario.columns
    ]
    return _row(
        [
            result["titles"][name],
            number(median(theirs)),
            spread(ratios) if ratios else "",
            *besides,
        ]
    )


def targets(result: Result) -> str:
    """What was to be reached, and what was."""
    lines = ["| target | bound | reached | |", "|---|---|---|---|"]
    for target in TARGETS:
        reached = _ratios(result, target)
        title = next(s.title for s in SCENARIOS if s.key == target.scenario)
        against = (
            f" / {result['titles'].get(target.against, target.against)}" if target.against else ""
        )
        sign = "≥" if target.at_least else "≤"
        verdict = "not measured"
        if reached:
            met = (
                median(reached) >= target.bound
                if target.at_least
                else median(reached) <= target.bound
            )
            verdict = "met" if met else "**missed**"
        lines.append(
            f"| {title}: {target.figure}{against} | {sign} {target.bound:g}"
            f" | {_shown(reached)} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _shown(reached: Sequence[float]) -> str:
    if not reached:
        return ""
    return f"{number(median(reached))} ({number(min(reached))}-{number(max(reached))})"


def _ratios(result: Result, target: Target) -> list[float]:
    mine = values(result, target.scenario, "ours", target.figure)
    if not target.against:
        return mine
    if target.against.startswith("scenario:"):
        other = values(result, target.against.removeprefix("scenario:"), "ours", target.figure)
    else:
        other = values(result, target.scenario, target.against, target.figure)
    return [my / theirs for my, theirs in zip(mine, other, strict=False)]


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
    head += f"{PLOTS}## Targets\n\n{targets(result)}\n"
    body = f"# Results\n\n{head}## Scenarios\n\n{table(result)}"
    readme.write_text(f"{before}{START}\n{body}\n{END}{after}")
    plots.draw(result)
