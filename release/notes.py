"""Print the section of CHANGELOG.md for the version, as the text of a release.

python release/notes.py https://HOST/OWNER/NAME/blob/v0.2.0/

Relative links get this address in front, since the text is shown elsewhere. Each paragraph is one
line, since GitHub shows each line break of a release.
"""

import re
import sys
from pathlib import Path

from version import ROOT, versions


def notes(changelog: str, version: str, address: str) -> str:
    """Return the text below the heading of a version.

    Raises:
        ValueError: there is no such heading.
    """
    section = re.search(rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n+(.*?)(?=^## |\Z)", changelog)
    if section is None:
        raise ValueError(f"CHANGELOG.md has no section for {version}")
    joined = re.sub(r"(?<=\S)\n(?!\n|#|- ) *", " ", section[1].rstrip())
    return re.sub(r"\]\((?!\w+:)", f"]({address}", joined)


def main() -> None:
    """Print the text."""
    changelog = Path(ROOT, "CHANGELOG.md").read_text()
    print(notes(changelog, versions()["hub/version.py"], sys.argv[1]))


if __name__ == "__main__":
    main()
