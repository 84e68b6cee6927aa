"""The catalogue of log lines: every line that this server writes is an event of this module.

docs/logs.md has a row for each, held to this module by tests/logs/test_catalogue.py. No other
package of the server may import `logging`, so no line can be added without its row.
"""

import logging
import re
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING
from typing import Final, NamedTuple


class Limit(NamedTuple):
    """How many lines of one event are written in a window of time; the others are counted."""

    lines: int
    seconds: float  # length of the window


OFTEN: Final = Limit(10, 1.0)
SELDOM: Final = Limit(1, 60.0)  # for warnings that repeat while a condition lasts

# Fields about the caller of a command or request: the subject of its token, or the name of its key.
CALLER: Final = ("subject", "key_name")
# Fields about a connection. `peer` is the address of the other side of the socket. `address` is the
# client's address, which behind one of TRUSTED_PROXIES is that in X-Forwarded-For.
CLIENT: Final = ("connection", "address", "peer", *CALLER, "client_id")
# Fields about a request. The path is without the query, which may hold a token.
REQUEST: Final = ("method", "path", "address", *CALLER)

_SERVER: Final = logging.getLogger("server")
ACCESS_LOGGER: Final = logging.getLogger("access")


class Event:
    """A kind of log line: a constant text, a level, and the names of its fields."""

    __slots__ = ("_logger", "fields", "level", "limit", "name", "text")

    def __init__(
        self,
        level: int,
        text: str,
        *fields: str,
        limit: Limit | None = OFTEN,
        logger: logging.Logger = _SERVER,
    ) -> None:
        """Define a kind of line.

        Args:
            level: one of the standard levels.
            text: the name of the event. An explanation in parentheses or a field in braces may
                follow; the text format shows it, and JSON does not.
            fields: the names of the values that a line may have.
            limit: how many lines are written; None for all.
            logger: writes the lines.
        """
        self.level = level
        self.text = text
        self.name = re.split(r":? [({]", text)[0]  # the key `event` of a line in JSON
        self.fields = fields
        self.limit = limit
        self._logger = logger

    @property
    def enabled(self) -> bool:
        """Whether lines of this level are written. Ask before computing costly fields."""
        return self._logger.isEnabledFor(self.level)

    def log(self, exception: BaseException | None = None, /, **fields: object) -> None:
        """Write a line.

        Args:
            exception: its traceback follows the line; None for no traceback.
            fields: the values of the line. One that is None or empty is left out.
        """
        if self._logger.isEnabledFor(self.level):
            extra = {"event": self, "fields": fields}
            self._logger.log(self.level, self.name, exc_info=exception, extra=extra)


# Start and shutdown.
SETTING = Event(WARNING, "settings: {warning}", "warning", limit=None)
STARTING = Event(
    INFO,
    "starting",
    "version",
    "max_connections",
    "descriptors",
    "soft_limit",
    "workers",
    limit=None,
)
ACCESS = Event(INFO, "access: {rights}", "rights", limit=None)
OPEN_ORIGINS = Event(
    WARNING,
    "ALLOWED_ORIGINS is * (pages of every origin may use the tokens that they have)",
    limit=None,
)
OPEN_PROXIES = Event(
    WARNING,
    "TRUSTED_PROXIES has every address (a client may choose the one it is counted by)",
    limit=None,
)
LISTENING = Event(INFO, "listening on {url}", "url", "port", "node", "only", limit=None)
DELAYING = Event(INFO, "no longer ready (the shutdown follows)", "seconds", limit=None)
SHUTTING_DOWN = Event(INFO, "shutting down", "clients", limit=None)
CUTTING = Event(
    WARNING, "cutting clients (they did not leave in time)", "clients", "seconds", limit=None
)
STOPPED = Event(INFO, "stopped", limit=None)
CRASHED = Event(CRITICAL, "fault in the server (it ends)", limit=None)

