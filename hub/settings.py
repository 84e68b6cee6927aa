"""Reads and checks the settings in the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hub.errors import SettingError
from hub.origins import EVERY_ORIGIN, Origins, parse_hosts, parse_origins
from hub.redis.address import FORMS as REDIS_FORMS
from hub.redis.address import RedisAddress, parse_redis_address
from hub.values import MAX_SIZE, TOTAL_BYTES, Rule

SECRETS: Final = frozenset({"REDIS_ADDR"})  # settings whose values are not printed
MAX_SECONDS: Final = 86_400  # in any setting
_RULE: Final = re.compile(
    r"(?P<prefix>[^,=]+)=(?P<size>[0-9]{1,6})(:(?P<ttl>[0-9]{1,6}(\.[0-9]{1,3})?))?"
)
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_FAIL_MODES: Final = ("local", "strict")
_STRATEGIES: Final = ("disconnect", "drop_oldest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server. Sizes are in bytes and times in seconds unless noted."""

    host: str = "0.0.0.0"
    port: int = 8080  # 0: a free port, which is logged
    redis_addr: RedisAddress | None = None  # None: a single server
    redis_prefix: str = "ws"  # of every key and channel in Redis
    redis_fail_mode: str = "local"  # or "strict": the behaviour while Redis cannot be reached
    ready_redis_grace: float = 10.0  # time without Redis after which a strict server is not ready
    allowed_origins: Origins = EVERY_ORIGIN  # from which browsers may send requests
    allowed_hosts: frozenset[str] = frozenset()  # to which requests may be sent; empty: any
    max_connections: int = 0  # WebSockets and streams; 0: as file descriptors allow
    max_message_bytes: int = 65_536  # of a WebSocket message after reassembly, and of a REST body
    message_timeout: float = 30.0  # from a WebSocket message's first byte to its last
    max_topic_bytes: int = 255  # of a topic's name in UTF-8
    require_client_id: bool = True  # on subscribe and unsubscribe
    max_queue_size: int = 256  # messages in a client's send queue
    max_queue_bytes: int = 1_048_576  # the same in bytes, with the transport's buffer
    backpressure: str = "disconnect"  # or "drop_oldest"
    history_size: int = 0  # events in a topic's history
    history_ttl: float = 300.0  # time to keep an event
    history_bytes: int = 1_048_576  # of a topic's events
    history_rules: Mapping[str, Rule] = field(default_factory=dict)  # by prefix of a topic's name
    history_total_bytes: int = TOTAL_BYTES  # of all histories in this process
    recovery_limit: int = 300  # events in one recovery
    ping_interval: float = 54.0  # without data from a client before a ping
    idle_timeout: float = 60.0  # without data from a client before it is lost
    write_timeout: float = 10.0  # without a byte accepted by a client before it is lost
    drain_delay: float = 0.0  # from a signal to the drain, with /ready failing
    shutdown_timeout: float = 30.0  # from a signal until remaining clients are cut
    log_level: str = "info"

    def rules(self) -> dict[str, Rule]:
        """Return the rules of history by the prefix of topics; empty if no topic has a history."""
        every = Rule(self.history_size, self.history_ttl, self.history_bytes)
        rules = {"": every, **self.history_rules}
        return rules if any(rule.size for rule in rules.values()) else {}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`; a missing or empty key has its default.

    Raises:
        SettingError: a value is not allowed.
    """
    env = _Environment(environ)
    default = Settings()
    ttl = env.seconds("HISTORY_TTL", default.history_ttl)
    max_bytes = env.integer("HISTORY_BYTES", default.history_bytes, 1_024, 1_073_741_824)
    settings = Settings(
        host=env.text("HOST", default.host),
        port=env.integer("PORT", default.port, 0, 65_535),
        redis_addr=env.redis("REDIS_ADDR"),
        redis_prefix=env.name("REDIS_PREFIX", default.redis_prefix),
        redis_fail_mode=env.choice("REDIS_FAIL_MODE", default.redis_fail_mode, _FAIL_MODES),
        ready_redis_grace=env.seconds("READY_REDIS_GRACE", default.ready_redis_grace),
        allowed_origins=env.origins("ALLOWED_ORIGINS", default.allowed_origins),
        allowed_hosts=env.hosts("ALLOWED_HOSTS"),
        max_connections=env.integer("MAX_CONNECTIONS", default.max_connections, 0, 10_000_000),
        max_message_bytes=env.integer(
            "MAX_MESSAGE_BYTES", default.max_message_bytes, 128, 16_777_216
        ),
        message_timeout=env.seconds("MESSAGE_TIMEOUT", default.message_timeout),
        max_topic_bytes=env.integer("MAX_TOPIC_BYTES", default.max_topic_bytes, 1, 65_536),
        require_client_id=env.truth("REQUIRE_CLIENT_ID", default.require_client_id),
        max_queue_size=env.integer("MAX_QUEUE_SIZE", default.max_queue_size, 1, 1_000_000),
        max_queue_bytes=env.integer(
            "MAX_QUEUE_BYTES", default.max_queue_bytes, 1_024, 1_073_741_824
        ),
        backpressure=env.choice("BACKPRESSURE", default.backpressure, _STRATEGIES),
        history_size=env.integer("HISTORY_SIZE", default.history_size, 0, MAX_SIZE),
        history_ttl=ttl,
        history_bytes=max_bytes,
        history_rules=env.rules("HISTORY_RULES", ttl, max_bytes),
        history_total_bytes=env.integer(
            "HISTORY_TOTAL_BYTES", default.history_total_bytes, 1_024, 68_719_476_736
        ),
        recovery_limit=env.integer("RECOVERY_LIMIT", default.recovery_limit, 1, MAX_SIZE),
        ping_interval=env.seconds("PING_INTERVAL", default.ping_interval),
        idle_timeout=env.seconds("IDLE_TIMEOUT", default.idle_timeout),
        write_timeout=env.seconds("WRITE_TIMEOUT", default.write_timeout),
        drain_delay=env.seconds("DRAIN_DELAY", default.drain_delay, least=0.0),
        shutdown_timeout=env.seconds("SHUTDOWN_TIMEOUT", default.shutdown_timeout),
        log_level=env.choice("LOG_LEVEL", default.log_level, _LOG_LEVELS),
    )
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    if settings.idle_timeout <= settings.ping_interval:
        raise _wrong(
            "IDLE_TIMEOUT",
            f"{settings.idle_timeout:g}",
            f"it must be more than PING_INTERVAL ({settings.ping_interval:g} s),"
            " or no client could answer a ping in time",
        )
    if settings.drain_delay >= settings.shutdown_timeout:
        raise _wrong(
            "DRAIN_DELAY",
            f"{settings.drain_delay:g}",
            f"it must be less than SHUTDOWN_TIMEOUT ({settings.shutdown_timeout:g} s),"
            " which includes it",
        )
    if settings.allowed_origins.same and not settings.allowed_hosts:
        raise _wrong(
            "ALLOWED_ORIGINS", "same", "it needs ALLOWED_HOSTS, the names that this server goes by"
        )


def _wrong(key: str, value: str, allowed: str) -> SettingError:
    return SettingError(key, None if key in SECRETS else value, allowed)


class _Environment:
    """Reads typed values; raises SettingError for a value that is not allowed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, key: str, default: str) -> str:
        return self._environ.get(key, "").strip() or default

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        text = self.text(key, str(default))
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise _wrong(key, text, f"a whole number from {low} to {high} is allowed")
        return int(text)

    def seconds(self, key: str, default: float, least: float = 0.001) -> float:
        text = self.text(key, str(default))
        if (
            not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text)
            or not least <= float(text) <= MAX_SECONDS
        ):
            lower = "more than 0" if least else "0 or more"
            raise _wrong(key, text, f"seconds, {lower} and at most {MAX_SECONDS}, are allowed")
        return float(text)

    def truth(self, key: str, default: bool) -> bool:
        text = self.text(key, str(default))
        if text.lower() not in _TRUTH:
            raise _wrong(key, text, "true or false is allowed")
        return _TRUTH[text.lower()]

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(key, default)
        if text.lower() not in allowed:
            raise _wrong(key, text, f"one of {', '.join(allowed)} is allowed")
        return text.lower()

    def name(self, key: str, default: str) -> str:
        text = self.text(key, default)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
            raise _wrong(key, text, "up to 64 letters, digits and any of . _ - are allowed")
        return text

    def rules(self, key: str, ttl: float, max_bytes: int) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}
        text = self.text(key, "")
        for part in text.split(",") if text else ():
            found = _RULE.fullmatch(part.strip())
            if (
                found is None
                or int(found["size"]) > MAX_SIZE
                or not 0 < float(found["ttl"] or ttl) <= MAX_SECONDS
            ):
                raise _wrong(
                    key,
                    part or text,
                    "a comma-separated list of PREFIX=SIZE or PREFIX=SIZE:SECONDS is allowed, such"
                    " as chat/=1000:3600,metrics/=0",
                )
            if found["prefix"] in rules:
                raise _wrong(key, text, "one rule for each prefix is allowed")
            rules[found["prefix"]] = Rule(int(found["size"]), float(found["ttl"] or ttl), max_bytes)
        return rules

    def redis(self, key: str) -> RedisAddress | None:
        text = self.text(key, "")
        try:
            return parse_redis_address(text) if text else None
        except ValueError:
            raise _wrong(key, text, f"{REDIS_FORMS} is allowed") from None

    def origins(self, key: str, default: Origins) -> Origins:
        text = self.text(key, "")
        try:
            return parse_origins(text) if text else default
        except ValueError as error:
            raise _wrong(
                key,
                str(error),
                "'*' or a comma-separated list of origins such as https://app.example.com,"
                " https://*.example.com for its sub-domains, or same is allowed",
            ) from None

    def hosts(self, key: str) -> frozenset[str]:
        text = self.text(key, "")
        try:
            return parse_hosts(text) if text else frozenset()
        except ValueError as error:
            allowed = "a comma-separated list of host names without ports is allowed"
            raise _wrong(key, str(error), allowed) from None
