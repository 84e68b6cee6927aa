"""Data in Redis that no server of the deployment has written."""

import logging

log = logging.getLogger(__name__)


class Poison:
    """Counts dropped data, and logs the first."""

    def __init__(self) -> None:
        self.count = 0

    def drop(self, place: str, data: bytes) -> None:
        """Count dropped data; `place` is where in Redis it was."""
        self.count += 1
        if self.count == 1:
            text = "dropped a message from Redis' %s that no server has sent (logged once): %.60r"
            log.warning(text, place, data)
