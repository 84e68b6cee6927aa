"""Settings are read from the environment, and errors name the allowed values."""

from ipaddress import IPv4Network, IPv6Network

import pytest

from hub.errors import SettingError
from hub.origins import Origin, Origins
from hub.redis.address import RedisAddress
from hub.settings import SECRETS, Settings, read_settings
from hub.values import Rule

GOOD = {
    "HOST": "::1",
    "PORT": "0",
    "REDIS_PREFIX": "chat_1",
    "REDIS_FAIL_MODE": "strict",
    "READY_REDIS_GRACE": "2",
    "TRUSTED_PROXIES": "10.0.0.0/8, ::1",
    "MAX_CONNECTIONS": "100",
    "MAX_CONNECTIONS_PER_IP": "10",
    "CONNECT_RATE_PER_IP": "20",
    "REQUEST_RATE": "30",
    "MAX_SUBSCRIPTIONS": "40",
    "MAX_TOPICS": "50",
    "MESSAGE_RATE": "60",
    "BYTE_RATE": "70000000",
    "ALLOWED_ORIGINS": "https://App.example.com/, http://localhost:3000,https://*.example.org,same",
    "ALLOWED_HOSTS": "App.example.com, [::1]",
    "MAX_MESSAGE_BYTES": "128",
    "HEADER_TIMEOUT": "7.5",
    "MAX_TOPIC_BYTES": "1",
    "REQUIRE_CLIENT_ID": "No",
    "MAX_QUEUE_SIZE": "1",
    "MAX_QUEUE_BYTES": "1024",
    "BACKPRESSURE": "DROP_OLDEST",
    "HISTORY_SIZE": "0",
    "HISTORY_TTL": "60",
    "HISTORY_BYTES": "2048",
    "HISTORY_RULES": "chat/=1000:3600.5, off/=0,news=5",
    "HISTORY_TOTAL_BYTES": "1024",
    "RECOVERY_LIMIT": "10",
    "PING_INTERVAL": "0.5",
    "IDLE_TIMEOUT": "1",
    "WRITE_TIMEOUT": "2.25",
    "DRAIN_DELAY": "4.5",
    "SHUTDOWN_TIMEOUT": "5",
    "LOG_LEVEL": "DEBUG",
    "LOG_FORMAT": "JSON",
    "ACCESS_LOG": "yes",
    "METRICS_PORT": "9090",
    "METRICS_HOST": "0.0.0.0",
}


def test_every_setting_can_be_set() -> None:
    assert read_settings(GOOD) == Settings(
        host="::1",
        port=0,
        redis_prefix="chat_1",
        redis_fail_mode="strict",
        ready_redis_grace=2.0,
        trusted_proxies=(IPv4Network("10.0.0.0/8"), IPv6Network("::1")),
        max_connections=100,
        max_connections_per_ip=10,
        connect_rate_per_ip=20,
        request_rate=30,
        max_subscriptions=40,
        max_topics=50,
        message_rate=60,
        byte_rate=70_000_000,
        allowed_origins=Origins(
            same=True,
            listed=frozenset(
                {Origin("https", "app.example.com", 443), Origin("http", "localhost", 3000)}
            ),
            parents=frozenset({Origin("https", "example.org", 443)}),
        ),
        allowed_hosts=frozenset({"app.example.com", "[::1]"}),
        max_message_bytes=128,
        header_timeout=7.5,
        max_topic_bytes=1,
        require_client_id=False,
        max_queue_size=1,
        max_queue_bytes=1_024,
        backpressure="drop_oldest",
        history_size=0,
        history_ttl=60.0,
        history_bytes=2_048,
        history_rules={
            "chat/": Rule(1_000, 3_600.5, 2_048),
            "off/": Rule(0, 60.0, 2_048),
            "news": Rule(5, 60.0, 2_048),
        },
        history_total_bytes=1_024,
        recovery_limit=10,
        ping_interval=0.5,
        idle_timeout=1.0,
        write_timeout=2.25,
        drain_delay=4.5,
        shutdown_timeout=5.0,
        log_level="debug",
        log_format="json",
        access_log=True,
        metrics_port=9_090,
        metrics_host="0.0.0.0",
    )


