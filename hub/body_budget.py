"""A budget in bytes for the bodies of large requests.

A batch of 4 MB may take 30 s to arrive, and each connection may send one. 100 of them took 725 MB
of memory (measured on 2026-11-25).

State: the reserved bytes of each caller.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

LIMIT: Final = 67_108_864  # bytes: 16 of the largest batches
SHARE: Final = LIMIT // 4  # maximum of the bytes of one caller


class BodyBudget:
    """Limits the total size of all request bodies that are larger than a message."""

    def __init__(self) -> None:
        self.reserved = 0  # bytes, of all callers
        self._by_caller: Counter[Hashable] = Counter()

    @contextmanager
    def reserve(self, caller: Hashable, size: int) -> Iterator[bool]:
        """Reserve `size` bytes for the time of the block.

        Yields:
            False if too few bytes are left; then none are reserved.
        """
        if self.reserved + size > LIMIT or self._by_caller[caller] + size > SHARE:
            yield False
            return
        self.reserved += size
        self._by_caller[caller] += size
        try:
            yield True
        finally:
            self.reserved -= size
            self._by_caller[caller] -= size
            if not self._by_caller[caller]:
                del self._by_caller[caller]
