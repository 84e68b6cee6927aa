"""What the keepalive knows of one client: its signs of life, and an unfinished message."""


class Liveness:
    """State of one client between two visits of the keepalive, which dates what it finds.

    The connection sets flags as frames come and as its transport drains: a flag costs less than a
    look at the clock. Times are those of the visits.
    """

    __slots__ = (
        "acknowledged",
        "deadline",
        "heard",
        "idle_since",
        "pinged",
        "taken_at",
        "took",
        "unfinished",
        "unfinished_seen",
        "unfinished_since",
    )

    def __init__(self) -> None:
        self.heard = True  # whether a frame has come since the last visit
        self.idle_since = 0.0  # the last visit that found a sign of life
        self.pinged = False  # whether a ping was sent since
        self.took = False  # whether the transport has drained or filled since the last visit
        self.acknowledged = 0  # bytes that the client had acknowledged at the last visit
        self.taken_at = 0.0  # the last visit that found bytes taken
        # When a client that is closing is cut: None until its first visit, infinite while a
        # shutdown lets it read on.
        self.deadline: float | None = None
        self.unfinished = 0  # the number of the message that has begun and not ended; 0 for none
        self.unfinished_seen = 0  # that number at the last visit
        self.unfinished_since = 0.0  # the first visit that found it
