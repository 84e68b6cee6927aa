"""The load generator speaks the protocols of Centrifugo and NATS, and checks what it receives."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import needs

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import measure
import servers
from scenarios import Scenario

pytestmark = [
    needs("cc"),
    pytest.mark.usefixtures("_built"),
]
SHORT = "--seconds 0.1 --warm-up 0.05"
BURST = "--mode burst --conns 4 --topics 2 --window 8"
RECOVER = "--mode recover --conns 4 --window 20"


@pytest.fixture(scope="module")
def _built() -> None:
    servers.build()


def measured(protocol: str, arguments: str, fault: str = "none") -> dict[str, Any]:
    """Return a short measurement of a server with one mistake."""
    command = [sys.executable, str(Path(__file__).with_name("foreign_server.py")), protocol, fault]
    server = servers.Server("foreign", "foreign", command, protocol=protocol)
    scenario = Scenario("short", "short", f"{arguments} {SHORT}", pinned=False)
    return measure.measure(server, scenario)


@pytest.mark.parametrize("protocol", ["centrifugo", "protobuf", "nats"])
@pytest.mark.parametrize(
    "arguments",
    [
        BURST,
        "--mode burst --conns 5 --topics 50 --per 10 --payload 4096",
        "--mode rate --conns 20 --topics 2 --rate 200",
        "--mode echo --conns 2 --window 8",
        "--mode storm --conns 220",
        "--mode idle --conns 220",
    ],
)
def test_a_measurement_in_another_protocol_finds_nothing_wrong(
    protocol: str, arguments: str
) -> None:
    result = measured(protocol, arguments)
    assert result.get("failed") is None
    assert result["units"] > 0


def test_publishes_by_centrifugos_rest_arrive() -> None:
    assert measured("centrifugo", "--mode rest --conns 2")["units"] > 0


def test_a_refused_publish_by_centrifugos_rest_is_detected() -> None:
    result = measured("centrifugo", "--mode rest --conns 2", "refusal")
    assert 'REST: {"error"' in result["failed"]


def test_a_cut_reply_of_centrifugo_is_detected() -> None:
    assert "a cut" in measured("protobuf", BURST, "cut")["failed"]


@pytest.mark.parametrize("server", ["ours", "centrifugo", "protobuf"])
def test_a_recovery_delivers_each_event(server: str) -> None:
    if server == "ours":
        scenario = Scenario("short", "short", f"{RECOVER} {SHORT}", pinned=False, history=True)
        result = measure.measure(servers.ours(), scenario)
    else:
        result = measured(server, RECOVER)
    assert result.get("failed") is None
    assert result["units"] % 60 == 0, "three clients recover twenty events each time"


@pytest.mark.parametrize("protocol", ["centrifugo", "protobuf"])
@pytest.mark.parametrize(
    ("arguments", "fault", "noticed"),
    [
        (BURST, "joined", ""),
        (BURST, "repeat", "came where"),
        (BURST, "lose", "came where"),
        (BURST, "name", "under another name"),
        (BURST, "kind", "not an event"),
        (BURST, "refusal", "the server refused"),
        (f"{BURST} --patience 0.5", "silence", "answers: "),
        (RECOVER, "short", "event 3 of topic t0 came where 2 was due"),
        (RECOVER, "lost", "not recovered"),
    ],
)
def test_a_mistake_of_centrifugo_is_detected(
    protocol: str, arguments: str, fault: str, noticed: str
) -> None:
    result = measured(protocol, arguments, fault)
    assert noticed in result.get("failed", "") if noticed else "failed" not in result, result


@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        ("split", ""),
        ("joined", ""),
        ("repeat", "came where"),
        ("lose", "came where"),
        ("size", "a message that is not of the size in its line: MSG t"),
        ("name", "under another name"),
        ("number", "under another name"),
        ("kind", "neither an event nor an answer: HMSG"),
        ("refusal", "the server refused: -ERR"),
        ("text", "a frame of opcode 1"),
    ],
)
def test_a_mistake_of_nats_is_detected(fault: str, noticed: str) -> None:
    result = measured("nats", BURST, fault)
    assert noticed in result.get("failed", "") if noticed else "failed" not in result, result


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [("--mode rest", "nats has no publishes by REST"), (RECOVER, "nats has no recovery")],
)
def test_a_protocol_without_a_feature_is_refused(arguments: str, complaint: str) -> None:
    assert complaint in measured("nats", arguments)["failed"]
