"""Draws a report of the load test as a picture, with Chromium."""

import argparse
from pathlib import Path
from typing import Final

from tests.support.browser import chromium

ROOT: Final = Path(__file__).parents[1]
WIDTH: Final = 1_100  # pixels
_ANIMATION: Final = 2_000  # milliseconds in which the charts are drawn


def draw(report: Path, picture: Path) -> None:
    """Draw a report from its top to the end of its charts."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(report.absolute().as_uri())
        page.wait_for_timeout(_ANIMATION)
        end = page.get_by_text("Final ratio").bounding_box()
        assert end is not None
        page.set_viewport_size({"width": WIDTH, "height": int(end["y"])})
        page.screenshot(path=picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    newest = max((ROOT / "loadtest/reports").glob("*.html"), default=None)
    parser.add_argument("report", type=Path, nargs="?", default=newest, help="[the newest one]")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/loadtest.png")
    options = parser.parse_args()
    if options.report is None:
        parser.error("there is no report: run make loadtest first")
    draw(options.report, options.picture)
