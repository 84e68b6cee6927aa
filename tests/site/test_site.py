"""The site of the documentation: `make test-docs` builds it; these tests read and browse it."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PATIENCE, needs_chromium
from tests.support.process import ROOT

SITE = ROOT / "site"
PATTERNS = (
    "*.md",
    "bench/*.md",
    "clients/*.md",
    "clients/*/*.md",
    "docs/**/*.md",
    "examples/*.md",
    "examples/*/*.md",
)
DOCUMENTS = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
# The folders that a build reads.
SOURCES = ("api", "bench", "clients", "deploy", "docs", "examples")
FILES = (".env.example", "Makefile", "mkdocs.yml", "requirements-docs.lock")
# What a reader sees of a document, and whose number both renderers agree on.
SEEN = {"h2", "h3", "h4", "li", "ol", "table", "tr", "pre", "strong", "em", "img"}


def page_of(document: Path) -> Path:
    """Return the page of a document."""
    name = "index" if document.stem == "README" else document.stem
    return SITE / document.relative_to(ROOT).with_name(f"{name}.html")


class Reader(HTMLParser):
    """Counts the elements of an article, and collects what a page loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen = Counter[str]()
        self.loaded: list[str] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside |= tag == "article"
        if self._inside and tag in SEEN:
            self.seen[tag] += 1
        address = dict(attrs).get("href" if tag == "link" else "src")
        if tag != "a" and address and dict(attrs).get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(address)

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "article"


# --- The build ------------------------------------------------------------------------------------


def test_each_broken_link_is_a_warning_and_fails_the_build(tmp_path: Path) -> None:
    complaints = {
        "docs/nothing.md": "docs/nothing.md",
        "deploy/nothing.conf": "deploy/nothing.conf",
        "docs/tutorial.md#nothing": "#nothing",
        "/docs/tutorial.md": "absolute link",
    }
    others = shutil.ignore_patterns("node_modules", "__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=others)
    for file in (*ROOT.glob("*.md"), *(ROOT / name for name in FILES)):
        shutil.copy2(file, tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    with (tmp_path / "README.md").open("a") as readme:
        for link in complaints:
            readme.write(f"\n[A link]({link}).\n")
    result = subprocess.run(
        ["make", "docs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE / 1000,
        check=False,
    )
    assert result.returncode == 2, result.stderr  # of make
    warnings = [line for line in result.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == len(complaints)
    for complaint in complaints.values():
        (line,) = [line for line in warnings if complaint in line]
        assert "README.md" in line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_the_structure_that_a_forge_shows(document: Path) -> None:
    """The dialect of the site's Markdown differs: its lists need other indents, for example."""
    forge = MarkdownIt("commonmark").enable("table").render(document.read_text())
    page = Reader(page_of(document).read_text())
    assert page.seen == Reader(f"<article>{forge}</article>").seen


def test_nothing_is_loaded_from_another_address() -> None:
    loaded = {it for document in DOCUMENTS for it in Reader(page_of(document).read_text()).loaded}
    assert loaded
    assert [it for it in loaded if urlsplit(it).netloc] == []
    for style in SITE.glob("**/*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text()) == []


# --- In a browser ---------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the site below a path, as a forge does; return its address."""
    handler = functools.partial(Quiet, directory=str(SITE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{SITE.name}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page as wide as a phone; a request to others, or for what is missing, fails the test."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    missing: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda it: missing.append(it.url) if it.status >= 400 else None)
    yield page
    page.close()
    assert missing == []
    assert [url for url in asked if not url.startswith((f"{address}/", "data:"))] == []


@needs_chromium
def test_search_finds_a_setting(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{address}/")
    page.get_by_placeholder("Search").press_sequentially("HISTORY_TOTAL_BYTES")
    page.locator("[data-md-component=search-result] a").first.click()
    page.wait_for_url("**/docs/**")
    expect(page.locator("article")).to_contain_text("HISTORY_TOTAL_BYTES")


@needs_chromium
@pytest.mark.parametrize("words", ["token", "redis sentinel", "python client", "nginx"])
def test_search_shows_decisions_last(page: Page, address: str, words: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{address}/")
    search = page.get_by_placeholder("Search")
    search.fill(words)  # at once, so that there is one result
    search.press("End")  # the page looks at each key
    expect(page.locator(".md-search-result__meta")).to_contain_text("matching")
    found = page.locator(".md-search-result__item > a").filter(has=page.locator("h1"))
    expect(found.nth(4)).to_be_visible()
    first = [str(it.get_attribute("href")) for it in found.all()[:5]]
    assert [it for it in first if "/decisions/" in it] == []


@needs_chromium
def test_search_works_in_a_page_that_is_opened_as_a_file(browser: Browser) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((SITE / "docs/tutorial.html").as_uri())
    page.get_by_placeholder("Search").press_sequentially("HISTORY_TOTAL_BYTES")
    page.locator("[data-md-component=search-result] a").first.click()
    expect(page.locator("article")).to_contain_text("HISTORY_TOTAL_BYTES")
    page.close()
    assert [url for url in asked if not url.startswith((SITE.as_uri(), "data:"))] == []


@needs_chromium
def test_a_link_to_a_file_of_the_repository_gets_the_file(page: Page, address: str) -> None:
    page.goto(f"{address}/docs/scaling.html")
    link = page.locator("article").get_by_role("link", name="nginx", exact=True)
    answer = page.request.get(str(link.evaluate("it => it.href")))
    assert answer.text() == (ROOT / "deploy/nginx/nginx.conf").read_text()


@needs_chromium
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_does_not_scroll_sideways_on_a_phone(
    page: Page, address: str, document: Path
) -> None:
    page.goto(f"{address}/{page_of(document).relative_to(SITE).as_posix()}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
