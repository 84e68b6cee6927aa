"""The value of a secret setting is never printed, even if it is malformed."""

from pathlib import Path

import pytest

from hub.errors import SettingError
from hub.redis.address import parse_redis_address
from hub.settings import SECRETS, SWITCHES, read_settings

MARK = "pw123secret"

MISSPELLED = [
    f"{MARK}@host:1",
    f":{MARK}@host:1",
    f"user:{MARK}@host",
    f"user:{MARK}@host:6379/0",
    f"redis:/{MARK}@host",
    f"redis:{MARK}@host",
    f"redis//:{MARK}@host",
    f"rediss//x:{MARK}@y",
    f"redis://{MARK}@host",
    f"redis://{MARK}@host:port",
    f"redis://host:{MARK}",
    f"redis://:{MARK}@host:port",
    f"redis://:{MARK}/x@host",
    f"redis://:{MARK}?x@host",
    f"redis://user:12?{MARK}@host",
    f"redis://user:12#{MARK}@host",
    f"redis://user:12/{MARK}@host",
    f"redis://:{MARK}#x@host",
    f"redis://:{MARK}@x@host:port",
    f"redis://:{MARK}@host/db",
    f"redis://:{MARK}@[host",
    f"redis://host?password={MARK}",
    f"redis://host#{MARK}",
    f"redis://host/0/{MARK}",
    f"REDIS://user:{MARK}@host:port",
    f"redis://:{MARK}@",
    f"redis://:{MARK}\n@host:x",
    f"http://:{MARK}@host",
    f"unix:{MARK}@/run/redis.sock",
    f"unix:///run/{MARK}@redis.sock",
    f"unix:///run/redis.sock?password={MARK}",
    f"unix://host:{MARK}",
    f"redis+sentinel://{MARK}@a,b/main",
    f"redis+sentinel://a,b/{MARK}@main",
    f"redis+sentinel://a:{MARK},b/main",
    f"redis+sentinel://:{MARK}@a,b",
    f"//:{MARK}@host",
    f"\uff20{MARK}@host",
    f"redis://:{MARK}\u2100@host",
]


