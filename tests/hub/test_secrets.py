"""The value of a secret setting is never printed, even if it is malformed."""

import pytest

from hub.errors import SettingError
from hub.redis.address import parse_redis_address
from hub.settings import SECRETS, read_settings

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


@pytest.mark.parametrize("value", MISSPELLED)
@pytest.mark.parametrize("key", sorted(SECRETS))
def test_the_error_for_a_malformed_secret_does_not_contain_it(key: str, value: str) -> None:
    with pytest.raises(SettingError) as told:
        read_settings({key: value})
    text = str(told.value)
    assert text.startswith(f"{key}=*** is not valid: ")
    assert MARK not in repr(told.value)
    assert told.value.__suppress_context__, "a traceback would show the cause, which may quote it"


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
