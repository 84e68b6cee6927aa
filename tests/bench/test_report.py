"""The benchmark's arithmetic and tables."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import report
from scenarios import FAST, PEERS, SCENARIOS, TARGETS, WORKERS, Scenario, Target

FANOUT = next(scenario for scenario in SCENARIOS if scenario.key == "fanout")


def row(server: str, turn: int, cost: float, rate: float) -> dict[str, Any]:
    return {
        "scenario": "fanout",
        "server": server,
        "round": turn,
        "server_us": cost,
        "per_second": rate,
        "server_busy": 1.0,
        "generator_us": 1.0,
        "generator_busy": 0.5,
        "rss": 5_000_000,
    }


RESULT: dict[str, Any] = {
    "titles": {"ours": "this server", "floor": "C floor", "bun": "Bun", "gorilla": "Go"},
    "rows": [
        row("ours", 0, 6.0, 100.0),
        row("ours", 1, 9.0, 50.0),
        row("ours", 2, 6.0, 100.0),
        row("floor", 0, 5.0, 120.0),
        row("floor", 1, 5.0, 120.0),
        row("floor", 2, 4.0, 150.0),
        row("bun", 0, 6.0, 50.0),
        row("bun", 1, 6.0, 100.0),
        row("bun", 2, 6.0, 90.0),
        {"scenario": "fanout", "server": "gorilla", "round": 0, "missing": "go is not installed"},
    ],
}


def test_ratios_pair_the_rounds() -> None:
    lines = report.table(RESULT, [FANOUT]).splitlines()
    assert lines[4].startswith("| C floor | 5 (4-5) | 0.67 (0.56-0.83) | 120 (120-150) |")
    assert lines[-1].startswith("| Go | missing: go is not installed |")


def test_a_scenario_that_was_not_measured_has_no_table() -> None:
    assert report.table(RESULT, [Scenario("other", "other", ""), FANOUT]) == report.table(
        RESULT, [FANOUT]
    )


def test_absolute_figures_have_their_spread_and_their_rounds() -> None:
    lines = report.table(RESULT, [FANOUT]).splitlines()
    ours = next(line for line in lines if "this server" in line)
    assert ours.startswith("| this server | 6 (6-9) | 1.00 (1.00-1.00) | 100 (50-100) |")
    assert ours.endswith("| 3 |")


def test_targets_are_met_missed_or_not_measured() -> None:
    lines = report.targets(RESULT).splitlines()
    against_floor = next(line for line in lines if "C floor" in line)
    assert "| 1.5 (1.2-1.8) | **missed**, within the noise |" in against_floor
    against_bun = next(line for line in lines if "rate / Bun" in line)
    assert "| 1.11 (0.5-2) | met, within the noise |" in against_bun
    assert "not measured" in next(line for line in lines if "/ Go" in line)


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        ([1.0, 1.1, 1.2], "met"),
        ([1.0, 1.1, 1.3], "met, within the noise"),
        ([1.2, 1.3, 1.4], "**missed**, within the noise"),
        ([1.3, 1.4, 1.5], "**missed**"),
        ([], "not measured"),
    ],
)
def test_a_spread_across_the_bound_is_noise(reached: list[float], said: str) -> None:
    assert report.verdict(Target("fanout", "server_us", "floor", 1.25), reached) == said


def test_a_rate_is_marked_if_the_generator_was_busy() -> None:
    busy = [{**it, "generator_busy": 0.81} for it in RESULT["rows"] if it["server"] == "bun"]
    others = [it for it in RESULT["rows"] if it["server"] != "bun"]
    result = {**RESULT, "rows": others + busy}
    lines = report.table(result, [FANOUT]).splitlines()
    (marked,) = (line for line in lines if " † |" in line)
    assert marked.startswith("| Bun | 6 (6-6) | 1.00 (0.67-1.00) | 90 (50-100) † |")
    assert lines[-1].startswith("† The generator's core was over 80 % busy")
    (target,) = (line for line in report.targets(result).splitlines() if " † |" in line)
    assert "rate / Bun" in target
    assert "†" not in report.table(RESULT, [FANOUT]) + report.targets(RESULT)


def test_redis_counts_as_load_of_the_generators_core() -> None:
    # Redis: 0.005 s a message, 100 of them a second, is half a core.
    rows = [{**it, "redis_us": 5_000.0} for it in RESULT["rows"] if it["server"] == "ours"]
    assert "100 (50-100) †" in report.table({**RESULT, "rows": rows}, [FANOUT])


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (Scenario("r", "r", "", rest=True), "they take no publishes by REST"),
        (Scenario("r", "r", "", history=True), "they keep no history"),
        (Scenario("r", "r", "", cluster=True), "nothing of theirs joins two nodes"),
        (Scenario("r", "r", "", only=("ours",), why="it is dear"), "it is dear"),
    ],
)
def test_a_table_names_the_servers_that_were_not_measured_and_the_reason(
    scenario: Scenario, why: str
) -> None:
    some = [{**row("ours", 0, 6.0, 100.0), "scenario": "r"}]
    table = report.table({**RESULT, "rows": RESULT["rows"] + some}, [scenario])
    assert f"\nNot measured, as {why}" in table
    assert table.endswith(": C floor; Bun; Go.\n")


def test_a_scenario_without_some_servers_has_a_reason() -> None:
    assert [it.key for it in SCENARIOS if bool(it.only) != bool(it.why)] == []


def test_every_target_names_a_scenario_and_a_figure_that_is_measured() -> None:
    keys = {scenario.key for scenario in SCENARIOS}
    for target in TARGETS:
        assert target.scenario in keys
        assert target.figure in report.FIGURES
        assert target.against in {"", PEERS, *FAST, "socketio", "centrifugo", *WORKERS, *keys}


def test_below_every_peer_means_below_the_least_of_them_and_not_the_floor() -> None:
    target = Target("fanout", "server_us", PEERS, 1.0)
    measured = {**RESULT, "rows": [it for it in RESULT["rows"] if it["server"] != "gorilla"]}
    assert report._ratios(measured, target) == [1.0, 1.5, 1.0]
    assert report._ratios(RESULT, target) == [], "one of them is missing"
