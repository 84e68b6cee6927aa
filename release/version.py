"""The version, which several files must have as a literal.

python release/version.py          print it; fail if a file has another one
python release/version.py 0.3.0    write it into every file
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A pattern for each file. It must match once; the second of its three groups is the version.
PLACES = {
    "hub/version.py": r'(?m)^(VERSION: Final = ")(.*)(")$',
    "pyproject.toml": r'(?m)^(version = ")(.*)(")$',
    "Dockerfile": r'(?m)^( +org\.opencontainers\.image\.version=")(.*)(" \\)$',
    "api/asyncapi.yaml": r"(?m)^(info:\n(?: .*\n)*?  version: )(.*)()$",
    "api/openapi.yaml": r"(?m)^(info:\n(?: .*\n)*?  version: )(.*)()$",
    "clients/js/package.json": r'(?m)^(  "version": ")(.*)(",)$',
    "clients/python/pyproject.toml": r'(?m)^(version = ")(.*)(")$',
    "deploy/kubernetes/kustomization.yaml": r"(?m)^(    newTag: )(.*)()$",
}


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each file has.

    Raises:
        ValueError: the pattern of a file matches nowhere, or more than once.
    """
    found = {}
    for name, pattern in PLACES.items():
        matches = re.findall(pattern, (root / name).read_text())
        if len(matches) != 1:
            raise ValueError(f"{name} has {len(matches)} versions where {pattern} says")
        found[name] = matches[0][1]
    return found


def write(version: str, root: Path = ROOT) -> None:
    """Write a version into every file."""
    for name, pattern in PLACES.items():
        path = root / name
        path.write_text(re.sub(pattern, rf"\g<1>{version}\g<3>", path.read_text()))


def main() -> str | None:
    """Print or write the version; return a line about what is wrong, or None."""
    if len(sys.argv) == 2:
        if re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1]) is None:
            return f"{sys.argv[1]} is no version such as 0.3.0"
        write(sys.argv[1])
    found = versions()
    if len(set(found.values())) != 1:
        return "\n".join(f"{name} has {version}" for name, version in found.items())
    print(found["hub/version.py"])
    return None


if __name__ == "__main__":
    sys.exit(main())
