"""The vectors of tests/vectors/frames.json: bytes of a client, and the server's reaction."""

import json
from pathlib import Path
from typing import Any

from tests.support.frames import client_frame

FRAMES = json.loads((Path(__file__).parents[1] / "vectors/frames.json").read_text())


def wire(vector: dict[str, Any]) -> bytes:
    """Return the bytes that the vector's client sends."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    return b"".join(_frame(**frame) for frame in vector["frames"])


def _frame(opcode: int, text: str = "", hex: str = "", fill: int = 0, **options: Any) -> bytes:
    payload = text.encode() or bytes.fromhex(hex) or b"x" * fill
    return client_frame(opcode, payload, **options)


def reads(vector: dict[str, Any]) -> list[tuple[int, bytes]]:
    """Return the messages in those bytes as (opcode, payload)."""
    return [(opcode, _payload(what)) for opcode, what in vector["reads"]]


def _payload(what: str | int) -> bytes:
    if isinstance(what, int):
        return b"x" * what
    return bytes.fromhex(what[4:]) if what.startswith("hex:") else what.encode()
