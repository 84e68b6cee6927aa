"""examples/dashboard: a program feeds pages, which are complete at once."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.backstage import Backstage
from tests.support.browser import needs_chromium
from tests.support.eventually import wait_until
from tests.support.examples import call, commands, copied, opened, started
from tests.support.process import server_process
from tests.support.redis import free_port
from tests.support.server import Running

FIGURES = ("visitors", "orders", "latency")


@needs_chromium
def test_who_opens_the_page_gets_the_last_values_at_once_and_then_each_new_one(
    browser: Browser, root: Path, here: Running
) -> None:
    (command,) = commands("Live dashboard")
    address = (root / "examples/dashboard/index.html").as_uri()
    with opened(browser, address) as early:
        lines = early.locator("polyline")
        with started(f"{command} 0.02", root):
            expect(early.get_by_role("status")).to_contain_text("live")
            # The figures of a minute, and no more than a minute is drawn.
            early.wait_for_function("document.querySelector('polyline').points.length === 60")
            first = [lines.nth(place).get_attribute("points") for place in range(3)]
            early.wait_for_function(
                "given => document.querySelector('polyline').getAttribute('points') !== given",
                arg=first[0],
            )
        # The program has ended, so what another page shows is what the topic remembers.
        history = early.request.get(f"{here.url}/topics/shop/history?limit=1000").json()["events"]
        newest = history[-1]["message"]["payload"]
        with opened(browser, address) as late:
            late.wait_for_function("document.querySelector('polyline').points.length === 60")
            for name in FIGURES:
                expect(late.locator(f"#{name} p")).to_have_text(f"{newest[name]:,}")
            for page in (early, late):
                expect(page.get_by_role("status")).to_contain_text("live")
            drawn = [
                late.locator("polyline").nth(place).get_attribute("points") for place in range(3)
            ]
            assert drawn == [lines.nth(place).get_attribute("points") for place in range(3)]


def test_the_program_goes_on_after_a_restart_of_the_server(
    backstage: Backstage, tmp_path: Path
) -> None:
    port = free_port()
    history = f"http://127.0.0.1:{port}/topics/shop/history"
    settings = {"PORT": str(port), "HISTORY_SIZE": "1000"}
    (command,) = commands("Live dashboard")
    server = backstage.enter(server_process(**settings))
    with started(f"{command} 0.02", copied(tmp_path, port)) as feed:
        wait_until(lambda: call(history)[0] == 200)
        server.process.kill()
        backstage.run(server.exit_code())
        backstage.enter(server_process(**settings))
        wait_until(lambda: call(history)[1].get("offset", 0) > 0)
        assert feed.poll() is None
