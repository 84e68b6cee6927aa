"""A hook of MkDocs: the site has the pages of the whole repository, at their paths.

MkDocs reads only its folder of documents. With this hook, README.md is the first page, and a page
may link to any file of the repository. So a link leads to the same file on the site, on a forge and
in an editor.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = (
    "*.md",
    "bench/*.md",
    "clients/*.md",
    "clients/*/*.md",
    "docs/**/*.md",
    "examples/*.md",
    "examples/*/*.md",
)
LINK = re.compile(r"(?:\]\(|src=\")(?!https?:)([^)#\"]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the documents by the pages of the repository, and add the files that they link to.

    MkDocs calls it once for each build.
    """
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    linked = {
        (page.parent / target).resolve()
        for page in pages
        for target in LINK.findall(page.read_text())
    }
    extras = {ROOT / name for name in (*config.extra_css, *config.extra["polyfills"])}
    for path in sorted(pages | extras | {path for path in linked if path.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Show decisions after the other pages that a search finds, since few readers look for one."""
    if "/decisions/" in page.file.src_uri:
        # The search weighs a word of a title 1,000 times as much as one of the text.
        page.meta["search"] = {"boost": 0.0001}
