"""API keys: the secrets of back ends, which may do everything."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from hub.access import ALL_RIGHTS, Principal

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET: Final = re.compile(r"[!-~]{16,1024}")  # what a header can hold
FORM: Final = (
    "a comma-separated list of NAME:SECRET is allowed, with different names and secrets of at least"
    " 16 characters of ASCII without spaces"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key. Its secret is not kept: a digest is enough to compare with."""

    name: str
    digest: bytes = field(repr=False)


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys of `API_KEYS`.

    Raises:
        ValueError: the exception's text is what is allowed.
    """
    keys = []
    for part in text.split(","):
        name, _, secret = part.strip().partition(":")
        if not _NAME.fullmatch(name) or not _SECRET.fullmatch(secret):
            raise ValueError(FORM)
        keys.append(ApiKey(name, _digest(secret)))
    if len({key.name for key in keys}) < len(keys) or len({key.digest for key in keys}) < len(keys):
        raise ValueError(FORM)
    return tuple(keys)


class ApiKeys:
    """Finds the caller of a secret.

    State: none of its own.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._callers = [(key.digest, Principal(ALL_RIGHTS, key_name=key.name)) for key in keys]

    def find(self, secret: str) -> Principal | None:
        """Return the principal of a secret; None if no key has it.

        The comparison takes constant time.
        """
        digest = _digest(secret)
        found = None
        for known, caller in self._callers:
            if compare_digest(known, digest):
                found = caller
        return found


def _digest(secret: str) -> bytes:
    # aiohttp decodes header bytes that are not UTF-8 to surrogates.
    return sha256(secret.encode(errors="surrogateescape")).digest()
