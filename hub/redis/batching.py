"""Long lists of topics and commands, some at a time."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

CHUNK: Final = 1_000  # topics of one command
SHARE: Final = 5_000  # topics that one tick may deal with: a million would stop the loop for 2 s
TURN: Final = 1_000  # commands that one tick may complete


def take(topics: dict[str, Any]) -> list[str]:
    """The first SHARE of them, taken out."""
    taken = list(islice(topics, SHARE))
    for topic in taken:
        del topics[topic]
    return taken


def chunks(topics: list[str]) -> Iterable[list[str]]:
    """All of them, in parts that fit into a command."""
    return (topics[at : at + CHUNK] for at in range(0, len(topics), CHUNK))
