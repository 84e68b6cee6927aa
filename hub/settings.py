"""The settings: one table, from which everything that names settings is made.

Each field of `Settings` declares a setting: its default, kind, group and help. The name is that of
the field in capitals. Reading, `--check`, the options of the command line, `.env.example`,
docs/configuration.md and the warnings about misspelled variables all use this table (`SETTINGS`).
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple, TypeVar

from hub.access import NOTHING, SEPARATOR, Patterns, Rights
from hub.addresses import Networks
from hub.auth.api_keys import ApiKey
from hub.auth.tokens import Key, TokenRules
from hub.errors import SettingError
from hub.origins import EVERY_ORIGIN, Origins
from hub.redis.address import RedisAddress
from hub.setting_sources import Given, Setting, find, warnings_of
from hub.setting_values import (
    API_KEYS,
    AUTO,
    HOSTS,
    KEY_SET_URL,
    NAME,
    NETWORKS,
    ORIGINS,
    PATTERNS,
    RATE,
    REDIS,
    RULES,
    TEXT,
    TOKEN_KEYS,
    TOKEN_SECRETS,
    TRUTH,
    WORKERS,
    Kind,
    NotAllowedError,
    choice,
    integer,
    seconds,
)
from hub.setting_values import SEPARATOR as ONE_CHARACTER
from hub.values import MAX_SIZE, TOTAL_BYTES, Rule

_LISTENING: Final = "Listening"
_LIMITS: Final = "Limits"
_MESSAGES: Final = "Messages"
_SLOW: Final = "Slow and silent clients"
_HISTORY: Final = "History"
ACCESS: Final = "Access"
_SHUTDOWN: Final = "Shutdown"
_REDIS: Final = "Several servers"
_OPERATION: Final = "Logs and metrics"
_Value = TypeVar("_Value")


def _setting(
    default: _Value,
    kind: Kind[_Value],
    group: str,
    help: str,
    detail: str = "",
    *,
    secret: bool = False,
    switch: bool = False,
    needs: tuple[str, ...] = (),
) -> _Value:
    """Declare a setting; the arguments are those of `Setting`."""
    declared = {
        "default": default,
        "kind": kind,
        "group": group,
        "help": help,
        "detail": detail,
        "secret": secret,
        "switch": switch,
        "needs": needs,
    }
    return field(default_factory=lambda: default, repr=not secret, metadata=declared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server. Sizes are in bytes and times in seconds unless noted."""

    host: str = _setting("0.0.0.0", TEXT, _LISTENING, "address to listen on")
    port: int = _setting(
        8080,
        integer(0, 65_535),
        _LISTENING,
        "port to listen on; 0 picks a free one",
        "The log has it.",
    )
    workers: int = _setting(
        1,
        WORKERS,
        _LISTENING,
        "processes that share the port; auto: one for each core",
        "`auto` counts the cores of the container. More than one needs `REDIS_ADDR` "
        "([Workers](scaling.md#workers)).",
    )
    trusted_proxies: Networks = _setting(
        (),
        NETWORKS,
        _LISTENING,
        "proxies in front, whose X-Forwarded-For counts",
        "Addresses and networks, separated by commas.",
    )
    allowed_origins: Origins = _setting(
        EVERY_ORIGIN,
        ORIGINS,
        _LISTENING,
        "origins of pages that may send requests; *: every one",
        "Separated by commas: `https://app.example.com`, `https://*.example.com` for its "
        "sub-domains, `same` for the server's own, which the console needs ([Origins and "
        "hosts](protocol.md#origins-and-hosts)).",
    )
    allowed_hosts: frozenset[str] = _setting(
        frozenset(),
        HOSTS,
        _LISTENING,
        "host names that requests may be sent to; empty: any",
        "Separated by commas.",
    )
    header_timeout: float = _setting(
        15.0,
        seconds(),
        _LISTENING,
        "time for a client to send the headers of a request",
        "It begins with the connect, or the first byte of a request. After it the connection "
        "is closed.",
    )

    max_connections: int = _setting(
        0,
        integer(0, 10_000_000),
        _LIMITS,
        "WebSockets and streams; 0: as file descriptors allow",
        "More get 503. `0` is the number of file descriptors less 256, for each worker.",
    )
    max_connections_per_ip: int = _setting(
        0,
        RATE,
        _LIMITS,
        "WebSockets and streams of one address; 0: no limit",
        "For IPv6: of one /64 network. More get 429.",
    )
    connect_rate_per_ip: int = _setting(
        0,
        RATE,
        _LIMITS,
        "new WebSockets and streams of one address in a second; 0: no limit",
        "More get 429.",
    )
    request_rate: int = _setting(
        0,
        RATE,
        _LIMITS,
        "REST requests of one caller in a second; 0: no limit",
        "A caller is an API key, a subject, or else an address. More get 429.",
    )
    max_subscriptions: int = _setting(
        1_000, integer(1, 10_000_000), _LIMITS, "subscriptions of one client"
    )
    max_topics: int = _setting(250_000, integer(1, 10_000_000), _LIMITS, "topics of this server")
    message_rate: int = _setting(
        0,
        RATE,
        _LIMITS,
        "messages of one WebSocket in a second; 0: no limit",
        "A burst may have twice as many. More are refused with `RATE_LIMITED`, and after 10 s the "
        "connection is closed with 1013.",
    )
    byte_rate: int = _setting(
        0,
        integer(0, 1_000_000_000),
        _LIMITS,
        "bytes of one WebSocket in a second; 0: no limit",
        "A burst may have twice as many. Beyond it the server reads more slowly.",
    )

    require_client_id: bool = _setting(
        True, TRUTH, _MESSAGES, "whether subscribe and unsubscribe need a client_id"
    )
    max_message_bytes: int = _setting(
        65_536, integer(128, 16_777_216), _MESSAGES, "largest WebSocket message and REST body"
    )
    message_timeout: float = _setting(
        30.0,
        seconds(),
        _MESSAGES,
        "time from a WebSocket message's first byte to its last",
        "After it the connection is closed with 3008.",
    )
    max_topic_bytes: int = _setting(
        255, integer(1, 65_536), _MESSAGES, "longest name of a topic, in UTF-8"
    )

    max_queue_size: int = _setting(
        256, integer(1, 1_000_000), _SLOW, "messages queued for one slow client"
    )
    max_queue_bytes: int = _setting(
        1_048_576,
        integer(1_024, 1_073_741_824),
        _SLOW,
        "bytes queued for one slow client",
        "Those that its socket has yet to accept count, too.",
    )
    backpressure: str = _setting(
        "disconnect",
        choice("disconnect", "drop_oldest"),
        _SLOW,
        "action when a client exceeds these bounds",
        "`drop_oldest` drops the client's oldest events, and tells it how many ([Slow "
        "clients](protocol.md#slow-clients)).",
    )
    ping_interval: float = _setting(
        54.0, seconds(), _SLOW, "silence after which a client is pinged"
    )
    idle_timeout: float = _setting(
        60.0,
        seconds(),
        _SLOW,
        "silence after which a client is cut",
        "It must be more than `PING_INTERVAL`.",
    )
    write_timeout: float = _setting(
        10.0,
        seconds(),
        _SLOW,
        "time without an acknowledged byte after which a client is cut",
        "It is also the longest wait for a closing client.",
    )

    history_size: int = _setting(
        0,
        integer(0, MAX_SIZE),
        _HISTORY,
        "events that each topic remembers",
        "Clients that reconnect get the events that they missed "
        "([History](protocol.md#history)). `0`: none.",
    )
    history_ttl: float = _setting(
        300.0, seconds(), _HISTORY, "time for which a topic remembers an event"
    )
    history_bytes: int = _setting(
        1_048_576, integer(1_024, 1_073_741_824), _HISTORY, "bytes that each topic remembers"
    )
    history_rules: Mapping[str, Rule] = _setting(
        {},
        RULES,
        _HISTORY,
        "size and time for topics whose name begins with a prefix",
        "The longest matching prefix applies: `chat/=1000:3600,metrics/=0`.",
        needs=("history_ttl", "history_bytes"),
    )
    history_total_bytes: int = _setting(
        TOTAL_BYTES,
        integer(1_024, 68_719_476_736),
        _HISTORY,
        "bytes that all topics remember",
        "Beyond it, the oldest events of the least recently used topic are forgotten.",
    )
    recovery_limit: int = _setting(
        300,
        integer(1, MAX_SIZE),
        _HISTORY,
        "events replayed to one subscriber",
        "A client that has missed more gets none of them, and is told so.",
    )

    api_keys: tuple[ApiKey, ...] = _setting(
        (),
        API_KEYS,
        ACCESS,
        "keys of back ends, name:secret, separated by commas",
        "They may do everything. Each secret has at least 16 characters.",
        secret=True,
        switch=True,
    )
    jwt_secret: tuple[Key, ...] = _setting(
        (),
        TOKEN_SECRETS,
        ACCESS,
        "secrets for tokens by HS256",
        "Separated by commas, each of at least 32 bytes.",
        secret=True,
        switch=True,
    )
    # Secret because somebody may set a private one.
    jwt_public_key: tuple[Key, ...] = _setting(
        (),
        TOKEN_KEYS,
        ACCESS,
        "public keys for tokens, in PEM",
        "For RS256, ES256 or EdDSA.",
        secret=True,
        switch=True,
    )
    # Secret because a URL may have a password in its query.
    jwt_jwks_url: str = _setting(
        "",
        KEY_SET_URL,
        ACCESS,
        "address of the issuer's key set",
        "It is `https://`, or `http://` on loopback, and needs `JWT_AUDIENCE` and `JWT_ISSUER`.",
        secret=True,
        switch=True,
    )
    jwt_audience: str = _setting("", TEXT, ACCESS, "audience that tokens must name (aud)")
    jwt_issuer: str = _setting("", TEXT, ACCESS, "issuer that tokens must have (iss)")
    jwt_require_exp: bool = _setting(
        True,
        TRUTH,
        ACCESS,
        "whether a token must end (exp)",
        "With `false`, tokens without `exp` are accepted, and never end.",
    )
    topic_separator: str = _setting(
        SEPARATOR, ONE_CHARACTER, ACCESS, "character between the levels of a topic, for patterns"
    )
    anonymous_subscribe: Patterns = _setting(
        NOTHING,
        PATTERNS,
        ACCESS,
        "topics that clients without a token may subscribe to",
        "[Patterns](protocol.md#patterns), separated by commas; `*`: all.",
        needs=("topic_separator",),
    )
    anonymous_publish: Patterns = _setting(
        NOTHING,
        PATTERNS,
        ACCESS,
        "topics that clients without a token may publish to",
        "[Patterns](protocol.md#patterns), separated by commas; `*`: all.",
        needs=("topic_separator",),
    )
    auth_timeout: float = _setting(
        10.0, seconds(), ACCESS, "time for a client without any right to send a token"
    )

    drain_delay: float = _setting(
        0.0,
        seconds(least=0.0),
        _SHUTDOWN,
        "time from a signal to the drain; only /ready changes",
        "It is for load balancers that check `/ready`.",
    )
    shutdown_timeout: float = _setting(
        30.0,
        seconds(),
        _SHUTDOWN,
        "time from a signal until remaining clients are cut",
        "It includes `DRAIN_DELAY`.",
    )

    redis_addr: RedisAddress | None = _setting(
        None,
        REDIS,
        _REDIS,
        "Redis that connects several servers, host:port",
        "Also `redis://`, `rediss://`, `unix://` or `redis+sentinel://host,host/service` "
        "([Several servers](scaling.md)).",
        secret=True,
    )
    redis_prefix: str = _setting("ws", NAME, _REDIS, "prefix of every key and channel in Redis")
    redis_fail_mode: str = _setting(
        "local",
        choice("local", "strict"),
        _REDIS,
        "behaviour while Redis is lost",
        "`local`: each server serves its own clients, and marks its answers. `strict`: "
        "publish and subscribe are refused.",
    )
    ready_redis_grace: float = _setting(
        10.0,
        seconds(),
        _REDIS,
        "time without Redis after which /ready fails, if strict or with workers",
    )

    log_level: str = _setting(
        "info",
        choice("debug", "info", "warning", "error", "critical"),
        _OPERATION,
        "least important lines that are logged",
    )
    log_format: str = _setting(
        "text",
        choice("text", "json"),
        _OPERATION,
        "form of a log line",
        "`json`: one object for each line ([Logs](logs.md)).",
    )
    access_log: bool = _setting(
        False,
        TRUTH,
        _OPERATION,
        "whether HTTP requests are logged",
        "[The access log](logs.md#the-access-log) is one line for each.",
    )
    metrics_port: int = _setting(
        0,
        integer(0, 65_535),
        _OPERATION,
        "port of its own for /metrics; 0: the main port",
        "With it, the main port answers 404. A value such as `tcp://10.0.0.1:9090`, which "
        "Kubernetes sets for a service named `metrics`, is ignored with a warning.",
    )
    metrics_host: str = _setting(
        "127.0.0.1", TEXT, _OPERATION, "address to listen on for METRICS_PORT"
    )

    @property
    def access_on(self) -> bool:
        """Whether rights are checked."""
        return bool(self.api_keys or self.jwt_secret or self.jwt_public_key or self.jwt_jwks_url)

    @property
    def has_workers(self) -> bool:
        """Whether this server is a parent with workers, and not one process."""
        return self.workers == AUTO or self.workers > 1

    def of_worker(self, number: int, workers: int) -> "Settings":
        """Return the settings of one worker, with its part of MAX_CONNECTIONS.

        Args:
            number: of the worker, from 1 on.
            workers: the number of all workers.
        """
        each, rest = divmod(self.max_connections, workers)
        return replace(self, max_connections=each + (number <= rest))

    def anonymous_rights(self) -> Rights:
        """Return the rights without a token or key, if access is on."""
        return Rights(self.anonymous_subscribe, self.anonymous_publish)

    def token_rules(self) -> TokenRules:
        """Return the rules for tokens."""
        return TokenRules(
            audience=self.jwt_audience,
            issuer=self.jwt_issuer,
            require_exp=self.jwt_require_exp,
            separator=self.topic_separator,
            anonymous=self.anonymous_rights(),
        )

    def rules(self) -> dict[str, Rule]:
        """Return the rules of history by the prefix of topics; empty if no topic has a history."""
        every = Rule(self.history_size, self.history_ttl, self.history_bytes)
        rules = {"": every, **self.history_rules}
        return rules if any(rule.size for rule in rules.values()) else {}


