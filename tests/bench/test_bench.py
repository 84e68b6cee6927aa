"""The benchmark itself: its arithmetic, and that a short run measures and checks."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import measure
import report
import servers
from scenarios import FAST, PEERS, SCENARIOS, TARGETS, Scenario, Target

NO_COMPILER = shutil.which("cc") is None
needs_compiler = pytest.mark.skipif(NO_COMPILER, reason="no C compiler on this machine")

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


def test_absolute_figures_have_their_spread_and_their_rounds() -> None:
    lines = report.table(RESULT, [FANOUT]).splitlines()
    ours = next(line for line in lines if "this server" in line)
    assert ours.startswith("| this server | 6 (6-9) | 1.00 (1.00-1.00) | 100 (50-100) |")
    assert ours.endswith("| 3 |")


def test_targets_say_what_was_met_missed_and_not_measured() -> None:
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


def test_a_figure_by_the_clock_is_marked_where_the_generator_was_busy() -> None:
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


def test_the_core_of_the_generator_is_that_of_redis_too() -> None:
    # Redis: 0.005 s a message, 100 of them a second, is half a core.
    rows = [{**it, "redis_us": 5_000.0} for it in RESULT["rows"] if it["server"] == "ours"]
    assert "100 (50-100) †" in report.table({**RESULT, "rows": rows}, [FANOUT])


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (Scenario("r", "r", "", rest=True), "they take no publishes by REST"),
        (Scenario("r", "r", "", cluster=True), "nothing of theirs joins two nodes"),
        (Scenario("r", "r", "", only=("ours",), why="it is dear"), "it is dear"),
    ],
)
def test_a_table_says_who_was_not_measured_and_why(scenario: Scenario, why: str) -> None:
    some = [{**row("ours", 0, 6.0, 100.0), "scenario": "r"}]
    table = report.table({**RESULT, "rows": RESULT["rows"] + some}, [scenario])
    assert f"\nNot measured, as {why}" in table
    assert table.endswith(": C floor; Bun; Go.\n")


def test_whoever_is_left_out_of_a_scenario_is_so_for_a_reason() -> None:
    assert [it.key for it in SCENARIOS if bool(it.only) != bool(it.why)] == []


def test_every_target_names_a_scenario_and_a_figure_that_is_measured() -> None:
    keys = {scenario.key for scenario in SCENARIOS}
    for target in TARGETS:
        assert target.scenario in keys
        assert target.figure in report.FIGURES
        assert target.against in {"", PEERS, *FAST, "socketio", "centrifugo", *keys}


def test_below_every_peer_means_below_the_least_of_them_and_not_the_floor() -> None:
    target = Target("fanout", "server_us", PEERS, 1.0)
    measured = {**RESULT, "rows": [it for it in RESULT["rows"] if it["server"] != "gorilla"]}
    assert report._ratios(measured, target) == [1.0, 1.5, 1.0]
    assert report._ratios(RESULT, target) == [], "one of them is missing"


@pytest.fixture(scope="module")
def _built() -> None:
    servers.build()


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize(
    "arguments",
    [
        "--mode burst --conns 20 --window 4",
        "--mode burst --conns 20 --topics 10 --per 2 --window 4",
        "--mode burst --conns 5 --topics 50 --per 10 --payload 4096",
        "--mode rate --conns 20 --topics 2 --rate 200",
        "--mode echo --conns 2 --window 8",
        "--mode rest --conns 2",
        "--mode burst --conns 20 --payload 16",
        "--mode storm --conns 600",
        "--mode idle --conns 220",
    ],
)
def test_a_short_run_measures_and_finds_nothing_wrong(arguments: str) -> None:
    scenario = Scenario("short", "short", f"{arguments} --seconds 0.1 --warm-up 0.05", pinned=False)
    result = measure.measure(servers.ours(), scenario)
    assert result.get("failed") is None
    assert result["units"] > 0
    assert result["server_us"] > 0 or "idle" in arguments


@needs_compiler
@pytest.mark.usefixtures("_built")
def test_no_latency_is_above_the_worst() -> None:
    # Of so few, p99.9 is the worst one, whose bucket may go on above it.
    arguments = "--mode rate --conns 3 --rate 20 --seconds 0.3 --warm-up 0.05"
    result = measure.measure(servers.ours(), Scenario("short", "short", arguments, pinned=False))
    assert result["p50_ms"] <= result["p99_ms"] <= result["p999_ms"] == result["max_ms"]


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize("floor", servers.floors(), ids=lambda floor: floor.name)
def test_the_floor_delivers_all_in_order(floor: servers.Server) -> None:
    scenario = Scenario(
        "short",
        "short",
        "--mode burst --conns 20 --window 4 --seconds 0.1 --warm-up 0.05",
        pinned=False,
    )
    assert measure.measure(floor, scenario)["units"] > 0


@needs_compiler
@pytest.mark.usefixtures("_built")
def test_a_server_that_does_not_start_is_reported() -> None:
    dead = servers.Server("dead", "dead", [sys.executable, "-c", "raise SystemExit('no')"])
    assert "did not start: no" in measure.measure(dead, FANOUT)["failed"]


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        ("none", ""),
        ("fragments", ""),
        ("newline", ""),
        ("repeat", "came where"),
        ("swap", "came where"),
        ("lose", "came where"),
        ("misroute", "to somebody who is not subscribed to it"),
        ("close", "the server closed with 1011"),
        ("length", "a payload that is not of 128 bytes"),
        ("bytes", "a payload of other bytes than were sent"),
        ("name", "under another name"),
        ("kind", "not an event"),
        ("number", "a mark that nobody has sent"),
        ("cut", "a cut event"),
        ("chatter", "neither an event nor an answer: hello"),
        ("binary", "a frame of opcode 2"),
        ("pong", "a frame of opcode 10"),
        ("reserved", "a frame with bits that nobody has agreed on"),
        ("masked", "a masked frame"),
        ("stray", "a fragment of no message"),
        ("unfinished", "a message inside another one's fragments"),
        ("ping", "a control frame that is cut, or too long"),
        ("silence", "answers: "),
        ("echo", "an answer to nothing that was asked"),
        ("refusal", "the server refused"),
        ("proof", "an upgrade without its proof"),
    ],
)
def test_the_generator_notices_what_is_not_right(fault: str, noticed: str) -> None:
    faulty = Path(__file__).with_name("faulty_server.py")
    server = servers.Server("faulty", "faulty", [sys.executable, str(faulty), fault])
    arguments = (
        "--mode burst --conns 4 --topics 2 --window 8 --seconds 0.1 --warm-up 0.05 --patience 0.5"
    )
    result = measure.measure(server, Scenario("short", "short", arguments, pinned=False))
    assert noticed in result.get("failed", "") if noticed else "failed" not in result, result


@needs_compiler
@pytest.mark.usefixtures("_built")
def test_the_generator_notices_a_request_that_was_not_carried_out() -> None:
    faulty = Path(__file__).with_name("faulty_rest.py")
    server = servers.Server("faulty", "faulty", [sys.executable, str(faulty)])
    arguments = "--mode rest --conns 2 --seconds 0.1 --warm-up 0.05"
    result = measure.measure(server, Scenario("short", "short", arguments, pinned=False))
    assert 'REST: {"status": "thrown away"}' in result["failed"]


@needs_compiler
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--mode bursts", "no such mode: bursts"),
        ("--mode burst --wide 3", "no such option: --wide"),
        ("--mode burst --rate 5", "--mode rate and --rate go together"),
        ("--mode rate", "--mode rate and --rate go together"),
        ("--mode burst --payload 15", "--payload is 16 to 65000"),
        ("--mode burst --topics 200000", "--topics is 1 to 100000"),
        ("--mode idle --conns 200", "--conns is at least 201"),
    ],
)
def test_the_generator_refuses_what_it_cannot_do(arguments: str, complaint: str) -> None:
    command = [str(servers.BUILD / "loadgen"), "--port", "1", "--pid", "1", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
