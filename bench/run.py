"""Measure the server beside its peers, and write down what came of it.

    python bench/run.py               every scenario, every server; bench/results/DATE.json, the
                                      table in bench/README.md and the plots (40 minutes)
    python bench/run.py --quick       the headline rows, printed (under three minutes)
    python bench/run.py --only KEYS   these scenarios, into the result of the same day
    python bench/run.py --compare REV the working tree against a revision (some minutes)
    python bench/run.py --report FILE the table and the plots again, of a result that was kept

Server and generator are pinned to a core each. In every round each server is started anew and
measured once, A B C A B C, so that what the machine does meanwhile falls on all of them.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from scenarios import FAST, SCENARIOS, Scenario
from servers import (
    BENCH,
    BUILD,
    CORES,
    GENERATOR_CORE,
    ROOT,
    SERVER_CORE,
    Server,
    build,
    floors,
    ours,
    peers,
    running,
    running_pair,
)

Row = dict[str, Any]  # one measurement

FILES = 20_000  # open files that 10,000 connections and their publishers need
PATIENCE = 180.0  # seconds that one measurement may take


def measure(server: Server, scenario: Scenario) -> dict[str, Any]:
    """One measurement: the generator's figures, or why there are none."""
    if server.missing:
        return {"missing": server.missing}
    try:
        if scenario.cluster:
            with running_pair(server) as places:
                return generate(server, scenario, places)
        with running(server, SERVER_CORE if scenario.pinned else None) as (port, pid):
            return generate(server, scenario, ["--port", str(port), "--pid", str(pid)])
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return {"failed": str(error)[:200]}


def generate(server: Server, scenario: Scenario, places: list[str]) -> dict[str, Any]:
    """Let the load generator do a scenario on what runs in these places."""
    command = ["taskset", "-c", str(GENERATOR_CORE)] if scenario.pinned else []
    command += [str(BUILD / "loadgen"), *places, *scenario.arguments.split()]
    command += ["--protocol", server.protocol]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=PATIENCE
    )
    if done.returncode:
        return {"failed": done.stderr.strip()[-200:]}
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "nodes_us": result["server_us"] + result["publisher_us"]}


def takes_part(server: Server, scenario: Scenario) -> bool:
    """Whether a server is asked to do this."""
    if (scenario.rest and not server.rest) or (scenario.cluster and not server.cluster):
        return False
    if not scenario.cluster and server.protocol == "centrifugo":
        return False  # it is here for its Redis engine
    return not scenario.only or server.name in scenario.only


def measure_all(
    servers: Sequence[Server],
    scenarios: Sequence[Scenario],
    keep: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Every scenario on every server, in rounds; one result each, with where it belongs.

    `keep` gets what there is after every scenario.
    """
    rows: list[Row] = []
    for number, scenario in enumerate(scenarios, 1):
        print(f"[{number}/{len(scenarios)}] {scenario.title}", flush=True)
        for turn in range(scenario.rounds):
            for server in servers:
                if not takes_part(server, scenario):
                    continue
                result = measure(server, scenario)
                rows.append(
                    {"scenario": scenario.key, "server": server.name, "round": turn, **result}
                )
                print(
                    f"    {turn + 1}/{scenario.rounds} {server.title:28} {shown(result, scenario)}",
                    flush=True,
                )
        keep(rows)
    return rows


def shown(result: dict[str, Any], scenario: Scenario) -> str:
    for word in ("missing", "failed"):
        if word in result:
            return f"{word}: {result[word]}"
    return (
        f"{result[scenario.figure]:11.3f} {scenario.unit}, {result['per_second']:11,.0f}/s,"
        f" server {result['server_busy']:.0%} busy, generator {result['generator_busy']:.0%}"
    )


def machine() -> dict[str, Any]:
    """Where it was measured."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line for line in text.splitlines() if line.startswith("model name")), ": unknown")
    return {
        "cpu": model.split(":")[1].strip(),
        "cores": len(CORES),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def full(scenarios: Sequence[Scenario]) -> None:
    """All of these, kept in bench/results and in bench/README.md.

    What the same day has of other scenarios stays.
    """
    report.check()
    servers = [ours(), *floors(), *peers()]
    started = datetime.now(UTC)
    path = BENCH / "results" / f"{started.date().isoformat()}.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {"rows": [], "minutes": 0}
    keys = {scenario.key for scenario in scenarios}
    others = [row for row in before["rows"] if row["scenario"] not in keys]
    result = {
        "date": started.date().isoformat(),
        "command": "make bench",
        "machine": machine(),
        "titles": {server.name: server.title for server in servers},
        "versions": {server.name: server.version for server in servers if server.version},
    }

    def keep(rows: list[Row]) -> None:
        minutes = round((datetime.now(UTC) - started).total_seconds() / 60)
        result["minutes"] = minutes + (before["minutes"] if others else 0)
        result["rows"] = others + rows
        path.write_text(json.dumps(result, indent=1) + "\n")

    measure_all(servers, scenarios, keep)
    report.write(result)
    print(report.targets(result))


def quick() -> None:
    """The headline rows, printed."""
    servers = [ours(), *floors(), *peers(list(FAST))]
    scenarios = [scenario for scenario in SCENARIOS if scenario.quick]
    started = time.monotonic()
    rows = measure_all(servers, scenarios)
    titles = {server.name: server.title for server in servers}
    print(report.table({"rows": rows, "titles": titles}, scenarios))
    print(f"{time.monotonic() - started:.0f} s")


def compare(revision: str) -> None:
    """The working tree against a revision: ratios in one run."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", folder, revision],
            cwd=ROOT,
            check=True,
        )
        try:
            servers = [ours(), ours(Path(folder), revision)]
            keys = (
                "fanout",
                "fanout-16",
                "topics-20",
                "echo",
                "echo-64",
                "rest",
                "storm",
                "idle-1k",
            )
            scenarios = [scenario for scenario in SCENARIOS if scenario.key in keys]
            rows = measure_all(servers, scenarios)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)
    titles = {"ours": "working tree", revision: revision}
    print(report.table({"rows": rows, "titles": titles}, scenarios))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="the headline rows, printed")
    arguments.add_argument("--only", metavar="KEYS", help="these scenarios, separated by commas")
    arguments.add_argument("--compare", metavar="REV", help="the working tree against a revision")
    arguments.add_argument("--report", metavar="FILE", help="write a kept result down anew")
    chosen = arguments.parse_args()
    if len(CORES) < 2:
        sys.exit("two cores are needed: one for the server, one for the generator")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES:
        sys.exit(f"{FILES} open files are needed: raise the limit with ulimit -n {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    build()
    if chosen.report:
        report.write(json.loads(Path(chosen.report).read_text()))
    elif chosen.compare:
        compare(chosen.compare)
    elif chosen.quick:
        quick()
    else:
        keys = [it.key for it in SCENARIOS]
        wanted = chosen.only.split(",") if chosen.only else keys
        if unknown := set(wanted) - set(keys):
            sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
        full([scenario for scenario in SCENARIOS if scenario.key in wanted])


if __name__ == "__main__":
    main()