SETTINGS: Final = tuple(Setting(name=it.name.upper(), **it.metadata) for it in fields(Settings))
# Settings whose values are never printed, and which may be given as a file.
SECRETS: Final = frozenset(setting.name for setting in SETTINGS if setting.secret)
# Settings that turn access on. They must not be empty: an unset variable of a shell or of compose
# would open the server.
SWITCHES: Final = tuple(setting.name for setting in SETTINGS if setting.switch)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of reading the environment and the options."""

    settings: Settings  # with the default for each setting that is wrong
    given: Mapping[str, Given]  # the settings that are set, by name; never print texts of secrets
    mistakes: Mapping[str, SettingError]  # by name
    warnings: tuple[str, ...]  # lines that may be printed


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`; a missing or empty key has its default.

    Raises:
        SettingError: a value is not allowed.
    """
    inspection = inspect(environ, {})
    for mistake in inspection.mistakes.values():
        raise mistake
    return inspection.settings


def inspect(environ: Mapping[str, str], options: Mapping[str, str]) -> Inspection:
    """Read all settings, and find all mistakes.

    Args:
        environ: the environment.
        options: the texts of options, by the name of their environment variable; they win.
    """
    values: dict[str, Any] = {}
    given: dict[str, Given] = {}
    mistakes: dict[str, SettingError] = {}
    for setting in SETTINGS:
        values[setting.field] = setting.default
        try:
            found = find(setting, environ, options)
            if found is not None:
                given[setting.name] = found
                needed = [values[name] for name in setting.needs]
                values[setting.field] = _parse(setting, found, needed)
        except SettingError as error:
            mistakes[setting.name] = error
    settings = Settings(**values)
    conflicts = {
        conflict.name: _refuse(conflict, given)
        for conflict in _conflicts(settings, given)
        if mistakes.keys().isdisjoint((conflict.name, *conflict.others))
    }
    return Inspection(settings, given, mistakes | conflicts, tuple(warnings_of(SETTINGS, environ)))


