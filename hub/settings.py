"""Reads and checks the settings in the environment."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from hub.access import (
    NOTHING,
    SEPARATOR,
    Patterns,
    Rights,
    compile_patterns,
)
from hub.addresses import Networks, parse_networks
from hub.auth.api_keys import ApiKey, parse_api_keys
from hub.auth.tokens import Key, TokenRules
from hub.errors import SettingError
from hub.origins import EVERY_ORIGIN, Origins, parse_hosts, parse_origins
from hub.redis.address import FORMS as REDIS_FORMS
from hub.redis.address import RedisAddress, parse_redis_address
from hub.values import MAX_SIZE, TOTAL_BYTES, Rule

# Settings whose values are never printed, and which may be given as a file. A public key is one of
# them because somebody may set a private one, a URL because it may hold a password.
SECRETS: Final = frozenset(
    {"API_KEYS", "JWT_JWKS_URL", "JWT_PUBLIC_KEY", "JWT_SECRET", "REDIS_ADDR"}
)
# Settings that turn access on. They must not be empty: an unset variable of a shell or of compose
# would open the server.
SWITCHES: Final = ("API_KEYS", "JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")
_MAX_FILE: Final = 1_048_576  # bytes of a file with a secret
_LOOPBACK: Final = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
MAX_SECONDS: Final = 86_400  # in any setting
_RULE: Final = re.compile(
    r"(?P<prefix>[^,=]+)=(?P<size>[0-9]{1,6})(:(?P<ttl>[0-9]{1,6}(\.[0-9]{1,3})?))?"
)
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_FAIL_MODES: Final = ("local", "strict")
_STRATEGIES: Final = ("disconnect", "drop_oldest")
_Value = TypeVar("_Value")


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
    trusted_proxies: Networks = ()  # whose X-Forwarded-For counts
    max_connections: int = 0  # WebSockets and streams; 0: as file descriptors allow
    max_connections_per_ip: int = 0  # the same of one address; 0: no limit
    connect_rate_per_ip: int = 0  # new ones of one address in a second; 0: no limit
    request_rate: int = 0  # HTTP requests of one caller in a second; 0: no limit
    max_subscriptions: int = 1_000  # of one connection
    max_topics: int = 250_000  # of a node
    message_rate: int = 0  # messages of one WebSocket in a second; 0: no limit
    byte_rate: int = 0  # bytes of one WebSocket in a second; 0: no limit
    max_message_bytes: int = 65_536  # of a WebSocket message after reassembly, and of a REST body
    header_timeout: float = 15.0  # from the connect, or a head's first byte, to the head's end
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
    write_timeout: float = 10.0  # without an acknowledged byte, or for a client to close
    drain_delay: float = 0.0  # from a signal to the drain, with /ready failing
    shutdown_timeout: float = 30.0  # from a signal until remaining clients are cut
    log_level: str = "info"
    api_keys: tuple[ApiKey, ...] = ()  # of back ends, which may do everything
    jwt_secret: tuple[Key, ...] = field(default=(), repr=False)  # for HS256
    jwt_public_key: tuple[Key, ...] = field(default=(), repr=False)  # for RS256, ES256 and EdDSA
    jwt_jwks_url: str = field(default="", repr=False)  # of the issuer's key set
    jwt_audience: str = ""  # that `aud` must name
    jwt_issuer: str = ""  # that `iss` must be
    jwt_require_exp: bool = True  # whether a token must end
    anonymous_subscribe: Patterns = NOTHING  # topics for callers without a token
    anonymous_publish: Patterns = NOTHING
    topic_separator: str = SEPARATOR  # between the levels of a topic's name, for patterns
    auth_timeout: float = 10.0  # for a client without any right to send a token

    @property
    def access_on(self) -> bool:
        """Whether rights are checked."""
        return bool(self.api_keys or self.jwt_secret or self.jwt_public_key or self.jwt_jwks_url)

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


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`; a missing or empty key has its default.

    Raises:
        SettingError: a value is not allowed.
    """
    env = _Environment(environ)
    default = Settings()
    ttl = env.seconds("HISTORY_TTL", default.history_ttl)
    max_bytes = env.integer("HISTORY_BYTES", default.history_bytes, 1_024, 1_073_741_824)
    separator = env.separator("TOPIC_SEPARATOR", default.topic_separator)
    settings = Settings(
        host=env.text("HOST", default.host),
        port=env.integer("PORT", default.port, 0, 65_535),
        redis_addr=env.redis("REDIS_ADDR"),
        redis_prefix=env.name("REDIS_PREFIX", default.redis_prefix),
        redis_fail_mode=env.choice("REDIS_FAIL_MODE", default.redis_fail_mode, _FAIL_MODES),
        ready_redis_grace=env.seconds("READY_REDIS_GRACE", default.ready_redis_grace),
        allowed_origins=env.origins("ALLOWED_ORIGINS", default.allowed_origins),
        allowed_hosts=env.hosts("ALLOWED_HOSTS"),
        trusted_proxies=env.networks("TRUSTED_PROXIES"),
        max_connections=env.integer("MAX_CONNECTIONS", default.max_connections, 0, 10_000_000),
        max_connections_per_ip=env.limit("MAX_CONNECTIONS_PER_IP"),
        connect_rate_per_ip=env.limit("CONNECT_RATE_PER_IP"),
        request_rate=env.limit("REQUEST_RATE"),
        max_subscriptions=env.integer(
            "MAX_SUBSCRIPTIONS", default.max_subscriptions, 1, 10_000_000
        ),
        max_topics=env.integer("MAX_TOPICS", default.max_topics, 1, 10_000_000),
        message_rate=env.limit("MESSAGE_RATE"),
        byte_rate=env.limit("BYTE_RATE", 1_000_000_000),
        max_message_bytes=env.integer(
            "MAX_MESSAGE_BYTES", default.max_message_bytes, 128, 16_777_216
        ),
        header_timeout=env.seconds("HEADER_TIMEOUT", default.header_timeout),
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
        api_keys=env.switch("API_KEYS", parse_api_keys, default.api_keys),
        jwt_secret=env.switch("JWT_SECRET", _token_secrets, default.jwt_secret),
        jwt_public_key=env.switch("JWT_PUBLIC_KEY", _token_keys, default.jwt_public_key),
        jwt_jwks_url=env.switch("JWT_JWKS_URL", _key_set_url, default.jwt_jwks_url),
        jwt_audience=env.text("JWT_AUDIENCE", ""),
        jwt_issuer=env.text("JWT_ISSUER", ""),
        jwt_require_exp=env.truth("JWT_REQUIRE_EXP", default.jwt_require_exp),
        anonymous_subscribe=env.patterns("ANONYMOUS_SUBSCRIBE", separator),
        anonymous_publish=env.patterns("ANONYMOUS_PUBLISH", separator),
        topic_separator=separator,
        auth_timeout=env.seconds("AUTH_TIMEOUT", default.auth_timeout),
    )
    _check_together(settings)
    _check_access(settings, env)
    return settings


