"""What a page in a real browser sees through each balancer of deploy/."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from hub.origins import Origins, parse_hosts
from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.balancers import Balancer, Start, nginx
from tests.support.browser import PATIENCE, needs_chromium
from tests.support.console import payloads, publish, state, topic_line
from tests.support.process import ServerProcess, server_process
from tests.support.redis import free_port
from tests.support.server import Running, running

pytestmark = needs_chromium

# Opens a WebSocket and a stream of topic t, and collects the acks and the payloads of each.
OPEN = """() => {
    window.heard = { socket: [], stream: [] };
    const take = (list) => ({ data }) => {
        const { type, message } = JSON.parse(data);
        if (type === "ack" || type === "event") list.push(type === "ack" ? "ack" : message.payload);
    };
    const socket = new WebSocket(`wss://${location.host}/ws?client_id=page`);
    socket.onopen = () => socket.send('{"type":"subscribe","topic":"t"}');
    socket.onmessage = take(window.heard.socket);
    window.source = new EventSource("/events?topic=t");
    window.source.onmessage = take(window.heard.stream);
}"""
PUBLISH = """(payload) => fetch("/publish", {
    method: "POST", body: JSON.stringify({ topic: "t", payload })
}).then(({ status }) => status)"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(ignore_https_errors=True)
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def test_an_event_source_outlives_a_time_without_servers(
    start: Start, backstage: Backstage, page: Page, tmp_path: Path
) -> None:
    port = free_port()
    server: ServerProcess = backstage.enter(server_process(PORT=str(port)))
    balancer: Balancer = backstage.enter(start(tmp_path, [port]))
    page.goto(balancer.url)
    page.evaluate(OPEN)
    page.wait_for_function("() => heard.socket.length && heard.stream.length")
    assert page.evaluate(PUBLISH, 1) == 200
    page.wait_for_function("() => heard.socket.includes(1) && heard.stream.includes(1)")
    server.terminate()
    backstage.run(server.exit_code())
    with page.expect_response(lambda it: "/events" in it.url) as answer:
        pass
    assert answer.value.status == 200  # else it would not come back
    backstage.enter(server_process(PORT=str(port)))
    page.wait_for_function("() => heard.stream.filter((it) => it === 'ack').length === 2")
    assert page.evaluate(PUBLISH, 2) == 200
    page.wait_for_function("() => heard.stream.includes(2)")


def test_the_console_works_under_a_path_of_another_site(
    backstage: Backstage, page: Page, tmp_path: Path
) -> None:
    settings = Settings(allowed_origins=Origins(same=True), allowed_hosts=parse_hosts("localhost"))
    server: Running = backstage.enter(running(settings))
    balancer: Balancer = backstage.enter(nginx(tmp_path, [server.port]))
    site = balancer.folder / "sites/tls.conf"
    pages = 'location / { return 200 "a page of the site"; }\n    include path.conf;'
    site.write_text(site.read_text().replace("include broadcast.conf;", pages))
    balancer.reload()

    async def reloaded() -> None:
        async with balancer.session() as client:
            while True:
                async with client.get("/") as answer:
                    if await answer.text() == "a page of the site":
                        return

    backstage.run(reloaded())
    url = f"{balancer.url}/push"
    page.goto(f"{url}?topic=t")  # without a / after the path; with a topic no demo starts
    expect(state(page)).to_have_text("Connected")
    expect(topic_line(page, "t")).to_have_attribute("data-phase", "on")
    publish(page, "t", '"through the path"')
    expect(payloads(page)).to_contain_text("through the path")
    code = page.get_by_role("complementary", name="Code")
    for language, address in (("curl", f"{url}/publish"), ("Python", url.replace("http", "ws"))):
        code.get_by_role("button", name=language).click()
        expect(code).to_contain_text(address)
    page.goto(f"{url}/?view=nodes")
    expect(page.get_by_role("row")).to_have_count(2)
