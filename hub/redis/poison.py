"""Poison: data in Redis that no server of the deployment has written."""

from hub.logs import events


class Poison:
    """Counts dropped data, and logs the first."""

    def __init__(self) -> None:
        self.count = 0

    def drop(self, place: str, data: bytes) -> None:
        """Count dropped data; `place` is where in Redis it was."""
        self.count += 1
        if self.count == 1:
            events.POISONED.log(place=place, detail=repr(data[:60]))