def signing_secret(environ: Mapping[str, str]) -> str | None:
    """Return the first secret of `JWT_SECRET`, valid in settings that were read; None if absent."""
    text = _Environment(environ).secret("JWT_SECRET")
    return None if text is None else text.split(",")[0]


def describe_access(settings: Settings) -> str:
    """Return one line for the log: the access mode and anonymous rights."""
    if not settings.access_on:
        return "access: off, everybody may subscribe, publish and manage topics"
    ways = [key for key in SWITCHES if getattr(settings, key.lower())]
    rights = settings.anonymous_rights()
    return (
        f"access: on ({', '.join(ways)}), without a token: "
        f"subscribe {_shown(rights.subscribe)}, publish {_shown(rights.publish)}"
    )


def _shown(patterns: Patterns) -> str:
    return ", ".join(map(repr, patterns.texts())) or "nothing"


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


def _check_access(settings: Settings, env: "_Environment") -> None:
    if not settings.access_on:
        needing = ("ANONYMOUS_SUBSCRIBE", "ANONYMOUS_PUBLISH", "JWT_AUDIENCE", "JWT_ISSUER")
        for key in needing:
            if value := env.text(key, ""):
                raise _wrong(key, value, f"it needs one of {', '.join(SWITCHES)}")
    if settings.jwt_jwks_url and not (settings.jwt_audience and settings.jwt_issuer):
        raise _wrong("JWT_JWKS_URL", settings.jwt_jwks_url, "it needs JWT_AUDIENCE and JWT_ISSUER")


