"""The settings of access: what turns it on, what stops the start, and what the log says."""

import pytest

from hub.access import Verb
from hub.errors import SettingError
from hub.settings import (
    SWITCHES,
    Settings,
    describe_access,
    inspect,
    read_settings,
    signing_secret,
)

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"API_KEYS": "app:0123456789abcdef"}
ISSUER = {"JWT_AUDIENCE": "app", "JWT_ISSUER": "https://id.example"}
PEM = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n"
)


def test_without_settings_access_is_off() -> None:
    assert not read_settings({}).access_on
    assert describe_access(Settings()) == "off, everybody may subscribe, publish and manage topics"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (KEY, "on (API_KEYS), without a token: subscribe nothing, publish nothing"),
        (
            {"JWT_SECRET": SECRET, "ANONYMOUS_SUBSCRIBE": "news/#, chat", **KEY},
            "on (API_KEYS, JWT_SECRET), without a token: subscribe 'chat', 'news/#',"
            " publish nothing",
        ),
        (
            {"JWT_PUBLIC_KEY": PEM, "ANONYMOUS_PUBLISH": "*"},
            "on (JWT_PUBLIC_KEY), without a token: subscribe nothing, publish '*'",
        ),
        (
            {"JWT_JWKS_URL": "https://id.example/keys", **ISSUER},
            "on (JWT_JWKS_URL), without a token: subscribe nothing, publish nothing",
        ),
    ],
)
def test_the_log_line_has_the_mode_and_anonymous_rights(environ: dict[str, str], says: str) -> None:
    settings = read_settings(environ)
    assert settings.access_on
    assert describe_access(settings) == says


def test_every_setting_of_tokens_can_be_set() -> None:
    settings = read_settings(
        {
            "JWT_SECRET": f"{SECRET},{SECRET[::-1]}",
            "JWT_REQUIRE_EXP": "no",
            "ANONYMOUS_SUBSCRIBE": "a.+",
            "ANONYMOUS_PUBLISH": "b.#",
            "TOPIC_SEPARATOR": ".",
            "AUTH_TIMEOUT": "2.5",
            **ISSUER,
        }
    )
    assert len(settings.jwt_secret) == 2
    assert settings.auth_timeout == 2.5
    rules = settings.token_rules()
    assert (rules.audience, rules.issuer) == ("app", "https://id.example")
    assert (rules.require_exp, rules.separator) == (False, ".")
    assert rules.anonymous == settings.anonymous_rights()
    assert rules.anonymous.find(Verb.SUBSCRIBE, "a.b") == "a.+"
    assert rules.anonymous.find(Verb.PUBLISH, "b.c.d") == "b.#"
    assert rules.anonymous.find(Verb.MANAGE, "a.b") is None


@pytest.mark.parametrize("key", [*SWITCHES, "API_KEYS_FILE", "JWT_SECRET_FILE"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_setting_that_would_turn_access_on_stops_the_start(key: str, value: str) -> None:
    with pytest.raises(SettingError, match=rf"^{key[:8]}.*=\*\*\* is not valid: ") as told:
        read_settings({key: value})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"ANONYMOUS_SUBSCRIBE": "*"},
        {"ANONYMOUS_PUBLISH": "chat"},
        {"JWT_AUDIENCE": "app"},
        {"JWT_ISSUER": "https://id.example"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_setting_that_needs_access_stops_the_start_without_it(environ: dict[str, str]) -> None:
    (key,) = environ
    with pytest.raises(SettingError, match=f"^{key}=.* it needs one of API_KEYS, JWT_SECRET"):
        read_settings(environ)
    assert read_settings({**environ, **KEY}).access_on


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("ANONYMOUS_SUBSCRIBE", "a/{sub}", "{sub} has no meaning without a token"),
        ("ANONYMOUS_SUBSCRIBE", "a#", "'#' must be the whole last level"),
        ("ANONYMOUS_PUBLISH", "a,,b", "a comma-separated list of patterns"),
        ("ANONYMOUS_PUBLISH", ",".join(["a"] * 101), "at most 100 patterns"),
        ("TOPIC_SEPARATOR", "//", "one character"),
        ("TOPIC_SEPARATOR", "+", "one character"),
        ("TOPIC_SEPARATOR", "#", "one character"),
        ("TOPIC_SEPARATOR", "{", "one character"),
        ("TOPIC_SEPARATOR", "}", "one character"),
        ("TOPIC_SEPARATOR", "*", "one character"),
        ("TOPIC_SEPARATOR", ",", "one character"),
        ("AUTH_TIMEOUT", "0", "seconds, more than 0"),
        ("JWT_REQUIRE_EXP", "maybe", "true or false"),
        ("JWT_JWKS_URL", "http://id.example/keys", "an https:// URL"),
        ("JWT_JWKS_URL", "http://localhost.example/keys", "an https:// URL"),
        ("JWT_JWKS_URL", "http://127.0.0.1.example/keys", "an https:// URL"),
        ("JWT_JWKS_URL", "https://user:password@id.example/keys", "without a password"),
        ("JWT_JWKS_URL", "https:///keys", "an https:// URL"),
        ("JWT_JWKS_URL", "file:///etc/passwd", "an https:// URL"),
        ("JWT_JWKS_URL", "id.example/keys", "an https:// URL"),
        ("JWT_JWKS_URL", "https://[x/keys", "is not valid: "),
        ("JWT_JWKS_URL", "https://id.example:port/keys", "an https:// URL"),
    ],
)
def test_a_bad_value_says_in_one_line_what_is_allowed(key: str, value: str, says: str) -> None:
    with pytest.raises(SettingError) as told:
        read_settings({**KEY, **ISSUER, key: value})
    assert str(told.value).startswith(f"{key}=")
    assert says in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3:8080", "[::1]:8080"])
def test_a_key_set_on_loopback_needs_no_tls(host: str) -> None:
    url = f"http://{host}/keys"
    assert read_settings({**ISSUER, "JWT_JWKS_URL": url}).jwt_jwks_url == url


@pytest.mark.parametrize("missing", ["JWT_AUDIENCE", "JWT_ISSUER"])
def test_a_key_set_needs_an_audience_and_an_issuer(missing: str) -> None:
    environ = {**ISSUER, "JWT_JWKS_URL": "https://id.example/keys", missing: ""}
    with pytest.raises(SettingError, match=r"^JWT_JWKS_URL=\S+ is .* needs JWT_AUDIENCE and"):
        read_settings(environ)


def test_the_first_secret_signs() -> None:
    assert signing_secret(inspect({"JWT_SECRET": f"{SECRET},{SECRET[::-1]}"}, {})) == SECRET
    assert signing_secret(inspect({}, {})) is None
