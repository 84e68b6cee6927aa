"""Parse and check `REDIS_ADDR`. Pure: no names are resolved here."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26_379

FORMS: Final = (
    "host:port, redis://[[user]:password@]host[:port][/db], rediss:// (TLS, with ?ca=FILE for an"
    " own authority), unix:///path[?db=N] or redis+sentinel://host[:port],host[:port]/service[/db]"
)

_HOST: Final = re.compile(r"\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:/@,\[\]]+)")
_BARE: Final = re.compile(r"[^/:@\s]+(:[0-9]+)?|\[[^\]]+\](:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of a Redis server, or of the sentinels that know the master."""

    hosts: tuple[tuple[str, int], ...] = ()  # one server; with a service, the sentinels
    path: str = ""  # of a Unix socket; there are no hosts then
    service: str = ""  # the name under which the sentinels know the master
    username: str = field(default="", repr=False)  # a password, if the colon is missing
    password: str = field(default="", repr=False)
    db: int = 0
    tls: bool = False
    ca: str = ""  # a file of certificate authorities, instead of the system's

    def __str__(self) -> str:
        """Return the address without user and password, for logs."""
        hosts = ",".join(_joined(host, port) for host, port in self.hosts)
        if self.service:
            return f"redis+sentinel://{hosts}/{self.service}"
        return (
            f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{hosts}"
        )


def parse_redis_address(text: str) -> RedisAddress:
    """Parse the value of `REDIS_ADDR`.

    Raises:
        ValueError: the text has none of the FORMS.
    """
    url = urlsplit(f"redis://{text}" if _BARE.fullmatch(text) else text)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if url.fragment:
        raise ValueError("a fragment")
    user, at, _ = url.netloc.rpartition("@")
    if at and ":" not in user:
        raise ValueError("a user without a password")
    if "@" in url.path:
        raise ValueError("an @ after the host")
    if url.scheme == "unix":
        return _socket(url, options)
    if url.scheme == "redis+sentinel":
        service, _, db = url.path.removeprefix("/").partition("/")
        if not service or options:
            raise ValueError("no service")
        hosts = tuple(_host(part, SENTINEL_PORT) for part in _hosts(url).split(","))
        return RedisAddress(
            hosts, service=unquote(service), db=_db(db), username=_user(url), password=_word(url)
        )
    if url.scheme not in ("redis", "rediss"):
        raise ValueError("no such scheme")
    tls = url.scheme == "rediss"
    ca = options.pop("ca", "") if tls else ""
    if options:
        raise ValueError("an unknown option")
    return RedisAddress(
        (_host(_hosts(url), REDIS_PORT),),
        username=_user(url),
        password=_word(url),
        db=_db(url.path.removeprefix("/")),
        tls=tls,
        ca=ca,
    )


def _socket(url: SplitResult, options: dict[str, str]) -> RedisAddress:
    db = _db(options.pop("db", ""))
    if options or not url.path.startswith("/") or _hosts(url):
        raise ValueError("no path")
    return RedisAddress(path=unquote(url.path), db=db, username=_user(url), password=_word(url))


def _hosts(url: SplitResult) -> str:
    return url.netloc.rpartition("@")[2]


def _user(url: SplitResult) -> str:
    return unquote(url.netloc.rpartition("@")[0].partition(":")[0])


def _word(url: SplitResult) -> str:
    return unquote(url.netloc.rpartition("@")[0].partition(":")[2])


def _host(text: str, port: int) -> tuple[str, int]:
    found = _HOST.match(text)
    if found is None:
        raise ValueError("no host")
    rest = text[found.end() :]
    if rest:
        if not re.fullmatch(r":[0-9]{1,5}", rest) or not 0 < int(rest[1:]) < 65_536:
            raise ValueError("no port")
        port = int(rest[1:])
    if found["name"]:
        found["name"].encode("idna")  # as connecting does: no label may be empty or too long
    return found["six"] or found["name"], port


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,4}", text):
        raise ValueError("no database")
    return int(text or 0)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
