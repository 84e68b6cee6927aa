"""The address of a server and the credential of the caller: options, or variables for them."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli.output import CommandError, Exit
from hub.auth.api_keys import parse_api_keys

_MAX_FILE: Final = 65_536  # bytes of a file with a credential
_SECURE: Final = {"http": False, "ws": False, "https": True, "wss": True}  # by scheme
_PRINTABLE: Final = re.compile(r"[!-~]+")  # what a header can hold, without spaces
_HOST: Final = re.compile(r"[^\0- \x7f]+")
_PATH: Final = re.compile(r"[!-~]*")


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which server, and who the caller is."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--url", help="its address [BROADCAST_URL, or http://localhost with PORT or 8080]"
    )
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--token",
        help="a token or API key [BROADCAST_TOKEN, which is safer: other users can see the options"
        " of a process]",
    )
    who.add_argument("--token-file", metavar="FILE", help="a file with a token or API key")
    who.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="the file of API_KEYS_FILE, whose first key is used, or a file with one key alone",
    )


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and the credential for it."""

    secure: bool  # whether TLS is used
    host: str
    port: int | None
    path: str  # in front of the server's paths, without a slash at the end
    credential: str | None = field(repr=False)  # a token or API key

    def url(self, scheme: str) -> str:
        """Return the URL with the scheme `http` or `ws`, or its secure form."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{scheme}{'s' if self.secure else ''}://{host}{port}{self.path}"


def read_address(options: argparse.Namespace, environ: Mapping[str, str]) -> Address:
    """Return the address that the options or the environment give.

    Raises:
        CommandError: the URL or the credential cannot be used.
    """
    text = options.url
    # An empty option is refused: it is probably an unset variable of a script.
    if text is None:
        text = environ.get("BROADCAST_URL") or _local(environ)
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        secure, host, port = _SECURE[url.scheme], url.hostname or "", url.port
        host.encode("idna")  # as a look-up of the name does
    except (KeyError, ValueError):
        raise _wrong_url(text) from None
    if url.query or url.fragment or "@" in url.netloc:
        raise _wrong_url(text)
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(url.path):
        raise _wrong_url(text)
    path = url.path.rstrip("/").removesuffix("/ws")
    return Address(secure, host, port, path, _credential(options, environ))


def _wrong_url(text: str) -> CommandError:
    shown = text.rpartition("@")[2].partition("?")[0]  # the other parts may have a secret
    allowed = "http://HOST:PORT or https://HOST, without user and query, is allowed"
    return CommandError(Exit.USAGE, f"--url {shown!r} is not valid: {allowed}")


def _local(environ: Mapping[str, str]) -> str:
    port = environ.get("PORT", "")
    return f"http://localhost:{port if re.fullmatch('[1-9][0-9]{0,4}', port) else 8080}"


def _credential(options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    label, text = "BROADCAST_TOKEN", environ.get("BROADCAST_TOKEN") or None
    if options.token is not None:
        label, text = "--token", options.token
    elif options.token_file is not None:
        label = "--token-file"
        text = _content(label, options.token_file)
    elif options.api_key_file is not None:
        label = "--api-key-file"
        text = _first_key(_content(label, options.api_key_file))
    if text is not None and not _PRINTABLE.fullmatch(text):
        allowed = "printable ASCII without spaces is allowed"
        raise CommandError(Exit.USAGE, f"{label} is not valid: {allowed}")
    return text


def _first_key(text: str) -> str:
    try:
        parse_api_keys(text)
    except ValueError:
        return text  # a key alone, without a name
    return text.partition(",")[0].partition(":")[2]


def _content(label: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE + 1)
        text = content.decode().strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a path or not UTF-8"
        raise CommandError(Exit.USAGE, f"{label} cannot be read: {why}") from None
    if not text or len(content) > _MAX_FILE:
        raise CommandError(Exit.USAGE, f"{label}: the file is empty or too large")
    return text