# Workers (WORKERS).
WORKER_READY = Event(INFO, "worker is ready", "worker", "pid", "node", "seconds", limit=None)
WORKER_DIED = Event(
    WARNING, "worker died", "worker", "pid", "reason", "seconds", "restart_in", limit=None
)
WORKER_KILLED = Event(WARNING, "killing a worker", "worker", "pid", "reason", limit=None)
WORKERS_FAILED = Event(
    CRITICAL, "workers do not stay alive (the server ends)", "reason", limit=None
)
RELOADING = Event(INFO, "replacing the workers", "workers", limit=None)
RELOADED = Event(INFO, "all workers are replaced", limit=None)
RELOAD_FAILED = Event(
    ERROR, "a new worker did not start (the old ones go on)", "worker", "reason", limit=None
)
PARENT_LOST = Event(WARNING, "the parent has ended (this worker ends, too)", limit=None)

# Connections.
CONNECTED = Event(DEBUG, "connection begun", *CLIENT)
ENDED = Event(DEBUG, "connection ended", *CLIENT, "reason", "seconds")
FAILED = Event(INFO, "connection failed", *CLIENT, "reason", "seconds")
SUBSCRIBED = Event(DEBUG, "subscribed", *CLIENT, "topic")
UNSUBSCRIBED = Event(DEBUG, "unsubscribed", *CLIENT, "topic")
SLOW_CONSUMER = Event(WARNING, "slow consumer", *CLIENT, "action")
HTTP_FAILED = Event(INFO, "HTTP connection failed", "peer", "reason")

# Refusals.
COMMAND_REFUSED = Event(INFO, "command refused", *CLIENT, "reason", "detail")
REQUEST_REFUSED = Event(INFO, "request refused", *REQUEST, "status", "reason", "detail")
ITEM_REFUSED = Event(INFO, "message refused", *REQUEST, "reason", "detail")
MANY_REFUSED = Event(WARNING, "many invalid credentials", "count", "seconds")

# The access log.
HTTP_REQUEST = Event(
    INFO,
    "request",
    *REQUEST,
    "status",
    "bytes",
    "seconds",
    "user_agent",
    "connection",
    "reason",
    limit=None,
    logger=ACCESS_LOGGER,
)

# Administration.
DISCONNECT = Event(INFO, "disconnect", "caller", "subject", "client_id", "ban_seconds")
BANS_FULL = Event(WARNING, "too many subjects are banned (other bans are dropped here)", "limit")

# Resources.
FULL = Event(
    WARNING,
    "MAX_CONNECTIONS is reached (new WebSockets and streams are refused)",
    "limit",
    limit=SELDOM,
)
FEW_DESCRIPTORS = Event(
    WARNING, "few file descriptors are left (idle HTTP connections are closed)", limit=SELDOM
)
NO_DESCRIPTORS = Event(
    WARNING, "out of file descriptors (new connections are closed)", limit=SELDOM
)
LOOP_BLOCKED = Event(WARNING, "event loop was blocked", "seconds", limit=SELDOM)

# Redis, and the keys of an issuer.
REDIS_JOINED = Event(INFO, "joined the other servers through Redis", "redis", "seconds", "detail")
REDIS_LOST = Event(
    WARNING, "Redis is out of reach", "redis", "reason", "detail", "consequence", limit=None
)
REDIS_STILL_LOST = Event(WARNING, "Redis is still out of reach", "redis", "detail", limit=None)
REDIS_FAULT = Event(ERROR, "fault in the connection to Redis (it ends)", "redis", "detail")
LEASES_LOST = Event(
    WARNING,
    "leases are gone from Redis (FLUSHALL, or this server was stopped for longer than they last)",
)
POISONED = Event(
    WARNING, "foreign message in Redis (no server has sent it, it is dropped)", "place", "detail"
)
KEYS_FETCHED = Event(INFO, "JWT_JWKS_URL is fetched", "keys")
KEYS_NOT_FETCHED = Event(WARNING, "JWT_JWKS_URL cannot be fetched", "detail", "keys")

# Faults of the server.
CONNECTION_FAULT = Event(ERROR, "fault in a connection (it is closed)", *CLIENT)
REQUEST_FAULT = Event(ERROR, "fault in a request (it is answered by 500)", *REQUEST)
COMMAND_FAULT = Event(ERROR, "fault in a queued command (it is dropped)")
QUESTION_FAULT = Event(ERROR, "fault in a question of another process (it is not answered)")
IGNORED_FAULT = Event(ERROR, "fault that Python ignores (such as in a destructor)", "place")

# The log itself. Its lines have the level of those that were left out.
LEFT_OUT = Event(INFO, "lines were left out", "of", "reason", "count", limit=None)
