"""A parser for documents: fenced blocks, running text, tables and code spans."""

import re
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block: its tag, its lines, and the number of its first line in the document."""

    tag: str
    lines: list[str]
    place: int


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    found: list[Block] = []
    is_open = False
    for number, line in enumerate(text.splitlines(), 1):
        if fence := re.fullmatch(r"\s*```(.*)", line):
            if not is_open:
                found.append(Block(fence[1], [], number))
            is_open = not is_open
        elif is_open:
            found[-1].lines.append(line)
    assert not is_open, f"the block of line {found[-1].place} does not end"
    return found


def prose(text: str) -> str:
    """Return the document without its fenced blocks."""
    return re.sub(r"(?ms)^\s*```.*?^\s*```$", "", text)


def section(text: str, heading: str) -> str:
    """Return the text under a heading of level 2 or 3, up to the next of its level or above."""
    found = re.search(rf"(?m)^(##|###) {re.escape(heading)}$", text)
    assert found is not None, f"no section {heading}"
    body = text[found.end() :]
    return re.split(r"(?m)^## " if found[1] == "##" else r"(?m)^###? ", body, maxsplit=1)[0]


def table(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, without its header."""
    rows = re.findall(r"(?m)^\|(.*)\|$", section(text, heading))
    assert len(rows) > 2, f"no table under {heading}"
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def code(cell: str) -> list[str]:
    """Return the code spans in a cell or paragraph."""
    return re.findall(r"`([^`]+)`", cell)
