"""Valid and invalid values of `REDIS_ADDR`."""

import pytest

from hub.redis.address import RedisAddress, parse_redis_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis", RedisAddress((("redis", 6379),))),
        ("redis:7000", RedisAddress((("redis", 7000),))),
        ("[::1]:7000", RedisAddress((("::1", 7000),))),
        ("redis://h", RedisAddress((("h", 6379),))),
        ("redis://h:1/2", RedisAddress((("h", 1),), db=2)),
        ("redis://:p%40ss@h", RedisAddress((("h", 6379),), password="p@ss")),
        ("redis://u:p@[::1]/", RedisAddress((("::1", 6379),), username="u", password="p")),
        ("rediss://h", RedisAddress((("h", 6379),), tls=True)),
        ("rediss://h/1?ca=/a/b.pem", RedisAddress((("h", 6379),), db=1, tls=True, ca="/a/b.pem")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix://:p@/run/r.sock?db=3", RedisAddress(path="/run/r.sock", password="p", db=3)),
        ("redis+sentinel://a,b:7/main", RedisAddress((("a", 26379), ("b", 7)), service="main")),
        (
            "redis+sentinel://u:p@a/main/4",
            RedisAddress((("a", 26379),), service="main", username="u", password="p", db=4),
        ),
    ],
)
def test_valid_address_is_parsed(text: str, address: RedisAddress) -> None:
    assert parse_redis_address(text) == address
    assert "p@" not in str(address)


@pytest.mark.parametrize(
    "text",
    [
        "http://h",
        "redis://",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:x",
        "redis://a,b",
        "redis://h/one",
        "redis://h?timeout=3",
        "redis://h#0",
        "h:port",
        "a b",
        "unix://",
        "unix://host/path",
        "unix:///p?x=1",
        "redis+sentinel://a,b",
        "redis+sentinel:///main",
        "redis+sentinel://a,,b/main",
        "redis+sentinel://a/main?x=1",
        "redis://h?ca=/a",
        "redis://h?x",
        "redis://user@h",
        "redis://h/@",
        "unix:run/redis.sock",
    ],
)
def test_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(no |an? )"):
        parse_redis_address(text)
