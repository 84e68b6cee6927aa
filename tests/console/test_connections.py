"""The view "Connections" of the console: search, what waits for each, and the disconnects."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    publish_elsewhere,
    run_code,
    serving,
    visit,
)
from tests.support.npm import needs_npm
from tests.support.tokens import KEY, SECRET, sign

pytestmark = needs_chromium
LIMITS = re.compile(r"^\d+ % of the default limits, 256 messages and 1 MiB$")
UNKNOWN = "\u2013"
VIEW = "?view=connections"
HANDSHAKE = (
    "GET /ws?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
)


@contextmanager
def client(server: Server, query: str, token: str = "") -> Iterator[socket.socket]:
    """Open a WebSocket that reads nothing after its acks, and takes few bytes."""
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        opened.settimeout(30)
        opened.connect(("127.0.0.1", server.port))
        header = f"Authorization: Bearer {token}\r\n" if token else ""
        opened.sendall(HANDSHAKE.format(query=query, header=header).encode())
        assert opened.recv(12) == b"HTTP/1.1 101"
        said = b""
        while said.count(b'"ack"') < query.count("topic="):
            said += (part := opened.recv(4_096))
            assert part, said
        yield opened


def read_to_the_end(opened: socket.socket) -> bytes:
    taken = b""
    while part := opened.recv(65_536):
        taken += part
    return taken


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with access on."""
    with serving(JWT_SECRET=SECRET, API_KEYS=f"app:{KEY}") as running:
        yield running


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """A server that cuts no client that reads nothing, however long a test takes."""
    with serving(WRITE_TIMEOUT="600", IDLE_TIMEOUT="600") as running:
        yield running


@pytest.fixture
def boss(browser: Browser, guarded: Server) -> Iterator[Page]:
    """The console of the guarded server, in which somebody has signed in who may do everything."""
    page = browser.new_page()
    token = sign(sub="boss", subscribe=["#"], publish=["#"], manage=["#"])
    page.add_init_script(f"sessionStorage.setItem('token', {json.dumps(token)})")
    visit(page, guarded, VIEW)
    yield page
    page.close()


def lines(page: Page) -> Locator:
    return page.get_by_role("table", name="Connections").locator("tbody tr")


def line(page: Page, text: str) -> Locator:
    return lines(page).filter(has=page.get_by_role("cell", name=text, exact=True))


def search(page: Page, name: str, text: str) -> None:
    page.get_by_role("combobox" if name == "Subscribed to" else "searchbox", name=name).fill(text)


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Disconnect")


def test_connections_are_described(page: Page, server: Server) -> None:
    with client(server, "client_id=phone&topic=described&topic=other"):
        visit(page, server, VIEW)
        search(page, "Subscribed to", "described")
        expect(lines(page)).to_have_count(1)
        cells = lines(page).get_by_role("cell")
        expect(cells.nth(0)).to_contain_text("127.0.0.1")
        expect(cells.nth(1)).to_have_text(UNKNOWN)
        expect(cells.nth(2)).to_have_text("phone")
        expect(cells.nth(3)).to_have_text("WebSocket")
        expect(cells.nth(5)).to_have_text("2")
        expect(cells.nth(6)).to_have_text("0")
        expect(panel(page, "Connections")).to_contain_text("1 connection, 0 slow")


def test_the_page_knows_its_own_connection(page: Page, server: Server) -> None:
    visit(page, server, VIEW)
    expect(lines(page).filter(has_text="this page")).to_have_count(1)


def test_a_search_is_in_the_address(boss: Page, guarded: Server) -> None:
    ann, bob = (sign(sub=name, subscribe=["#"]) for name in ("ann", "bob"))
    with client(guarded, "topic=a", ann), client(guarded, "topic=b", ann), client(guarded, "", bob):
        search(boss, "Subject", "ann")
        expect(lines(boss)).to_have_count(2)
        search(boss, "Subscribed to", "a")
        expect(lines(boss)).to_have_count(1)
        boss.reload()
        expect(lines(boss)).to_have_count(1)
        expect(line(boss, "ann")).to_have_count(1)
        search(boss, "Subscribed to", "nobody")
        expect(panel(boss, "Connections")).to_contain_text("No connection fits this search.")


def test_a_slow_client_is_marked(page: Page, patient: Server) -> None:
    with client(patient, "client_id=tv&topic=big"), client(patient, "client_id=quick&topic=small"):
        visit(page, patient, VIEW)
        slow = line(page, "tv")
        expect(slow).to_have_count(1)
        for _ in range(12):
            publish_elsewhere(page, patient, "big", "x" * 60_000)
        expect(slow.get_by_text("slow", exact=True)).to_be_visible()
        waiting = slow.get_by_role("cell").nth(6)
        expect(waiting).to_contain_text("messages")
        expect(waiting.get_by_role("img")).to_have_attribute("title", LIMITS)
        expect(line(page, "quick").get_by_text("slow", exact=True)).to_be_hidden()
        page.get_by_role("button", name="Slow only").click()
        expect(lines(page)).to_have_count(1)
        expect(slow).to_have_count(1)
    expect(panel(page, "Connections")).to_contain_text("None of the connections is slow now.")


