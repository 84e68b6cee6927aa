"""Limits and helpers to handle many topics and commands in parts."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

CHUNK: Final = 1_000  # topics in one command
SHARE: Final = 5_000  # topics handled in one tick: a million would block the loop for 2 s
TURN: Final = 1_000  # commands completed in one tick


def take(topics: dict[str, Any]) -> list[str]:
    """Remove and return the first topics, up to SHARE of them."""
    taken = list(islice(topics, SHARE))
    for topic in taken:
        del topics[topic]
    return taken


def chunks(topics: list[str]) -> Iterable[list[str]]:
    """Split topics into parts of up to CHUNK, one for each command."""
    return (topics[at : at + CHUNK] for at in range(0, len(topics), CHUNK))
