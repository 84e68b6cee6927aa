"""What probes ask: the state of this process, or of all workers together."""

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
    refusal: str = ""  # why new clients should go elsewhere; empty if they should not
