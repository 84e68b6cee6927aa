"""The Lua scripts that change what Redis keeps (hub/redis/keys.py), each in one atomic step.

`lua/NAME.lua` is a script; its header names the keys, arguments and reply. `lua/lib/` holds the
functions that scripts share. The files are read once, when this module is imported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.brokers.idempotency import LIMIT, REMEMBERED
from hub.redis.keys import Keys

LEASE: Final = 14  # seconds: with a beat each second, a dead node's leases are gone after 15 s

# The first lines of every script.
_HEAD: Final = """\
local P, LEASE = '{prefix}', {lease}
local REMEMBERED, LIMIT, HOUR = {remembered:.0f}, {limit}, 3600000
"""

# For each script the libraries that it uses, in the order in which they use each other.
_LIBRARIES: Final = {
    "publish": ("lifetime", "exists", "in_doubt", "once"),
    "create": ("lifetime", "exists", "in_doubt"),
    "delete": ("lifetime", "exists", "in_doubt"),
    "lease": ("hold",),
    "beat": ("lifetime", "exists", "sweep", "hold"),
    "append": ("lifetime", "exists", "in_doubt", "once", "restart"),
    "read": ("lifetime", "exists", "restart"),
    "extend": ("lifetime",),
    "ban": (),
}


def _source(name: str) -> str:
    """Return a script after the libraries that it uses."""
    folder = Path(__file__).with_name("lua")
    files = [*(folder / f"lib/{library}.lua" for library in _LIBRARIES[name])]
    return "".join(file.read_text() for file in [*files, folder / f"{name}.lua"])


_SOURCES: Final = {name: _source(name) for name in _LIBRARIES}


@dataclass(frozen=True, slots=True)
class Scripts:
    """The texts of the scripts, or the hashes under which Redis knows them."""

    publish: str
    create: str
    delete: str
    lease: str
    beat: str
    append: str
    read: str
    extend: str
    ban: str


def scripts_for(keys: Keys) -> Scripts:
    """Return the texts of the scripts for one deployment."""
    head = _HEAD.format(prefix=keys.prefix, lease=LEASE, remembered=REMEMBERED, limit=LIMIT)
    return Scripts(**{name: head + source for name, source in _SOURCES.items()})