def _parse(setting: Setting, given: Given, needed: list[Any]) -> Any:
    try:
        return setting.kind.parse(given.text, *needed)
    except ValueError as error:
        part = error.part if isinstance(error, NotAllowedError) else None
        value = given.text if part is None else part
        raise setting.refuse(given.label, value, str(error)) from None


class _Conflict(NamedTuple):
    """A setting whose value does not fit those of other settings."""

    name: str
    others: tuple[str, ...]  # the names of the other settings
    allowed: str  # says which values are allowed
    part: str | None = None  # of the value that is wrong; None: all of it


def _conflicts(settings: Settings, given: Container[str]) -> Iterator[_Conflict]:
    if settings.idle_timeout <= settings.ping_interval:
        yield _Conflict(
            "IDLE_TIMEOUT",
            ("PING_INTERVAL",),
            f"it must be more than PING_INTERVAL ({settings.ping_interval:g} s),"
            " or no client could answer a ping in time",
        )
    if settings.drain_delay >= settings.shutdown_timeout:
        yield _Conflict(
            "DRAIN_DELAY",
            ("SHUTDOWN_TIMEOUT",),
            f"it must be less than SHUTDOWN_TIMEOUT ({settings.shutdown_timeout:g} s),"
            " which includes it",
        )
    if settings.has_workers and settings.redis_addr is None:
        yield _Conflict(
            "WORKERS",
            ("REDIS_ADDR",),
            "it needs REDIS_ADDR, since workers share their topics through a Redis: host:port, or"
            " unix:///run/redis/redis.sock for one on this machine",
        )
    if settings.allowed_origins.same and not settings.allowed_hosts:
        yield _Conflict(
            "ALLOWED_ORIGINS",
            ("ALLOWED_HOSTS",),
            "it needs ALLOWED_HOSTS, the names that this server goes by",
            "same",
        )
    if not settings.access_on:
        for name in ("ANONYMOUS_SUBSCRIBE", "ANONYMOUS_PUBLISH", "JWT_AUDIENCE", "JWT_ISSUER"):
            if name in given:
                yield _Conflict(name, SWITCHES, f"it needs one of {', '.join(SWITCHES)}")
    if settings.jwt_jwks_url and not (settings.jwt_audience and settings.jwt_issuer):
        yield _Conflict(
            "JWT_JWKS_URL", ("JWT_AUDIENCE", "JWT_ISSUER"), "it needs JWT_AUDIENCE and JWT_ISSUER"
        )


def _refuse(conflict: _Conflict, given: Mapping[str, Given]) -> SettingError:
    (setting,) = (it for it in SETTINGS if it.name == conflict.name)
    found = given.get(setting.name)
    label, text = (found.label, found.text) if found else (setting.name, setting.default_text)
    return setting.refuse(label, text if conflict.part is None else conflict.part, conflict.allowed)


def signing_secret(inspection: Inspection) -> str | None:
    """Return the first secret of `JWT_SECRET`; None if it is not set.

    The settings must have no mistakes.
    """
    given = inspection.given.get("JWT_SECRET")
    return None if given is None else given.text.split(",")[0]


def describe_access(settings: Settings) -> str:
    """Return the access mode and the anonymous rights as text for the log."""
    if not settings.access_on:
        return "off, everybody may subscribe, publish and manage topics"
    ways = [key for key in SWITCHES if getattr(settings, key.lower())]
    rights = settings.anonymous_rights()
    return (
        f"on ({', '.join(ways)}), without a token: "
        f"subscribe {_shown(rights.subscribe)}, publish {_shown(rights.publish)}"
    )


def _shown(patterns: Patterns) -> str:
    return ", ".join(map(repr, patterns.texts())) or "nothing"
