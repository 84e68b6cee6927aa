"""Writes the tables and plots of a result into bench/README.md."""

from collections.abc import Sequence
from statistics import median

from figures import COLUMNS, Result, by_round, limited, paired, ranged, spread, values
from scenarios import FLOORS, PEERS, SCENARIOS, TARGETS, Scenario, Target
from servers import BENCH

START, END = "<!-- table: written by bench/run.py -->\n", "<!-- end of table -->\n"

PLOTS = (
    "![Deliveries a second and CPU per delivery, by server](results/fanout.png)\n\n"
    "![Latency and memory against connections](results/connections.png)\n\n"
)

FOOTNOTE = (
    "\n† The generator's core was over 80 % busy: the figure may be the generator's limit, not the"
    " server's.\n"
)


def why_not(result: Result, scenario: str, server: str) -> str:
    """Return the text of a cell without a figure."""
    for row in result["rows"]:
        if row["scenario"] == scenario and row["server"] == server:
            for word in ("missing", "failed"):
                if word in row:
                    reason = " ".join(str(row[word]).split()).replace("|", "\\|")
                    return f"{word}: {reason}"
    return "not measured"


FIGURES = {
    "server_us": "CPU",
    "publisher_us": "CPU of the publisher's node",
    "per_second": "rate",
    "rss_per_connection": "bytes of RSS per connection",
    "server_busy": "share of a core",
    "max_ms": "worst latency in ms",
}


def table(result: Result, scenarios: Sequence[Scenario] = SCENARIOS) -> str:
    """Return a table for each measured scenario; its servers are ordered by the figure."""
    measured = {row["scenario"] for row in result["rows"]}
    return "\n".join(_part(result, it) for it in scenarios if it.key in measured)


def _part(result: Result, scenario: Scenario) -> str:
    heads = [
        "server",
        scenario.unit,
        "times ours",
        *(COLUMNS[name][0] for name in scenario.columns),
        "rounds",
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
    part = "\n".join([*lines, *(line for _, line in sorted(found))]) + "\n"
    return part + (FOOTNOTE if "†" in part else "") + _left_out(result, scenario)


def _left_out(result: Result, scenario: Scenario) -> str:
    """Return a sentence that names the servers without a measurement here, and the reason."""
    asked = {row["server"] for row in result["rows"] if row["scenario"] == scenario.key}
    elsewhere = {row["server"] for row in result["rows"] if row["scenario"] == "fanout"}
    out = [title for name, title in result["titles"].items() if name in elsewhere - asked]
    if not out or not asked:
        return ""
    why = scenario.why or "this run left them out"
    if scenario.rest:
        why = "they take no publishes by REST"
    elif scenario.history:
        why = "they keep no history in this setup"
    elif scenario.cluster:
        why = "nothing of theirs joins two nodes through a Redis"
    return f"\nNot measured, as {why}: {'; '.join(out)}.\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(result: Result, scenario: Scenario, name: str, title: str) -> str:
    theirs = by_round(result, scenario.key, name, scenario.figure)
    ratios = paired(theirs, by_round(result, scenario.key, "ours", scenario.figure))
    besides = [_cell(result, scenario, name, column) for column in scenario.columns]
    figure = ranged(list(theirs.values())) + limited(result, scenario.key, scenario.figure, name)
    times = spread(ratios) if ratios else ""
    return _row([title, figure, times, *besides, str(len(theirs))])


def _cell(result: Result, scenario: Scenario, name: str, column: str) -> str:
    told = COLUMNS[column][1](values(result, scenario.key, name, column))
    return told + limited(result, scenario.key, column, name)


def targets(result: Result) -> str:
    """Return the table of targets, bounds and measured figures."""
    lines = ["| target | bound | reached | |", "|---|---|---|---|"]
    for target in TARGETS:
        reached = _ratios(result, target)
        shown = ""
        if reached:
            mark = limited(result, target.scenario, target.figure, "ours", target.against)
            shown = ranged(reached) + mark
        sign = "≥" if target.at_least else "≤"
        bound = f"{sign} {target.bound:g}"
        lines.append(_row([_named(result, target), bound, shown, verdict(target, reached)]))
    told = "\n".join(lines) + "\n"
    return told + (FOOTNOTE if "†" in told else "")


def verdict(target: Target, reached: Sequence[float]) -> str:
    """Return as text whether the median keeps the bound, and whether all rounds agree."""

    def kept(figure: float) -> bool:
        return figure >= target.bound if target.at_least else figure <= target.bound

    if not reached:
        return "not measured"
    word = "met" if kept(median(reached)) else "**missed**"
    agree = len({kept(figure) for figure in reached}) == 1
    return word if agree else f"{word}, within the noise"


def _named(result: Result, target: Target) -> str:
    """Return the figures that a target compares, as text."""
    titles = {scenario.key: scenario.title for scenario in SCENARIOS}
    name = f"{titles[target.scenario]}: {FIGURES[target.figure]}"
    if not target.against:
        return name
    if target.against in titles:
        return f"{name} / the same in {titles[target.against]}"
    return f"{name} / {result['titles'].get(target.against, target.against)}"


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
    """Return the minimum of all peers by round; without the rounds that a peer lacks."""
    asked = {row["server"] for row in result["rows"] if row["scenario"] == target.scenario}
    peers = asked - {"ours", *FLOORS}
    figures = [by_round(result, target.scenario, name, target.figure) for name in peers]
    turns = set.intersection(*(set(figure) for figure in figures)) if figures else set()
    return {turn: min(figure[turn] for figure in figures) for turn in turns}


def check() -> None:
    """Check before the measurements that tables and plots can be written.

    Raises:
        ImportError: matplotlib is not installed; `make bench` installs it.
    """
    import plots  # noqa: F401

    text = (BENCH / "README.md").read_text()
    if START not in text or END not in text:
        raise SystemExit("bench/README.md has lost the marks between which the tables go")


def write(result: Result) -> None:
    """Put the tables into bench/README.md and draw the plots."""
    import plots  # here, because only plots need matplotlib

    readme = BENCH / "README.md"
    before, _, rest = readme.read_text().partition(START)
    after = rest.partition(END)[2]
    body = f"## Results\n\n{head(result)}{PLOTS}### Targets\n\n{targets(result)}\n"
    body += f"### Scenarios\n\n{table(result)}"
    readme.write_text(f"{before}{START}\n{body}\n{END}{after}")
    plots.draw(result)


def head(result: Result) -> str:
    """Return when, where and how a result was measured, and the versions of the servers."""
    machine = result["machine"]
    redis = f", Redis {machine['redis']}" if machine.get("redis") else ""
    dirty = ", with changes that were not committed" if result.get("dirty") else ""
    begun = f" from {result['started'][11:16]} UTC on" if "started" in result else ""
    text = (
        f"Measured on {result['date']} by `{result['command']}`{begun}"
        f" in {result['minutes']} minutes: {machine['cpu']}, {machine['cores']} cores,"
        f" Linux {machine['kernel']}, Python {machine['python']}{redis};"
        f" revision {result.get('revision') or 'not recorded'}{dirty}.\n\n"
    )
    versions = [f"{result['titles'][name]}: {it}" for name, it in result["versions"].items()]
    return text + (f"Versions: {'; '.join(versions)}.\n\n" if versions else "")