def test_a_missing_or_empty_setting_has_its_default() -> None:
    assert read_settings({}) == read_settings(dict.fromkeys(GOOD, " ")) == Settings()


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("PORT", "http", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("PORT", "-1", "a whole number from 0 to 65535"),
        ("PORT", "8_080", "a whole number from 0 to 65535"),
        ("PORT", "٨٠", "a whole number from 0 to 65535"),
        ("REDIS_ADDR", "http://redis", "host:port, redis://"),
        ("REDIS_ADDR", "a..b:6379", "host:port, redis://"),
        ("REDIS_ADDR", "a" * 64, "host:port, redis://"),
        ("REDIS_PREFIX", "a b", "up to 64 letters"),
        ("REDIS_PREFIX", "a:topic", "any of . _ - are"),
        ("REDIS_FAIL_MODE", "open", "one of local, strict"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "addresses and networks such as 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "proxy.example.com", "addresses and networks such as 10.0.0.0/8"),
        ("MAX_QUEUE_SIZE", "0", "a whole number from 1 to"),
        ("MAX_QUEUE_BYTES", "1e6", "a whole number from 1024 to"),
        ("MAX_MESSAGE_BYTES", "127", "a whole number from 128 to"),
        ("HISTORY_SIZE", "100001", "a whole number from 0 to 100000"),
        ("HISTORY_TTL", "0", "seconds, more than 0"),
        ("HISTORY_RULES", "chat/", "PREFIX=SIZE or PREFIX=SIZE:SECONDS"),
        ("HISTORY_RULES", "=5", "PREFIX=SIZE or PREFIX=SIZE:SECONDS"),
        ("HISTORY_RULES", "a=100001", "PREFIX=SIZE or PREFIX=SIZE:SECONDS"),
        ("HISTORY_RULES", "a=1:0", "PREFIX=SIZE or PREFIX=SIZE:SECONDS"),
        ("HISTORY_RULES", "a=1:86401", "PREFIX=SIZE or PREFIX=SIZE:SECONDS"),
        ("HISTORY_RULES", "a=5,a=7", "one rule for each prefix"),
        ("HISTORY_TOTAL_BYTES", "1023", "a whole number from 1024 to"),
        ("RECOVERY_LIMIT", "0", "a whole number from 1"),
        ("PING_INTERVAL", "0", "seconds, more than 0"),
        ("WRITE_TIMEOUT", "nan", "seconds, more than 0"),
        ("SHUTDOWN_TIMEOUT", "inf", "seconds, more than 0"),
        ("SHUTDOWN_TIMEOUT", "86401", "at most 86400"),
        ("IDLE_TIMEOUT", "54", "it must be more than PING_INTERVAL (54 s)"),
        ("BACKPRESSURE", "block", "disconnect, drop_oldest"),
        ("REQUIRE_CLIENT_ID", "maybe", "true or false"),
        ("LOG_FORMAT", "xml", "one of text, json"),
        ("ACCESS_LOG", "on", "true or false"),
        ("METRICS_PORT", "tcp", "a whole number from 0 to 65535"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error, critical"),
        ("ALLOWED_ORIGINS", "example.com", "https://app.example.com"),
        ("ALLOWED_ORIGINS", ",", "comma-separated"),
        ("ALLOWED_ORIGINS", "https://a.example/path", "comma-separated"),
        ("ALLOWED_ORIGINS", "https://a.*.example.com", "https://*.example.com"),
        ("ALLOWED_HOSTS", "a.example:80", "host names without ports"),
        ("ALLOWED_HOSTS", "*", "host names without ports"),
    ],
)
def test_the_error_for_an_invalid_value_names_key_value_and_allowed_values(
    key: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({key: value})
    text = str(caught.value)
    shown = "***" if key in SECRETS else repr(value.strip(","))
    assert text.startswith(f"{key}={shown} is not valid: ")
    assert allowed in text
    assert "\n" not in text


def test_the_address_of_redis_can_be_set() -> None:
    address = {"REDIS_ADDR": "redis:6379"}
    assert read_settings(address).redis_addr == RedisAddress((("redis", 6379),))


def test_the_origin_same_requires_allowed_hosts() -> None:
    with pytest.raises(SettingError, match=r"^ALLOWED_ORIGINS='same' .* needs ALLOWED_HOSTS"):
        read_settings({"ALLOWED_ORIGINS": "https://app.example.com,same"})
    assert read_settings({"ALLOWED_ORIGINS": "same", "ALLOWED_HOSTS": "a"}).allowed_origins.same
