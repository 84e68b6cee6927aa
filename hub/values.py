"""Values that every package passes around: positions in a topic, rules of history, and JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Json = Any  # a value that orjson reads: dict, list, str, int, float, bool or None

MAX_SIZE: Final = 100_000  # events that a rule may keep
TOTAL_BYTES: Final = 268_435_456  # that all histories of a process may take, where nothing is set


class Position(NamedTuple):
    """A place in a topic's order: every event up to it is known."""

    epoch: str  # of the topic's history; empty for a topic without one
    offset: int  # of the last event that is known; 0 before the first


NOWHERE: Final = Position("", 0)  # the position of a topic without history

# The events that a new subscriber asks for: those after a position, or so many of the newest.
RecoverFrom = Position | int


@dataclass(frozen=True, slots=True)
class Rule:
    """How much history a topic keeps."""

    size: int  # events
    ttl: float  # seconds that an event is kept, and an automatic topic without subscribers
    max_bytes: int  # of encoded events


def find_rule(rules: Mapping[str, Rule], topic: str) -> Rule | None:
    """Return the rule with the longest prefix of `topic`; None where the topic keeps no history."""
    fitting = [prefix for prefix in rules if topic.startswith(prefix)]
    rule = rules[max(fitting, key=len)] if fitting else None
    return rule if rule is not None and rule.size else None


def offset_of(event: bytes) -> int:
    """Return the offset at the end of an encoded event; 0 where it has none.

    An event that comes from Redis may be any text in braces (hub/redis/envelope.py).
    """
    end = event[event.rfind(b":") + 1 :].rstrip(b"}\n")
    return int(end) if end.isdigit() and len(end) < 16 else 0
