"""Records how much work a list does, and in which turns of the loop."""

import asyncio
from types import ModuleType
from typing import Any

import pytest


def looks(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, argument: int, size: int
) -> list[tuple[int, int]]:
    """Record each call of a function that looks at a slice: the turn, and the items looked at.

    `argument` is the place of the items among the arguments. `size` becomes the module's SLICE.
    """
    looked: list[tuple[int, int]] = []
    turn = 0
    real = getattr(module, function)

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count_turns)

    def look(*arguments: Any) -> Any:
        given = list(arguments)
        given[argument] = list(given[argument])
        looked.append((turn, len(given[argument])))
        return real(*given)

    monkeypatch.setattr(module, "SLICE", size)
    monkeypatch.setattr(module, function, look)
    count_turns()
    return looked
