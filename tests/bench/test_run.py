"""The runner: the results that it writes and prints, its end, and its requirements."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE
from tests.support.programs import needs, skip_unless

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import measure
import report
import run
import servers
from scenarios import PEERS, SCENARIOS, TARGETS, Scenario, with_targets
from servers import ROOT

SCRIPT = """
import sys
sys.path.insert(0, "bench")
import run
run.peers = lambda names=None: []
run.floors = lambda: []
run.main()
"""


def rows_of(scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    figures = dict.fromkeys(
        ("server_us", "publisher_us", "redis_us", "nodes_us", "generator_us", "per_second"), 1.0
    ) | dict.fromkeys(("p50_ms", "p99_ms", "p999_ms", "max_ms", "rss_per_connection"), 1.0)
    shares = {"server_busy": 0.5, "generator_busy": 0.5, "rss": 1_000_000}
    return [
        {"scenario": it.key, "server": "ours", "round": 0, **figures, **shares} for it in scenarios
    ]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runner with a temporary folder, instant measurements, and no peers."""

    def measured(
        _: object, scenarios: Sequence[Scenario], rounds: object = None, keep: Any = None
    ) -> list[dict[str, Any]]:
        rows = rows_of(scenarios)
        if keep is not None:
            keep(rows)
        return rows

    monkeypatch.setattr(run, "BENCH", tmp_path)
    monkeypatch.setattr(run, "measure_all", measured)
    monkeypatch.setattr(run, "peers", lambda names=None: [])
    monkeypatch.setattr(run, "prepare", lambda: None)
    monkeypatch.setattr(report, "check", lambda: None)
    monkeypatch.setattr(report, "write", lambda result: (tmp_path / "written").touch())
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    run.main()


