"""Measures servers with scenarios; each measurement starts a new server."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scenarios import Scenario
from servers import (
    BUILD,
    GENERATOR_CORE,
    SERVER_CORE,
    Server,
    running,
    running_pair,
    running_with_redis,
)

Row = dict[str, Any]  # one measurement
Rounds = Callable[[Scenario, str], int]  # number of rounds of a scenario, by the server's name

PATIENCE = 180.0  # seconds that one measurement may take


def measure(server: Server, scenario: Scenario) -> dict[str, Any]:
    """Make one measurement; return the generator's figures, or the reason why there are none."""
    if server.missing:
        return {"missing": server.missing}
    if scenario.history:
        server = replace(server, environ={**server.environ, **server.history})
    try:
        if scenario.cluster:
            with running_pair(server) as places:
                return generate(server, scenario, places)
        if scenario.workers:
            with running_with_redis(server) as places:
                return generate(server, scenario, places)
        with running(server, *([SERVER_CORE] if scenario.pinned else [])) as (port, pid):
            return generate(server, scenario, ["--port", str(port), "--pid", str(pid)])
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return {"failed": str(error)[-200:]}


def generate(server: Server, scenario: Scenario, places: list[str]) -> dict[str, Any]:
    """Run the load generator on running servers; `places` are its arguments that name them."""
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
    """Return whether a scenario is measured on a server."""
    if scenario.rest and not server.rest:
        return False
    if scenario.cluster and not server.cluster:
        return False
    if scenario.history and not server.history:
        return False
    if server.workers > 1 and not scenario.workers:
        return False
    return not scenario.only or server.name in scenario.only


def standard_rounds(scenario: Scenario, server: str) -> int:
    """Return the number of rounds that every server has."""
    return scenario.rounds


def measure_all(
    servers: Sequence[Server],
    scenarios: Sequence[Scenario],
    rounds: Rounds = standard_rounds,
    keep: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Measure all scenarios on all servers, and return a row for each measurement.

    Args:
        rounds: returns the number of rounds of a scenario and a server.
        keep: called after each scenario, with all rows so far.
    """
    rows: list[Row] = []
    for number, scenario in enumerate(scenarios, 1):
        print(f"[{number}/{len(scenarios)}] {scenario.title}", flush=True)
        asked = [(it, rounds(scenario, it.name)) for it in servers if takes_part(it, scenario)]
        for turn in range(max((count for _, count in asked), default=0)):
            for server, count in asked:
                if turn >= count:
                    continue
                result = measure(server, scenario)
                place = {"scenario": scenario.key, "server": server.name, "round": turn}
                rows.append({**place, **result})
                which = f"{turn + 1}/{count} {server.title:28}"
                print(f"    {which} {shown(result, scenario)}", flush=True)
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
