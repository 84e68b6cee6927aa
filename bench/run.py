"""Measure the server beside its peers, and write down what came of it.

    python bench/run.py               every scenario, every server; bench/results/DATE.json, the
                                      table in bench/README.md and the plots (an hour)
    python bench/run.py --quick       the headline rows, printed (under three minutes)
    python bench/run.py --only KEYS   these scenarios as a whole run has them, printed
    python bench/run.py --compare REV the working tree against a revision (some minutes)
    python bench/run.py --report FILE the table and the plots again, of a result that was kept

Server and generator are pinned to a core each. In every round each server is started anew and
measured once, A B C A B C, so that what the machine does meanwhile falls on all of them. A row that
a target is about has five rounds in a whole run and with --only, any other two or three.

A result is whole or not there: it is written to DATE.json.part after every scenario, and gets its
name at the end. SIGTERM ends the servers and the generator too.
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
from measure import Rounds, Row, measure_all, the_fewest
from scenarios import FAST, SCENARIOS, Scenario, with_targets
from servers import BENCH, CORES, ROOT, Server, build, floors, ours, peers, redis_version

FILES = 20_000  # open files that 10,000 connections and their publishers need
COMPARED = ("fanout", "fanout-16", "topics-20", "echo", "echo-64", "rest", "storm", "idle-1k")


def machine() -> dict[str, Any]:
    """Where it was measured."""
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
    """What was measured, and when it began."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        except OSError:
            return ""  # a tree without its history, on a machine without git
        return done.stdout.strip()

    return {
        "date": started.date().isoformat(),
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
    }


def full() -> None:
    """Everything, kept in bench/results and in bench/README.md once it is whole."""
    report.check()
    servers = [ours(), *floors(), *peers()]
    started = datetime.now(UTC)
    result = {
        **origin(started),
        "command": "make bench",
        "machine": machine(),
        "titles": titles(servers),
        "versions": {server.name: server.version for server in servers if server.version},
    }
    path = BENCH / "results" / f"{started.date().isoformat()}.json"
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".json.part")  # what an interrupted run leaves

    def keep(rows: list[Row]) -> None:
        result["minutes"] = round((datetime.now(UTC) - started).total_seconds() / 60)
        result["rows"] = rows
        part.write_text(json.dumps(result, indent=1) + "\n")

    measure_all(servers, SCENARIOS, with_targets, keep)
    part.replace(path)
    report.write(result)
    print(report.targets(result))


def only(scenarios: Sequence[Scenario]) -> None:
    """These scenarios as a whole run has them, printed and not kept."""
    printed([ours(), *floors(), *peers()], scenarios, with_targets)


def quick() -> None:
    """The headline rows, printed."""
    printed([ours(), *floors(), *peers(list(FAST))], [it for it in SCENARIOS if it.quick])


def compare(revision: str) -> None:
    """The working tree against a revision: ratios in one run."""
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


def printed(
    servers: Sequence[Server], scenarios: Sequence[Scenario], rounds: Rounds = the_fewest
) -> None:
    """Measure, and print the table."""
    started = time.monotonic()
    rows = measure_all(servers, scenarios, rounds)
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
    what.add_argument("--compare", metavar="REV", help="the working tree against a revision")
    what.add_argument("--report", metavar="FILE", help="write a kept result down anew")
    return arguments


def chosen(keys: str) -> list[Scenario]:
    """The scenarios of these keys.

    Raises:
        argparse.ArgumentTypeError: there is none of one of them.
    """
    there = [scenario.key for scenario in SCENARIOS]
    if unknown := set(keys.split(",")) - set(there):
        raise argparse.ArgumentTypeError(
            f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(there)}"
        )
    return [scenario for scenario in SCENARIOS if scenario.key in keys.split(",")]


def prepare() -> None:
    """See that it can be measured here, and what measures it is built."""
    if len(CORES) < 2:
        sys.exit("two cores are needed: one for the server, one for the generator")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES:
        sys.exit(f"{FILES} open files are needed: raise the limit with ulimit -n {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    # A signal that just ended this process would leave the servers and the generator behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    build()


def main() -> None:
    asked = parser().parse_args()
    if asked.report:
        report.write(json.loads(Path(asked.report).read_text()))
        return
    prepare()
    if asked.compare:
        compare(asked.compare)
    elif asked.quick:
        quick()
    elif asked.only:
        only(asked.only)
    else:
        full()


if __name__ == "__main__":
    main()
