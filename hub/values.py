"""Values that all packages use: positions in a topic, rules of history, and JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Json = Any  # a value decoded by orjson: dict, list, str, int, float, bool or None

MAX_SIZE: Final = 100_000  # events in a rule at most
TOTAL_BYTES: Final = 268_435_456  # default limit of all histories of a process


class Position(NamedTuple):
    """A place in a topic's order; all events up to it are known."""

    epoch: str  # of the topic's history; empty for a topic without one
    offset: int  # of the last known event; 0 before the first


NOWHERE: Final = Position("", 0)  # the position of a topic without history

# Where a recovery begins: after a position, or before a number of the newest events.
RecoverFrom = Position | int


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits of a topic's history."""

    size: int  # events
    ttl: float  # seconds to keep an event, and an automatic topic after its last subscriber
    max_bytes: int  # of encoded events


def find_rule(rules: Mapping[str, Rule], topic: str) -> Rule | None:
    """Return the rule with the longest prefix of `topic`; None if the topic has no history."""
    matching = [prefix for prefix in rules if topic.startswith(prefix)]
    rule = rules[max(matching, key=len)] if matching else None
    return rule if rule is not None and rule.size else None


def position_of(event: bytes, epoch: str) -> Position:
    """Return the position of an event; NOWHERE if it has no offset.

    An event from Redis may be any text in braces (hub/redis/envelope.py).

    Args:
        event: the event as JSON, with its offset at the end.
        epoch: of the topic's history; empty for a topic without one.
    """
    if not epoch:
        return NOWHERE
    end = event[event.rfind(b":") + 1 :].rstrip(b"}")
    offset = int(end) if end.isdigit() and len(end) < 16 else 0
    return Position(epoch, offset) if offset else NOWHERE
