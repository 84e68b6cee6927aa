"""Measure the server and its peers, and write a report.

    python bench/run.py               every scenario, every server; bench/results/DATE.json, the
                                      table in bench/README.md and the plots (over an hour)
    python bench/run.py --quick       the headline rows, printed (under three minutes)
    python bench/run.py --only KEYS   these scenarios with all their rounds, printed
    python bench/run.py --servers NAMES --only KEYS   the same for these servers
    python bench/run.py --compare REV the working tree against a revision (some minutes)
    python bench/run.py --guarded     access and all limits against neither (five minutes)
    python bench/run.py --report FILE the table and the plots of an earlier result

The server and the generator are each pinned to a core. In every round each server is started and
measured once, A B C A B C, so that other load on the machine affects all of them. In a whole run
and with --only, rows that a target refers to have five rounds, and others two or three.

A result is written to DATE.json.part after each scenario, and renamed when it is complete. SIGTERM
ends the servers and the generator, too.
"""

import argparse
import json
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from measure import Row, measure_all
from scenarios import FAST, FLOORS, SCENARIOS, WORKERS, Scenario, with_targets
from servers import (
    BENCH,
    CORES,
    ROOT,
    Server,
    build,
    floors,
    guarded,
    ours,
    peer_names,
    peers,
    redis_version,
    with_workers,
)

FILES = 20_000  # open files that 10,000 connections and their publishers need
GUARDED = ("fanout", "fanout-16", "echo", "echo-64", "rest")
COMPARED = ("fanout", "fanout-16", "topics-20", "echo", "echo-64", "rest", "storm", "idle-1k")


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line for line in text.splitlines() if line.startswith("model name")), ": unknown")
    return {
        "cpu": model.split(":")[1].strip(),
        "cores": len(CORES),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "redis": redis_version(),
    }


def origin(started: datetime) -> dict[str, Any]:
    """Return the start time and the revision."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        except OSError:
            return ""  # git is not installed
        return done.stdout.strip()

    return {
        "date": started.date().isoformat(),
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
    }


def begun(servers: Sequence[Server], command: str) -> dict[str, Any]:
    """Return a result without rows, for measurements that begin now."""
    return {
        **origin(datetime.now(UTC)),
        "command": command,
        "machine": machine(),
        "titles": titles(servers),
        "versions": {server.name: server.version for server in servers if server.version},
    }


def minutes_since(started: float) -> int:
    """Return the whole minutes since a reading of the monotonic clock."""
    return round((time.monotonic() - started) / 60)


def full() -> None:
    """Measure everything; write bench/results and bench/README.md when it is complete."""
    report.check()
    servers = [ours(), *with_workers(), *floors(), *peers()]
    result = begun(servers, "make bench")
    started = time.monotonic()
    path = BENCH / "results" / f"{result['date']}.json"
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".json.part")  # an interrupted run leaves it

    def keep(rows: list[Row]) -> None:
        result["minutes"] = minutes_since(started)
        result["rows"] = rows
        part.write_text(json.dumps(result, indent=1) + "\n")

    measure_all(servers, SCENARIOS, with_targets, keep)
    part.replace(path)
    report.write(result)
    print(report.targets(result))


def only(scenarios: Sequence[Scenario], names: Sequence[str] | None) -> None:
    """Measure some scenarios with all their rounds, and print how and the table.

    Args:
        names: the names of the servers; None: all.
    """
    own = [it for it in (ours(), *with_workers(), *floors()) if names is None or it.name in names]
    servers = [*own, *peers(names)]
    command = f"make bench ONLY={','.join(scenario.key for scenario in scenarios)}"
    if names is not None:
        command += f" SERVERS={','.join(names)}"
    result = begun(servers, command)
    started = time.monotonic()
    result["rows"] = measure_all(servers, scenarios, with_targets)
    result["minutes"] = minutes_since(started)
    print(report.head(result) + report.table(result, scenarios))


def quick() -> None:
    """Measure the headline rows, and print the table."""
    printed([ours(), *floors(), *peers(list(FAST))], [it for it in SCENARIOS if it.quick])


def compare(revision: str) -> None:
    """Measure the working tree and a revision, and print the ratios."""
    git = ["git", "-C", str(ROOT)]
    named = [*git, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    if subprocess.run(named, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"no such revision: {revision}")
    with tempfile.TemporaryDirectory() as folder:
        added = ["worktree", "add", "--quiet", "--detach", folder, revision]
        subprocess.run([*git, *added], check=True)
        try:
            trees = [ours(title="working tree"), ours(Path(folder), revision, revision)]
            printed(trees, [it for it in SCENARIOS if it.key in COMPARED])
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", folder], check=True)


def printed(servers: Sequence[Server], scenarios: Sequence[Scenario]) -> None:
    """Measure the servers, and print the table."""
    started = time.monotonic()
    rows = measure_all(servers, scenarios)
    print(report.table({"rows": rows, "titles": titles(servers)}, scenarios))
    print(f"{time.monotonic() - started:.0f} s")


def titles(servers: Sequence[Server]) -> dict[str, str]:
    return {server.name: server.title for server in servers}


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = arguments.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="the headline rows, printed")
    what.add_argument(
        "--only", metavar="KEYS", type=chosen, help="these scenarios, separated by commas, printed"
    )
    arguments.add_argument(
        "--servers",
        metavar="NAMES",
        type=chosen_servers,
        help="with --only: these servers, separated by commas",
    )
    what.add_argument("--compare", metavar="REV", help="the working tree against a revision")
    what.add_argument("--guarded", action="store_true", help="access and limits on, and off")
    what.add_argument("--report", metavar="FILE", help="write the report of an earlier result")
    return arguments


def chosen(keys: str) -> list[Scenario]:
    """Return the scenarios with these keys.

    Raises:
        argparse.ArgumentTypeError: no scenario has one of the keys.
    """
    there = [scenario.key for scenario in SCENARIOS]
    if unknown := set(keys.split(",")) - set(there):
        raise argparse.ArgumentTypeError(
            f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(there)}"
        )
    return [scenario for scenario in SCENARIOS if scenario.key in keys.split(",")]


def chosen_servers(names: str) -> list[str]:
    """Return the names of servers.

    Raises:
        argparse.ArgumentTypeError: no server has one of the names.
    """
    there = [*WORKERS, *FLOORS, *peer_names()]
    if unknown := set(names.split(",")) - set(there):
        raise argparse.ArgumentTypeError(
            f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(there)}"
        )
    return names.split(",")


def prepare() -> None:
    """Check the machine, and build the load generator and the floor."""
    if len(CORES) < 2:
        sys.exit("two cores are needed: one for the server, one for the generator")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES:
        sys.exit(f"{FILES} open files are needed: raise the limit with ulimit -n {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    # The default action of a signal would leave the servers and the generator running.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    build()


def main() -> None:
    arguments = parser()
    asked = arguments.parse_args()
    if asked.servers and not asked.only:
        arguments.error("--servers goes with --only")
    if asked.report:
        report.write(json.loads(Path(asked.report).read_text()))
        return
    prepare()
    if asked.compare:
        compare(asked.compare)
    elif asked.guarded:
        printed([ours(), guarded()], [it for it in SCENARIOS if it.key in GUARDED])
    elif asked.quick:
        quick()
    elif asked.only:
        only(asked.only, asked.servers)
    else:
        full()


if __name__ == "__main__":
    main()
