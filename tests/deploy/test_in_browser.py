"""What a page in a real browser sees through each balancer of deploy/."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.backstage import Backstage
from tests.support.balancers import Balancer, Start
from tests.support.browser import PATIENCE, needs_chromium
from tests.support.process import ServerProcess, server_process
from tests.support.redis import free_port

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
