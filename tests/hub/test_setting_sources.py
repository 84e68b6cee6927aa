"""Where the value of each setting comes from, all mistakes at once, and misspelled variables."""

from pathlib import Path

import pytest

from hub.setting_sources import Setting, Source
from hub.settings import SETTINGS, Settings, inspect, read_settings


def warnings(environ: dict[str, str]) -> list[str]:
    return list(inspect(environ, {}).warnings)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_default_is_also_a_text_that_is_read(setting: Setting) -> None:
    assert getattr(Settings(), setting.field) == setting.default
    if setting.default_text:
        assert read_settings({setting.name: setting.default_text}) == Settings()
    else:
        assert not setting.default


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    secret, address = tmp_path / "secret", tmp_path / "address"
    secret.write_text("0123456789abcdef0123456789abcdef")
    address.write_text("redis:6379\n")
    environ = {
        "PORT": "1",
        "HOST": "::1",
        "MAX_TOPICS": "-",
        "JWT_SECRET": "short",
        "REDIS_ADDR_FILE": str(address),
        "JWT_AUDIENCE": "",
    }
    options = {"PORT": "2", "MAX_TOPICS": "", "JWT_SECRET_FILE": str(secret)}
    found = inspect(environ, options)
    assert not found.mistakes
    assert (found.settings.port, found.settings.host) == (2, "::1")
    assert found.settings.jwt_secret
    sources = {name: given.source for name, given in found.given.items()}
    assert sources == {
        "PORT": Source.OPTION,
        "HOST": Source.ENVIRONMENT,
        "JWT_SECRET": Source.FILE,
        "REDIS_ADDR": Source.FILE,
    }
    assert found.given["JWT_SECRET"].label == "--jwt-secret-file"


def test_all_mistakes_are_found_at_once() -> None:
    environ = {
        "PORT": "http",
        "IDLE_TIMEOUT": "1",  # less than PING_INTERVAL
        "SHUTDOWN_TIMEOUT": "x",  # so nothing is said about DRAIN_DELAY
        "DRAIN_DELAY": "100",
        "API_KEYS": "app",
        "ANONYMOUS_SUBSCRIBE": "a",  # needs API_KEYS, which is said already
    }
    mistakes = list(map(str, inspect(environ, {"MAX_TOPICS": "0"}).mistakes.values()))
    assert [mistake.partition(" ")[0] for mistake in mistakes] == [
        "PORT='http'",
        "--max-topics='0'",
        "API_KEYS=***",
        "SHUTDOWN_TIMEOUT='x'",
        "IDLE_TIMEOUT='1'",
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"PING_INTERVAL": "70"}, "IDLE_TIMEOUT='60' is not valid: it must be more than PING_INT"),
        ({"IDLE_TIMEOUT": "54.0"}, "--idle-timeout='54.0' is not valid: it must be more than"),
        ({"JWT_SECRET_FILE": ""}, "--jwt-secret-file=*** is not valid: it is set but empty"),
        ({"METRICS_PORT": "tcp://10.0.0.1:9090"}, "--metrics-port='tcp://10.0.0.1:9090' is not"),
    ],
)
def test_a_mistake_names_what_the_user_wrote(options: dict[str, str], says: str) -> None:
    (mistake,) = inspect({}, options).mistakes.values()
    assert str(mistake).startswith(says)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("REDIS_ADRR", "REDIS_ADDR"),
        ("REDIS_ADDRESS", "REDIS_ADDR"),
        ("MAX_CONECTIONS", "MAX_CONNECTIONS"),
        ("API_KEY", "API_KEYS"),
        ("JWT_SECERT_FILE", "JWT_SECRET_FILE"),
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("max_queue_size", "MAX_QUEUE_SIZE"),
        ("METRIC_PORT", "METRICS_PORT"),
    ],
)
def test_a_misspelled_variable_is_a_warning_that_names_the_nearest(name: str, meant: str) -> None:
    assert warnings({name: "secret"}) == [
        f"{name} is not a setting, and is ignored: did you mean {meant}?"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PATH", "/bin"),
        ("HOSTNAME", "web-1"),
        ("HOSTS", "a"),
        ("HISTSIZE", "1000"),
        ("JWT_SECRET_KEY", "x"),
        ("REDIS_PORT", "6379"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("REDIS_HOST", "redis"),
        ("REDIS_URL", "redis://redis"),
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
        ("REDIS_SERVICE_PORT", "6379"),
        ("REDIS_SERVICE_PORT_REDIS", "6379"),
        ("REDIS_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("METRIC_PORT", "tcp://10.0.0.1:9090"),
        ("METRICS_SERVICE_HOST", "10.0.0.1"),
        ("METRICS_SERVICE_PORT", "9090"),
        ("METRICS_PORT_9090_TCP_PORT", "9090"),
    ],
)
def test_other_variables_are_no_warning(name: str, text: str) -> None:
    assert warnings({name: text}) == []


def test_a_port_that_kubernetes_sets_is_ignored_with_a_warning() -> None:
    environ = {"METRICS_PORT": "tcp://10.0.0.1:9090"}
    assert read_settings(environ).metrics_port == 0
    assert warnings(environ) == [
        "METRICS_PORT is ignored: Kubernetes set it for a service named 'metrics'"
    ]