def test_many_connections_come_in_pages(page: Page, server: Server) -> None:
    rows = [
        {
            "id": f"{'0' * 16}-{n}",
            "node": "0" * 16,
            "address": "192.0.2.7",
            "transport": "sse",
            "age_sec": 5,
            "subscriptions": 1,
            "queued_messages": 0,
            "queued_bytes": 0,
            "slow": False,
        }
        for n in range(1, 4)
    ]
    asked: list[str] = []

    def answer(route: object) -> None:
        url = route.request.url  # type: ignore[attr-defined]
        asked.append(url)
        more = "after=" not in url
        body = {
            "connections": rows[:2] if more else rows[2:],
            **({"next": rows[1]["id"]} if more else {}),
        }
        route.fulfill(json=body)  # type: ignore[attr-defined]

    page.route("**/connections?*", answer)
    visit(page, server, VIEW)
    expect(lines(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Disconnect").first).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(lines(page)).to_have_count(1)
    expect(lines(page).get_by_role("cell").nth(3)).to_have_text("SSE")
    assert f"after={rows[1]['id']}" in asked[-1]
    page.unroute_all()


def test_connections_of_missing_servers_are_told(page: Page, server: Server) -> None:
    body = {"connections": [], "missing": ["9f86d081884c7d65"]}
    page.route("**/connections?*", lambda route: route.fulfill(json=body))
    visit(page, server, VIEW)
    expect(panel(page, "Connections")).to_contain_text(
        "Connections of 1 server are missing, which did not answer: 9f86d081884c7d65."
    )
    page.unroute_all()


def test_a_client_id_is_disconnected(page: Page, server: Server) -> None:
    with client(server, "client_id=tablet&topic=t") as opened:
        visit(page, server, VIEW)
        line(page, "tablet").get_by_role("button").click()
        expect(dialog(page)).to_contain_text("the client id tablet")
        expect(dialog(page)).to_contain_text("1 connection on this page has it.")
        expect(dialog(page)).to_contain_text("Clients of this project connect again at once")
        expect(dialog(page).get_by_label("Ban the subject")).to_be_hidden()
        dialog(page).get_by_role("button", name="Cancel").click()
        expect(line(page, "tablet")).to_have_count(1)

        line(page, "tablet").get_by_role("button").click()
        dialog(page).get_by_role("button", name="Disconnect").click()
        expect(line(page, "tablet")).to_have_count(0)
        expect(panel(page, "Connections")).to_contain_text("Closed 1 connection of “tablet”")
        assert b"disconnected" in read_to_the_end(opened)

    answer = {"status": "disconnected", "client_id": "tablet", "clients": 0}
    assert run_code(page) == answer


def test_a_subject_is_banned(boss: Page, guarded: Server) -> None:
    eve = sign(sub="eve", subscribe=["#"])
    with client(guarded, "client_id=x", eve) as one, client(guarded, "client_id=y", eve) as other:
        search(boss, "Subject", "eve")
        expect(lines(boss)).to_have_count(2)
        lines(boss).first.get_by_role("button").click()
        expect(dialog(boss)).to_contain_text("2 connections of eve are open now")
        dialog(boss).get_by_label("Close every").select_option("the client id x")
        expect(dialog(boss)).to_contain_text("All connections with this client id are closed")
        dialog(boss).get_by_label("Close every").select_option("the subject eve")
        dialog(boss).get_by_label("Ban the subject").select_option("10 minutes")
        expect(dialog(boss)).to_contain_text("every token of eve is refused")
        dialog(boss).get_by_role("button", name="Disconnect and ban").click()
        expect(panel(boss, "Connections")).to_contain_text("Closed 2 connections of “eve”")
        expect(panel(boss, "Connections")).to_contain_text("The subject is banned until")
        expect(lines(boss)).to_have_count(0)
        for opened in (one, other):
            assert b"DISCONNECTED" in read_to_the_end(opened)
    headers = {"Authorization": f"Bearer {eve}"}
    assert boss.request.get(f"{guarded.url}/topics", headers=headers).status == 403


def test_a_refused_disconnect_is_told_in_the_dialog(page: Page, server: Server) -> None:
    body = {"error": "At most 100000 subjects can be banned"}
    page.route("**/disconnect", lambda route: route.fulfill(status=503, json=body))
    with client(server, "client_id=stays"):
        visit(page, server, VIEW)
        line(page, "stays").get_by_role("button").click()
        dialog(page).get_by_role("button", name="Disconnect").click()
        expect(dialog(page)).to_contain_text("Nothing was closed: At most 100000 subjects")
        page.keyboard.press("Escape")
        expect(dialog(page)).to_be_hidden()
        expect(line(page, "stays").get_by_role("button")).to_be_focused()
    page.unroute_all()


def test_a_token_without_the_right_is_explained(browser: Browser, guarded: Server) -> None:
    page = browser.new_page()
    page.goto(f"{guarded.url}/{VIEW}")
    view = panel(page, "Connections")
    expect(view).to_contain_text("An API key is needed, or a token that allows manage of '#'")
    expect(view).to_contain_text("python server.py token --sub=ops --manage='#'")
    expect(lines(page)).to_have_count(0)
    page.close()


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_accessible_and_fits(browser: Browser, patient: Server, scheme: str) -> None:
    with client(patient, f"client_id={'long' * 60}&topic=big") as opened:
        for options in ({"viewport": PHONE, "has_touch": True}, {}):
            page = browser.new_page(**options, color_scheme=scheme)
            for _ in range(6):
                publish_elsewhere(page, patient, "big", "x" * 60_000)
            visit(page, patient, VIEW)
            expect(lines(page).get_by_text("slow", exact=True).first).to_be_visible()
            assert_accessible(page)
            assert_fits(page)
            page.get_by_role("button", name="Disconnect").first.click()
            expect(dialog(page)).to_be_visible()
            assert_accessible(page)
            assert_fits(page)
            page.close()
        opened.close()


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_refusal_is_accessible_and_fits(browser: Browser, guarded: Server, scheme: str) -> None:
    page = browser.new_page(viewport=PHONE, has_touch=True, color_scheme=scheme)
    page.goto(f"{guarded.url}/{VIEW}")
    expect(panel(page, "Connections")).to_contain_text("An API key is needed")
    assert_accessible(page)
    assert_fits(page)
    page.close()