# A marked value of each secret setting that is not valid.
WRONG = [
    *(("REDIS_ADDR", value) for value in MISSPELLED),
    ("JWT_SECRET", MARK),
    ("JWT_SECRET", f"-----BEGIN PUBLIC KEY-----{MARK}{'x' * 32}"),
    ("JWT_SECRET", f"{MARK}{'x' * 32}, {'y' * 32}"),
    ("JWT_SECRET", f'{{"kty":"oct"  "{MARK}{"x" * 32}", '),
    ("JWT_PUBLIC_KEY", MARK),
    ("JWT_PUBLIC_KEY", f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----"),
    ("JWT_PUBLIC_KEY", f"-----BEGIN PUBLIC KEY-----\n{MARK}\n-----END PUBLIC KEY-----"),
    ("JWT_JWKS_URL", f"https://user:{MARK}@id.example/keys"),
    ("JWT_JWKS_URL", f"https://id.example:{MARK}/keys"),
    ("JWT_JWKS_URL", f"https://[{MARK}/keys"),
    ("JWT_JWKS_URL", f"http://id.example/keys?{MARK}"),
    ("JWT_JWKS_URL", f"https://id.example/keys?{MARK}"),  # without JWT_ISSUER
    ("API_KEYS", MARK),
    ("API_KEYS", f"app:{MARK}"),
    ("API_KEYS", f":{MARK}{'x' * 16}"),
    ("API_KEYS", f"app:{MARK}{'x' * 16},app:{MARK}{'x' * 17}"),
]


def test_each_secret_setting_has_wrong_values() -> None:
    assert {key for key, _ in WRONG} == SECRETS


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_the_error_for_a_malformed_secret_does_not_contain_it(key: str, value: str) -> None:
    with pytest.raises(SettingError) as told:
        read_settings({key: value})
    text = str(told.value)
    assert text.startswith(f"{key}=*** is not valid: ")
    assert MARK not in repr(told.value)
    error = told.value
    hidden = error.__suppress_context__ or error.__context__ is None
    assert hidden, "a traceback would show the cause, which may quote it"


@pytest.mark.parametrize(
    "value",
    [
        f"redis://user:{MARK}@host",
        f"rediss://:{MARK}@host/1",
        f"unix://:{MARK}@/run/redis.sock",
        f"redis+sentinel://user:{MARK}@a,b/main",
    ],
)
def test_the_text_of_an_address_does_not_contain_the_password(value: str) -> None:
    address = parse_redis_address(value)
    assert address.password == MARK
    for shown in (str(address), repr(address), repr(read_settings({"REDIS_ADDR": value}))):
        assert MARK not in shown


ISSUER = {"JWT_AUDIENCE": "app", "JWT_ISSUER": "https://id.example"}  # for JWT_JWKS_URL


# --- Files ----------------------------------------------------------------------------------------

VALID = {
    "REDIS_ADDR": f"redis://:{MARK}@host",
    "JWT_SECRET": f"{MARK}{'x' * 32}",
    "API_KEYS": f"app:{MARK}{'x' * 16}",
    "JWT_JWKS_URL": f"https://id.example/keys?{MARK}",
    "JWT_PUBLIC_KEY": """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----""",
}


def test_each_secret_setting_has_a_valid_value() -> None:
    assert set(VALID) == SECRETS


@pytest.mark.parametrize("key", sorted(VALID))
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_be_in_a_file(key: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes((VALID[key] + end).encode())
    issuer = ISSUER if key == "JWT_JWKS_URL" else {}
    settings = read_settings({f"{key}_FILE": str(file), **issuer})
    assert getattr(settings, key.lower())
    assert MARK not in repr(settings)
    direct = read_settings({key: VALID[key], **issuer})
    assert repr(settings) == repr(direct)


def test_only_one_line_end_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(VALID["JWT_SECRET"] + "\n\n")
    with pytest.raises(SettingError, match="spaces or line ends"):
        read_settings({"JWT_SECRET_FILE": str(file)})


@pytest.mark.parametrize("key", sorted(VALID))
def test_a_secret_and_its_file_stop_the_start(key: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(VALID[key])
    with pytest.raises(SettingError, match=f"^{key}_FILE=.* {key} is set too") as told:
        read_settings({key: VALID[key], f"{key}_FILE": str(file)})
    assert MARK not in str(told.value)


@pytest.mark.parametrize("key", sorted(VALID))
@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b" \n", "empty"), (b"\xff", "UTF-8"), (b"x" * 1_048_577, "larger")],
)
def test_a_file_without_a_secret_stops_the_start(
    key: str, content: bytes, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SettingError, match=says) as told:
        read_settings({f"{key}_FILE": str(file)})
    assert "\n" not in str(told.value)
    assert told.value.__suppress_context__ or told.value.__context__ is None


@pytest.mark.parametrize("path", ["/does/not/exist", "/", "a\0b"])
def test_a_file_that_cannot_be_read_stops_the_start(path: str) -> None:
    with pytest.raises(SettingError, match=r"^JWT_SECRET_FILE=\*\*\* .* cannot be read: \w"):
        read_settings({"JWT_SECRET_FILE": path})


@pytest.mark.parametrize("key", sorted(VALID))
def test_a_secret_in_place_of_its_path_is_not_printed(key: str) -> None:
    for environ in ({f"{key}_FILE": MARK}, {f"{key}_FILE": MARK, key: VALID[key]}):
        with pytest.raises(SettingError, match=rf"^{key}_FILE=\*\*\* is not valid") as told:
            read_settings(environ)
        assert MARK not in repr(told.value)


@pytest.mark.parametrize("key", SWITCHES)
def test_an_empty_secret_beside_its_file_stops_the_start(key: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(VALID[key])
    with pytest.raises(SettingError, match=f"^{key}_FILE=.* {key} is set too"):
        read_settings({key: "", f"{key}_FILE": str(file), **ISSUER})
