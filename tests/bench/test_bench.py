"""The benchmark: a short run measures the server and checks its messages."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import needs

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import measure
import servers
from scenarios import SCENARIOS, Scenario

needs_compiler = needs("cc")

FANOUT = next(scenario for scenario in SCENARIOS if scenario.key == "fanout")


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
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_are_measured_with_all_their_processes(workers: int) -> None:
    arguments = "--mode burst --conns 20 --window 4 --seconds 0.1 --warm-up 0.05"
    scenario = Scenario("short", "short", arguments, workers=True)
    server = servers.ours() if workers == 1 else servers.with_workers()[0]
    result = measure.measure(server, scenario)
    assert result.get("failed") is None
    assert result["units"] > 0
    assert result["redis_us"] > 0
    # A process has 40 MB or more; with workers there are three.
    assert 0.3 < result["rss"] / 50e6 / (1 if workers == 1 else 3) < 3


def test_workers_take_part_in_their_own_scenarios_alone() -> None:
    own = next(it for it in SCENARIOS if it.workers)
    assert measure.takes_part(servers.ours(), own)
    for server in servers.with_workers():
        assert measure.takes_part(server, own)
        assert not measure.takes_part(server, FANOUT)


def test_more_workers_than_cores_are_missing_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CORES", [0, 1, 2, 3, 4])
    two, four, eight = servers.with_workers()
    assert (two.missing, four.missing) == ("", "")
    assert eight.missing == "9 cores are needed: one for each worker, and one for the generator"


@needs_compiler
@pytest.mark.usefixtures("_built")
def test_no_latency_is_above_the_worst() -> None:
    # With so few messages p99.9 is the maximum, and its bucket may reach above it.
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
def test_the_generator_detects_a_mistake_of_the_server(fault: str, noticed: str) -> None:
    faulty = Path(__file__).with_name("faulty_server.py")
    server = servers.Server("faulty", "faulty", [sys.executable, str(faulty), fault])
    arguments = (
        "--mode burst --conns 4 --topics 2 --window 8 --seconds 0.1 --warm-up 0.05 --patience 0.5"
    )
    result = measure.measure(server, Scenario("short", "short", arguments, pinned=False))
    assert noticed in result.get("failed", "") if noticed else "failed" not in result, result


@needs_compiler
@pytest.mark.usefixtures("_built")
def test_the_generator_detects_a_publish_that_was_not_carried_out() -> None:
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
def test_the_generator_refuses_invalid_arguments(arguments: str, complaint: str) -> None:
    command = [str(servers.BUILD / "loadgen"), "--port", "1", "--pid", "1", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
