"""The state of this process, or of all workers together, for probes."""

from typing import Final, NamedTuple

OK: Final = "ok"
# The names of checks.
SHUTDOWN: Final = "shutdown"
REDIS: Final = "redis"
CONNECTIONS: Final = "connections"
WORKERS: Final = "workers"


class Status(NamedTuple):
    """The answers of `/health` and `/ready`."""

    uptime: float  # seconds
    topics: int
    subscribers: int
    checks: dict[str, str]  # the state of each, by name
    refusal: str = ""  # why this server accepts no new clients; empty if it does
