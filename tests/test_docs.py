"""The documents in docs/: their commands and examples run, and the files that they name exist."""

import asyncio
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hub.brokers.memory import MemoryBroker
from hub.event_log import EventLog
from hub.observer import Observers
from hub.settings import Settings
from hub.values import Rule
from hub.wires import WIRES
from tests.support.markdown import blocks, section
from tests.support.node import Node
from tests.support.raw import HANDSHAKE, RawClient, raw_client
from tests.support.server import Running

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs/decisions"
DOCUMENTS = {path: path.read_text() for path in sorted((ROOT / "docs").glob("**/*.md"))}
ARCHITECTURE = DOCUMENTS[ROOT / "docs/architecture.md"]
TEXT = "\n".join(DOCUMENTS.values())
EXAMPLES = ["\n".join(it.lines) for it in blocks(ARCHITECTURE) if it.tag == "python"]
FRAMES, READERS, LOAD, HISTORY = (
    f".venv/bin/python bench/{name}.py"
    for name in ("frame_reader", "redis_reader", "redis_load", "history")
)
FAIRNESS = ".venv/bin/python bench/fairness.py"  # tests/bench/test_fairness.py runs it
ACCESS = ".venv/bin/python bench/access.py"  # tests/bench/test_access.py runs it
LOGS = ".venv/bin/python bench/logs.py"
COMMANDS = re.findall(r"`(\.venv/bin/python bench/[^`]+)`", TEXT)
FILES = set(re.findall(r"`((?:hub|handlers|bench|tests|docs)/[\w./]*)`", TEXT))
NUMBERED = sorted(DECISIONS.glob("[0-9]*.md"))


async def printed_by(command: str, *flags: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *shlex.split(command)[1:],
        *flags,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "clients/python"},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().splitlines()


def rows(decision: str, pattern: str) -> list[str]:
    """Return the first cells that match, in the tables of a decision given by its number."""
    (path,) = DECISIONS.glob(f"{decision}-*.md")
    return re.findall(rf"(?m)^\| ({pattern}) \|", DOCUMENTS[path])


def example(text: str) -> dict[str, Any]:
    """Run the one example with a text, and return its names."""
    (code,) = [it for it in EXAMPLES if text in it]
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    return names


@pytest.mark.parametrize("backpressure", ["disconnect", "drop_oldest"])
def test_the_example_of_an_observer_counts_what_slow_clients_lose(backpressure: str) -> None:
    counts = example("Observer):")["SlowClients"]()
    settings = Settings(max_queue_size=2, backpressure=backpressure)
    node = Node(settings, observer=Observers(EventLog(time.monotonic), counts))
    slow = node.subscribed("t", room=0)
    for number in range(5):  # the transport holds the first, the queue two
        node.publish("t", number)
        node.tick()
    node.hub.leave(slow.client)
    expected = (2, 0) if backpressure == "drop_oldest" else (0, 1)
    assert (counts.events, counts.connections) == expected


@pytest.mark.parametrize("room", [None, 0])
def test_the_example_of_an_encoding_writes_lines(room: int | None) -> None:
    framing = example("LineFraming")["LINES"]
    node = Node(Settings(history_size=5), MemoryBroker(lambda: 0.0, {"": Rule(5, 300.0, 10_000)}))
    node.hub.subscribe(node.connect().client, "t", lambda _: None)
    node.publish("t", 0)
    peer = node.connect(framing=framing)
    node.hub.subscribe(peer.client, "t", lambda _: None, recover_from=1)
    node.tick()
    peer.transport.room = room
    node.publish("t", 1)
    node.publish("t", 2)
    node.tick()
    node.drain.begin()
    peer.transport.drain()
    node.tick()
    lines = [json.loads(line) for line in peer.transport.written.splitlines()]
    assert [it["message"]["payload"] for it in lines if it["type"] == "event"] == [0, 1, 2]
    assert [it["type"] for it in lines if it["type"] != "event"] == ["info"]
    assert peer.transport.ended == "close"


