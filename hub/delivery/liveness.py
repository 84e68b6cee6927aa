"""The keepalive's record of one client: signs of life, incomplete messages and rights."""

import math


class Liveness:
    """State: flags that the connection sets, and times that the keepalive records.

    The connection sets a flag when a frame arrives and when its transport drains, because a flag
    costs less than a reading of the clock. The times are those of the keepalive's visits, in
    seconds.
    """

    __slots__ = (
        "acknowledged",
        "deadline",
        "heard",
        "idle_since",
        "incomplete",
        "incomplete_seen",
        "incomplete_since",
        "invalid_tokens",
        "pinged",
        "rights_due",
        "taken_at",
        "took",
    )

    def __init__(self) -> None:
        self.heard = True  # whether there was a sign of life since the last visit
        self.idle_since = 0.0  # the last visit that found a sign of life
        self.pinged = False  # whether a ping was sent after that visit
        self.took = False  # whether the transport has drained or filled since the last visit
        self.acknowledged = 0  # bytes that the client had acknowledged at the last visit
        self.taken_at = 0.0  # the last visit that found bytes acknowledged
        # The time at which a closing client is cut. None before the first visit that finds it
        # closing; infinite while it gets its queued messages in a shutdown.
        self.deadline: float | None = None
        self.incomplete = 0  # number of the incomplete message; 0 without one
        self.incomplete_seen = 0  # that number at the last visit
        self.incomplete_since = 0.0  # the first visit that found it
        self.rights_due = math.inf  # the time at which hub/sessions.py looks at its token
        self.invalid_tokens = 0  # in a row