def test_a_whole_run_records_its_revision_and_time(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(monkeypatch)
    (path,) = (bench / "results").iterdir()
    result = json.loads(path.read_text())
    assert path.name == f"{result['date']}.json"
    assert result["started"].startswith(f"{result['date']}T")
    assert isinstance(result["dirty"], bool)
    assert len(result["revision"]) in (0, 40)
    assert "redis" in result["machine"]
    assert (bench / "written").exists()


def test_an_interrupted_run_leaves_the_last_result_as_it_was(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(servers: object, scenarios: object, rounds: object, keep: Any) -> None:
        keep(rows_of(SCENARIOS[:1]))
        raise SystemExit(143)

    asked(monkeypatch)
    (path,) = (bench / "results").iterdir()
    before = path.read_text()
    (bench / "written").unlink()
    monkeypatch.setattr(run, "measure_all", interrupted)
    with pytest.raises(SystemExit):
        asked(monkeypatch)
    assert path.read_text() == before
    assert not (bench / "written").exists()
    assert len(json.loads(path.with_suffix(".json.part").read_text())["rows"]) == 1


def test_some_scenarios_are_printed_and_not_kept(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(monkeypatch, "--only", "fanout,echo")
    assert list(bench.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert any("by `make bench ONLY=fanout,echo` from" in line for line in lines)
    heads = [line for line in lines if line.startswith("#### ")]
    assert heads == [
        "#### fan-out to 1,000, 1 in flight",
        "#### 1 to 1 on one pair of connections, 64 in flight",
    ]


def test_an_unknown_scenario_is_refused(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        asked(monkeypatch, "--only", "fanout,fanin")
    assert "no such scenario: fanin; there are fanout, " in capsys.readouterr().err
    assert list(bench.iterdir()) == []


def test_some_servers_are_measured_alone(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[object] = []
    monkeypatch.setattr(run, "peers", lambda names: asked_for.append(names) or [])
    monkeypatch.setattr(
        run,
        "measure_all",
        lambda several, scenarios, *_: asked_for.append([it.name for it in several]) or [],
    )
    asked(monkeypatch, "--only", "fanout", "--servers", "nats,ours")
    assert asked_for == [["nats", "ours"], ["ours"]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only", "fanout", "--servers", "ours,nat"], "no such server: nat; there are ours, "),
        (["--servers", "ours"], "--servers goes with --only"),
    ],
)
def test_servers_that_cannot_be_chosen_are_refused(
    words: list[str],
    complaint: str,
    bench: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        asked(monkeypatch, *words)
    assert complaint in capsys.readouterr().err


def test_a_peer_is_named_like_its_folder() -> None:
    for name in servers.peer_names():
        described = json.loads((servers.BENCH / "peers" / name / "peer.json").read_text())
        assert described["name"] == name


def test_a_report_needs_no_compiler_and_no_second_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> None:
        raise AssertionError("nothing is measured, so nothing is built")

    written: list[object] = []
    monkeypatch.setattr(run, "build", build)
    monkeypatch.setattr(run, "CORES", [0])
    monkeypatch.setattr(report, "write", written.append)
    (tmp_path / "kept.json").write_text('{"rows": []}')
    asked(monkeypatch, "--report", str(tmp_path / "kept.json"))
    assert written == [{"rows": []}]


needs_git = skip_unless(shutil.which("git") and (ROOT / ".git").exists(), "git or a clone")


@needs_git
def test_an_unknown_revision_is_one_clear_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        asked(monkeypatch, "--compare", "no-such-thing")
    assert caught.value.code == "no such revision: no-such-thing"
    assert capfd.readouterr() == ("", "")


@needs_git
def test_a_comparison_names_the_working_tree_and_the_revision(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[servers.Server] = []

    def measured(trees: Sequence[servers.Server], *_: Any) -> list[dict[str, Any]]:
        compared.extend(trees)
        assert all((tree.folder / "server.py").exists() for tree in trees)
        return []

    monkeypatch.setattr(run, "measure_all", measured)
    asked(monkeypatch, "--compare", "HEAD")
    assert [tree.title for tree in compared] == ["working tree", "HEAD"]
    assert compared[0].folder == ROOT
    assert not compared[1].folder.exists(), "the second tree is gone in the end"


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def running_program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def eventually(found: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


@needs("cc")
@pytest.mark.skipif(len(servers.CORES) < 2, reason="one core")
def test_sigterm_ends_the_server_and_the_generator() -> None:
    # It would take a minute.
    command = [sys.executable, "-c", SCRIPT, "--only", "idle-cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:

        def kids() -> list[int]:
            return children(process.pid)

        try:
            eventually(lambda: any("loadgen\0--port" in running_program(it) for it in kids()))
            started = kids()
            assert len(started) == 2
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
            left = [pid for pid in started if running_program(pid)]
        finally:
            for pid in kids():
                os.kill(pid, signal.SIGKILL)
            process.kill()
    assert left == []


def test_rows_of_a_target_have_more_rounds() -> None:
    by_key = {scenario.key: scenario for scenario in SCENARIOS}
    for target in TARGETS:
        assert with_targets(by_key[target.scenario], "ours") == 5
        if target.against in by_key:
            assert with_targets(by_key[target.against], "ours") == 5
        elif target.against == PEERS:
            assert with_targets(by_key[target.scenario], "ws") == 5
        elif target.against:
            assert with_targets(by_key[target.scenario], target.against) == 5
    assert with_targets(by_key["fanout"], "ws") == 3
    assert with_targets(by_key["idle-1k"], "floor") == 3
    assert with_targets(by_key["topics-20"], "ours") == 3


def test_a_server_with_fewer_rounds_skips_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure", lambda server, scenario: {"failed": "not tried"})
    two = [servers.Server("ours", "ours", []), servers.Server("ws", "ws", [])]
    scenario = Scenario("fanout", "fanout", "")
    rows = measure.measure_all(two, [scenario], lambda _, name: 3 if name == "ours" else 1)
    assert [(row["round"], row["server"]) for row in rows] == [
        (0, "ours"),
        (0, "ws"),
        (1, "ours"),
        (2, "ours"),
    ]