# Both load `cryptography`, which takes 8 MB: not for a server without tokens.
def _token_secrets(text: str) -> tuple[Key, ...]:
    from hub.auth.keys import parse_secrets

    return parse_secrets(text)


def _token_keys(text: str) -> tuple[Key, ...]:
    from hub.auth.keys import parse_public_keys

    return parse_public_keys(text)


def _key_set_url(text: str) -> str:
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname or "", url.port
    except ValueError:  # its text quotes the URL
        host, port = "", None
    local = bool(host) and url.scheme == "http" and _LOOPBACK.fullmatch(host)
    if (
        not host
        or port == 0
        or "@" in url.netloc
        or url.fragment
        or not (url.scheme == "https" or local)
    ):
        raise ValueError("an https:// URL without a password, or http:// on loopback, is allowed")
    return text.strip()


def _wrong(key: str, value: str, allowed: str) -> SettingError:
    # A secret may be in KEY_FILE by mistake, in place of the file's path.
    return SettingError(key, None if key.removesuffix("_FILE") in SECRETS else value, allowed)


class _Environment:
    """Reads typed values; raises SettingError for a value that is not allowed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, key: str, default: str) -> str:
        return self._environ.get(key, "").strip() or default

    def secret(self, key: str) -> str | None:
        """Return the value of a secret setting, or the content of its file; None if absent."""
        value = self._environ.get(key)
        file_key = f"{key}_FILE"
        path = self._environ.get(file_key)
        if path is None or not path.strip():
            return path if value is None else value
        if value or (value is not None and key in SWITCHES):
            raise _wrong(file_key, path, f"{key} is set too, only one of them is allowed")
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_FILE + 1)
            text = re.sub(r"\r?\n\Z", "", content.decode())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not a path or not UTF-8"
            raise _wrong(file_key, path, f"the file cannot be read: {why}") from None
        if not text.strip() or len(content) > _MAX_FILE:
            raise _wrong(file_key, path, f"the file is empty or larger than {_MAX_FILE} bytes")
        return text

    def switch(self, key: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
        """Return a setting that turns access on.

        `parse` raises ValueError; its text names the allowed values.
        """
        text = self.secret(key)
        if text is None:
            return default
        if not text.strip():
            raise _wrong(key, "", "it is set but empty, which would leave access off")
        try:
            return parse(text)
        except ValueError as error:
            raise _wrong(key, text, str(error)) from None

    def separator(self, key: str, default: str) -> str:
        text = self.text(key, default)
        if len(text) != 1 or text in "+#{}*,":
            raise _wrong(key, text, "one character, none of + # { } * and the comma, is allowed")
        return text

    def patterns(self, key: str, separator: str) -> Patterns:
        text = self.text(key, "")
        texts = [part.strip() for part in text.split(",")] if text else []
        if not all(texts):
            raise _wrong(key, text, "a comma-separated list of patterns is allowed")
        try:
            return compile_patterns(texts, separator)
        except ValueError as error:
            raise _wrong(key, text, str(error)) from None

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        text = self.text(key, str(default))
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise _wrong(key, text, f"a whole number from {low} to {high} is allowed")
        return int(text)

    def limit(self, key: str, high: int = 1_000_000) -> int:
        return self.integer(key, 0, 0, high)

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
        text = (self.secret(key) or "").strip()
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

    def networks(self, key: str) -> Networks:
        text = self.text(key, "")
        try:
            return parse_networks(text) if text else ()
        except ValueError as error:
            allowed = "a comma-separated list of addresses and networks such as 10.0.0.0/8"
            raise _wrong(key, str(error), f"{allowed} is allowed") from None
