"""The packages that a lock file pins."""

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.process import ROOT


def pins(lock: str) -> dict[str, Requirement]:
    """Return the `name==version; marker` lines of a lock file by canonical name."""
    lines = (ROOT / lock).read_text().splitlines()
    found = [Requirement(line.rstrip(" \\")) for line in lines if line[0] not in "# "]
    return {canonicalize_name(pin.name): pin for pin in found}


def version(pin: Requirement) -> str:
    """Return the version that a line of a lock pins."""
    return str(pin.specifier).removeprefix("==")
