"""Every Markdown document: blocks have a test, commands exist, and links have a target."""

import os
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.markdown import blocks, code, prose
from tests.support.patience import PATIENCE
from tests.support.process import ROOT

DOCUMENTS = sorted(
    path.as_posix()
    for path in (it.relative_to(ROOT) for it in ROOT.glob("**/*.md"))
    if not any(part.startswith(".") or part in ("node_modules", "site") for part in path.parts)
)
# Documents with commands for a shell, and the tests that run or check them.
TESTS = {
    "README.md": "tests/test_readme.py",
    "clients/README.md": "tests/clients/test_readme.py",
    "clients/js/README.md": "tests/clients/test_npm.py",
    "clients/python/README.md": "tests/clients/test_python_package.py",
    "docs/command-line.md": "tests/cli/test_document.py",
    "docs/configuration.md": "tests/cli/test_serve.py",
    "docs/installation.md": "tests/deploy/test_document.py",
    "docs/operations.md": "tests/metrics/test_operations_doc.py",
    "docs/security.md": "tests/test_security_doc.py",
    "docs/tutorial.md": "tests/test_tutorial.py",
    "examples/react/README.md": "tests/clients/test_npm.py",
    "examples/README.md": "tests/examples/test_readme.py",
}
# Documents whose commands are make's.
PASTES_TARGETS = ("CONTRIBUTING.md", "bench/README.md", "docs/load-testing.md")
# Tags of code that the tests of a document run.
LANGUAGES = {
    "README.md": {"html", "python"},
    "clients/README.md": {"js", "python"},
    "clients/js/README.md": {"js"},
    "clients/python/README.md": {"python"},
    "docs/architecture.md": {"python"},  # tests/test_docs.py
    "docs/security.md": {"python", "js", "go"},
}
# Commands in running text, and the tests that run them.
RUN_ELSEWHERE = {
    ".venv/bin/python bench/frame_reader.py": "tests/test_docs.py",
    ".venv/bin/python bench/redis_reader.py": "tests/test_docs.py",
    ".venv/bin/python bench/redis_load.py": "tests/test_docs.py",
    ".venv/bin/python bench/history.py": "tests/test_docs.py",
    ".venv/bin/python bench/accepting.py": "tests/bench/test_accepting.py",
    ".venv/bin/python bench/logs.py": "tests/test_docs.py",
    ".venv/bin/python bench/fairness.py": "tests/bench/test_fairness.py",
    ".venv/bin/python bench/access.py": "tests/bench/test_access.py",
    "docker compose": "tests/deploy/test_compose.py",
    "docker compose up": "tests/deploy/test_compose.py",
    "docker run": "tests/test_readme.py",
    "python release/notes.py ADDRESS": "tests/test_release.py",
    "python release/version.py 0.3.0": "tests/test_release.py",
    "pip install ./clients/python": "tests/clients/test_python_package.py",
    "python -m pydoc broadcast_client": "tests/test_docs.py",
    "python server.py": "tests/test_tutorial.py",
    ".venv/bin/python server.py --check": "tests/cli/test_serve.py",
    "python server.py --version": "tests/cli/test_new_user.py",
    "python server.py token": "tests/cli/test_tokens.py",
    ".venv/bin/python server.py check-token": "tests/cli/test_tokens.py",
}


# --- Commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_tested(document: str) -> None:
    text = (ROOT / document).read_text()
    tags = {"sh", "json", "text"} | LANGUAGES.get(document, set())
    assert [block for block in blocks(text) if block.tag not in tags or not block.lines] == []
    assert re.search(r"(?m)^(\t| {4,})\S", prose(text)) is None, "an indented block has no tag"
    assert not [
        line
        for block in blocks(text)
        for line in block.lines
        if block.tag == "sh" and line.endswith("\\")
    ], "each line of a shell block is one command"
    if document not in TESTS and document not in PASTES_TARGETS:
        assert not [block for block in blocks(text) if block.tag == "sh"], "nobody runs them"


@pytest.mark.parametrize("path", sorted({*TESTS.values(), *RUN_ELSEWHERE.values()}))
def test_the_tests_exist(path: str) -> None:
    assert (ROOT / path).is_file()


def inline_commands(document: str) -> Iterator[str]:
    """Yield the commands in running text, without assignments before them."""
    for span in code(prose((ROOT / document).read_text())):
        command = re.sub(r"^([A-Z_]+=\S+ )+", "", span)
        if re.match(r"(make|curl|docker|git|pip|python3?|pytest|\S+/bin/\S+) \S", command):
            yield command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_running_text_are_checked_too(document: str) -> None:
    for command in inline_commands(document):
        assert command in RUN_ELSEWHERE or has_target(command), command


@pytest.mark.parametrize("document", PASTES_TARGETS)
def test_commands_of_other_documents_are_make_targets(document: str) -> None:
    text = (ROOT / document).read_text()
    commands = [line for block in blocks(text) if block.tag == "sh" for line in block.lines]
    assert commands
    for command in commands:
        assert has_target(command), command


def has_target(command: str) -> bool:
    """Return whether make has the target of a `make …` command, without running it."""
    name, *arguments = shlex.split(command)
    if name != "make":
        return False
    result = subprocess.run(
        ["make", "-n", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # not as a child of the make that may run these tests
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return result.returncode == 0


# --- Links and names ------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings: a repeated one gets a number."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(text))
    found: list[str] = []
    seen = Counter[str]()
    for heading in headings:
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return set(found)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_have_a_target(document: str) -> None:
    text = re.sub(r"`[^`]*`", "", prose((ROOT / document).read_text()))
    assert not re.findall(r"(?m)^\[[^\]]+\]: |\]\[", text), "a link has its target beside it"
    for target in re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"src=\"([^\"]+)\"", text):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        file = ROOT / document if path == "" else (ROOT / document).parent / path
        assert file.is_file(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{document} links to {target}"


def test_every_document_is_in_the_navigation_of_the_site() -> None:
    _, _, navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")
    listed = re.findall(r"(?m)^ +- [^:]+: (\S+\.md)$", navigation)
    decisions = {path for path in DOCUMENTS if re.match(r"docs/decisions/\d", path)}
    assert sorted(listed) == sorted(set(DOCUMENTS) - decisions)


def test_files_in_contributing_exist() -> None:
    spans = code(prose((ROOT / "CONTRIBUTING.md").read_text()))
    paths = [span for span in spans if re.fullmatch(r"[\w./-]*\w(/|/\w+|\.[a-z]+)", span)]
    made = {f"{line.strip('/')}/" for line in (ROOT / ".gitignore").read_text().splitlines()}
    committed = [path for path in paths if path not in made]
    assert committed
    assert [path for path in committed if not (ROOT / path).exists()] == []


def test_the_changelog_has_the_version_first() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"(?m)^## \[(.*?)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text())
    assert newest is not None
    assert newest[1] == version
    assert re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", newest[2])