async def test_the_example_of_an_encoding_is_selected_by_its_subprotocol(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    framing = example("LineFraming")["LINES"]
    monkeypatch.setitem(WIRES, "lines", lambda: framing)
    offer = b"\r\nSec-WebSocket-Protocol: chat, lines, bearer\r\n\r\n"
    client = await RawClient.dial(server.port)
    await client.send(HANDSHAKE.replace(b"\r\n\r\n", offer))
    head = await client.read_head()
    assert [line for line in head.splitlines() if b"Protocol:" in line] == [
        b"Sec-WebSocket-Protocol: lines"
    ]
    async with raw_client(server.port) as other:  # offers none
        for it in (client, other):
            await it.say({"type": "subscribe", "topic": "t"})
        assert json.loads(await client.read_until(b"\n"))["type"] == "ack"
        assert (await other.hear())["type"] == "ack"
        server.hub.publish("t", None, 1, lambda _: None)
        event = await other.hear()
        assert event["message"]["payload"] == 1
        assert json.loads(await client.read_until(b"\n")) == event
    client.close()


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == 2


def test_every_command_is_run() -> None:
    assert set(COMMANDS) == {FRAMES, READERS, LOAD, HISTORY, FAIRNESS, ACCESS, LOGS}


async def test_the_frame_reader_benchmark_prints_the_rows_of_the_table() -> None:
    sizes = [line.split()[0] for line in (await printed_by(FRAMES, "--messages=640"))[1:]]
    assert sizes == [row.replace(",", "") for row in rows("0005", r"[\d,]+")]


@pytest.mark.parametrize(("command", "figures"), [(READERS, 5), (LOAD, 16)])
async def test_the_redis_benchmarks_print_their_figures(command: str, figures: int) -> None:
    lines = await printed_by(command, "--messages=100")
    assert len([line for line in lines if re.search(r"\d+\.\d\d?\b|\d$", line)]) == figures


async def test_the_history_benchmark_prints_its_figures() -> None:
    printed = await printed_by(HISTORY, "--rounds=1", "--seconds=0.1")
    compared = [line for line in printed if line.startswith("| with a history | ")]
    assert len(compared) == len(rows("0030", r"[^|]*\d+[^|]*"))
    assert re.fullmatch(r"ratio of the medians: \d+\.\d\d", printed[-1])


async def test_the_benchmark_of_the_log_prints_its_figures() -> None:
    printed = await printed_by(LOGS, "--lines=100", "--requests=10")
    figures = [re.fullmatch(r"(.*?) +\d+\.\d µs", line) for line in printed]
    assert [it and it[1] for it in figures] == rows("0060", r"(?:a line|GET) [^|]+")


async def test_pydoc_has_the_python_client() -> None:
    printed = await printed_by("python -m pydoc broadcast_client")
    assert any(line.strip().startswith("connect(") for line in printed)


MEASURED = section((ROOT / "bench/README.md").read_text(), "Beside Centrifugo and NATS")


def close(shown: str, measured: str) -> bool:
    """Return whether a figure is the rounded measured one, perhaps in thousands."""
    if not shown or not measured:
        return False
    digits = len(shown.partition(".")[2])
    value = float(measured.replace(",", ""))
    return any(f"{it:.{digits}f}" == shown for it in (value, value / 1000))


def test_the_figures_of_the_comparison_are_measured() -> None:
    measured = [
        [re.findall(r"^[\d,.]+|$", cell)[0] for cell in (ours, centrifugo, nats)]
        for ours, centrifugo, nats in re.findall(
            r"(?m)^\|[^|]*\|[^|]*\| (\d.*) \| (.*) \| .* \| (.*) \|$", MEASURED
        )
    ]
    comparison = DOCUMENTS[ROOT / "docs/comparison.md"]
    _, _, table = comparison.rpartition("|---|---|---|---|\n")
    rows = re.findall(r"(?m)^\|.*\| (.*) \| (.*) \| (.*) \|$", table)
    assert len(rows) == len(re.findall(r"(?m)^\|", table)) > 0
    for row in rows:
        figures = [re.findall(r"^[\d.]+|$", cell)[0] for cell in row]
        assert any(
            all(close(*pair) for pair in zip(figures, found, strict=True) if any(pair))
            for found in measured
        ), row


@pytest.mark.parametrize("name", ["README.md", "docs/installation.md"])
def test_the_deliveries_in_a_second_are_measured(name: str) -> None:
    (figure,) = re.findall(r"([\d,]+)(?: deliveries)? a second to 1,000", (ROOT / name).read_text())
    assert f"are {figure} by this server" in MEASURED


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_named_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_list_of_decisions_is_complete() -> None:
    listed = re.findall(r"(?m)^- (\S+) \[(\d+) (.*)\]\((.*)\)$", DOCUMENTS[DECISIONS / "README.md"])
    assert listed == [
        (date[:10], path.name[:4], title.removeprefix("# "), path.name)
        for path in NUMBERED
        for title, _, date, *_ in [DOCUMENTS[path].splitlines()]
    ]


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_a_decision_has_a_date_and_its_sections(path: Path) -> None:
    text = DOCUMENTS[path]
    assert re.match(r"# .+\n\n\d{4}-\d\d-\d\d(, \d{4}-\d\d-\d\d)*\n\n## Context\n", text)
    sections = re.findall(r"(?m)^## (.*)$", text)
    assert sections[:2] == ["Context", "Decision"]
    assert sections[2:] in (["Consequences"], ["Figures"])
