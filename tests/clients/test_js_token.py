"""The JavaScript client's tokens, in a real browser with a double of the WebSocket."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page

from tests.support.browser import needs_chromium
from tests.support.wire import SERVER, Wire, staged_page

pytestmark = needs_chromium

SECRET = "secret"  # in each token
STRING = f"'{SECRET}'"
# A function whose tokens are numbered; "next" holds the outcomes of the next calls.
FUNCTION = f"""
window.count = 0;
window.next = [];
async () => {{
    count += 1;
    const outcome = next.length ? next.shift() : null;
    return outcome === null ? `{SECRET}.${{count}}` : outcome();
}};
"""


@pytest.fixture(scope="module")
def staged(browser: Browser) -> Page:
    return staged_page(browser)


@pytest.fixture
def said(staged: Page) -> Iterator[list[str]]:
    """Collect the lines of the page's console; fail if one has a token."""
    lines: list[str] = []

    def keep(message: Any) -> None:
        lines.append(message.text)

    staged.on("console", keep)
    yield lines
    staged.remove_listener("console", keep)
    assert SECRET not in "\n".join(lines)


@pytest.fixture
def page(staged: Page, said: list[str]) -> Page:
    """Return a tab, in which no test may print a token."""
    return staged


def meet(page: Page, token: str = FUNCTION) -> Wire:
    """Return a client with an open connection."""
    wire = Wire(page, token)
    wire.open()
    return wire


def sent(wire: Wire) -> Any:
    """Return the subprotocols of the newest connection."""
    return wire.js("Double.all.at(-1).protocols")


def bearer(number: int) -> list[str]:
    return ["bearer", f"{SECRET}.{number}"]


def expire(wire: Wire) -> None:
    message = {"id": "info_1", "payload": "The token expires soon"}
    wire.say("info", message=message, reason="TOKEN_EXPIRES", expires_at="T")
    wire.page.clock.run_for(1)  # the timer of the replacement


def authenticated(wire: Wire, number: int) -> None:
    """Accept the client's auth, which must have this token."""
    (command,) = wire.heard()
    assert (command["type"], command["token"]) == ("auth", f"{SECRET}.{number}")
    wire.say("ack", request_id=command["request_id"], status="ok", sub="ann", expires_at="T")


def ended(wire: Wire) -> str:
    """Return the error that ended the client; it makes no connection any more."""
    count = wire.connections
    wire.page.clock.run_for(60_000)
    assert wire.connections == count
    assert wire.js("states.at(-1)") == "closed"
    error = str(wire.js("ended"))
    assert SECRET not in error
    return error


# --- At the handshake -----------------------------------------------------------------------------


def test_without_a_token_no_subprotocol_is_sent(page: Page) -> None:
    for token in ("undefined", "null"):
        assert sent(meet(page, token)) is None


def test_a_string_is_sent_with_each_handshake(page: Page) -> None:
    wire = meet(page, STRING)
    assert sent(wire) == ["bearer", SECRET]
    wire.end(1001)
    wire.reopen()
    assert sent(wire) == ["bearer", SECRET]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_function_is_called_for_each_connection(page: Page, is_async: bool) -> None:
    wire = meet(page, FUNCTION if is_async else f"let n = 0; () => `{SECRET}.${{++n}}`")
    assert sent(wire) == bearer(1)
    wire.end(1001)
    wire.reopen()
    assert sent(wire) == bearer(2)
    states = ["connecting", "open", "waiting: the server went away (1001)", "connecting", "open"]
    assert wire.js("states") == states


@pytest.mark.parametrize("word", ["unauthorized", "token_expired", "disconnected", "new"])
def test_a_refused_token_is_replaced_by_one_of_the_function(page: Page, word: str) -> None:
    wire = meet(page)
    wire.subscribe(epoch="a", offset=5)
    for number in (2, 3, 4):
        wire.end(3000, word)
        wire.reopen()
        assert sent(wire) == bearer(number)
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 5}


def test_a_string_that_is_refused_twice_in_a_row_ends_the_client(page: Page) -> None:
    wire = meet(page, STRING)
    wire.js("settle(client.publish('news', 1)); 0")
    wire.end(3000, "unauthorized")
    wire.reopen()
    wire.end(3000, "unauthorized")
    assert "REFUSED: the token was refused" in ended(wire)
    assert wire.outcomes() == ["REFUSED"]


def test_refusals_around_a_steady_connection_are_not_in_a_row(page: Page) -> None:
    wire = meet(page, STRING)
    for _ in range(3):
        wire.end(3000, "unauthorized")
        wire.reopen()
        wire.say("pong")
        wire.page.clock.run_for(11_000)


@pytest.mark.parametrize("word", ["token_expired", "disconnected", "new"])
def test_a_string_is_sent_again_after_any_other_reason(page: Page, word: str) -> None:
    wire = meet(page, STRING)
    for _ in range(3):
        wire.end(3000, word)
        wire.reopen()


@pytest.mark.parametrize("token", [STRING, FUNCTION])
def test_an_auth_timeout_asks_for_a_token(page: Page, token: str) -> None:
    wire = meet(page, token)
    wire.end(3008, "auth_timeout")
    wire.reopen()
    assert sent(wire)[0] == "bearer"


def test_an_auth_timeout_ends_a_client_without_a_token(page: Page) -> None:
    wire = meet(page, "undefined")
    wire.end(3008, "auth_timeout")
    assert "REFUSED: a token is needed" in ended(wire)


def test_a_forbidden_client_ends_although_it_has_a_function(page: Page) -> None:
    wire = meet(page)
    wire.js("settle(client.subscribe('news').next()); settle(client.publish('news', 1)); 0")
    wire.end(3003, "forbidden")
    assert "(3003 forbidden)" in ended(wire)
    assert wire.outcomes() == ["REFUSED", "REFUSED"]
    assert wire.js("count") == 1


# --- Token functions ------------------------------------------------------------------------------


OTHER = "returned no token, but another string, such as one with a line break"


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("throw new TypeError(`bad ${secret}`)", "failed (TypeError)"),
        ("throw secret", "failed (string)"),
        ("throw null", "failed (object)"),
        ("return `${secret}\\n`", OTHER),
        ("return ''", OTHER),
        ("return 'bearer'", OTHER),
        ("return 7", "returned no token, but number"),
    ],
)
def test_a_function_without_a_token_is_called_again(
    page: Page, said: list[str], outcome: str, why: str
) -> None:
    wire = meet(page)
    wire.js(f"{{ const secret = {STRING}; const it = () => {{ {outcome} }}; next.push(it, it); }}")
    wire.end(1001)
    for ms in (300, 600, 1_100):
        page.clock.run_for(ms)
    wire.open()
    assert sent(wire) == bearer(4)
    states = wire.js("states")
    assert states[3:7] == ["connecting", f"waiting: the token function {why}"] * 2
    begin = f"{SERVER}: the token function {why}; connecting again in "
    ends = ["0.5 s (attempt 2)", "1 s (attempt 3)"]
    assert [line.removeprefix(begin) for line in said[1:]] == ends


def test_a_pause_after_a_failed_function_can_be_cut_short(page: Page) -> None:
    wire = meet(page)
    wire.js("next.push(() => { throw 1; }); 0")
    wire.end(1001)
    wire.js("client.retry()")
    wire.js("client.retry()")
    wire.open()
    assert sent(wire) == bearer(3)


def test_a_function_that_hangs_is_given_up(page: Page) -> None:
    wire = meet(page)
    wire.js("next.push(() => new Promise((resolve) => { window.late = resolve; })); 0")
    wire.end(1001)
    page.clock.run_for(300)
    wire.js("client.retry(); [...listeners][0]()")  # neither makes a second attempt
    page.clock.run_for(10_000)
    assert wire.js("states.at(-1)") == "waiting: the token function took over 10 s"
    page.clock.run_for(600)
    wire.open()
    assert sent(wire) == bearer(3)
    wire.js(f"late({STRING})")
    assert (wire.connections, wire.js("count")) == (2, 3)


def test_a_client_that_is_closed_while_its_function_runs_makes_no_connection(page: Page) -> None:
    wire = meet(page)
    wire.js("next.push(() => new Promise((resolve) => { window.late = resolve; })); 0")
    wire.end(1001)
    page.clock.run_for(300)
    wire.js(f"client.close(); late({STRING})")
    page.clock.run_for(60_000)
    assert wire.connections == 1
    assert wire.js("states.slice(-2)") == ["connecting", "closed"]


@pytest.mark.parametrize("token", ["''", f"'{SECRET} '", f"'{SECRET}/='", f"'{SECRET}é'", "7"])
def test_a_string_that_no_subprotocol_holds_is_an_error(page: Page, token: str) -> None:
    wire = meet(page)
    with pytest.raises(Error, match="TypeError: token must be a string") as caught:
        wire.js(f"connect('ws://server.example/ws', {{ token: {token} }})")
    assert SECRET not in caught.value.message.partition("\n")[0]
    assert wire.connections == 1


def test_a_page_that_may_make_no_websocket_ends_the_client(page: Page) -> None:
    wire = meet(page)
    wire.js("Double.all.push = () => { throw new DOMException('no', 'SecurityError'); }; 0")
    wire.end(1001)
    page.clock.run_for(1_000)
    assert "REFUSED: no WebSocket could be made (SecurityError)" in ended(wire)


# --- Before a token expires -----------------------------------------------------------------------


def test_a_token_is_replaced_on_the_open_connection_without_losing_an_event(page: Page) -> None:
    wire = meet(page)
    wire.subscribe(epoch="a", offset=0)
    for number in (2, 3):
        page.clock.run_for(6_000)
        wire.say("pong")
        wire.event("before", 2 * number - 3)
        expire(wire)
        wire.event("behind", 2 * number - 2)
        authenticated(wire, number)
    assert wire.shown() == ["before", "behind"] * 2
    assert wire.connections == 1


def test_a_failed_replacement_is_repeated(page: Page, said: list[str]) -> None:
    wire = meet(page)
    wire.js(f"next.push(() => {{ throw Error({STRING}); }}, () => '{SECRET}.1'); 0")
    expire(wire)
    page.clock.run_for(300)
    page.clock.run_for(600)
    (command,) = wire.heard()
    assert command["token"] == f"{SECRET}.4"
    wire.refuse(command, "UNAVAILABLE")
    page.clock.run_for(1_100)
    authenticated(wire, 5)
    begin, end = f"{SERVER}: the token was not replaced: ", "; asking again in "
    assert [line.removeprefix(begin).partition(end)[0] for line in said] == [
        "the token function failed (Error)",
        "the token function returned the same token",
        "UNAVAILABLE: because",
    ]
    wire.end(1001)
    wire.reopen()
    assert sent(wire) == bearer(6)


@pytest.mark.parametrize(("code", "count"), [("UNAUTHORIZED", 2), ("FORBIDDEN", 1)])
def test_the_server_is_not_made_to_close_the_connection_by_invalid_tokens(
    page: Page, code: str, count: int
) -> None:
    wire = meet(page)
    expire(wire)
    for _ in range(count):
        (command,) = wire.heard()
        wire.refuse(command, code)
        page.clock.run_for(600)
    page.clock.run_for(9_000)
    assert wire.heard() == []
    wire.end(3000, "token_expired")
    wire.reopen()
    assert sent(wire) == bearer(2 + count)


def test_the_end_of_the_connection_ends_the_replacement(page: Page) -> None:
    wire = meet(page)
    wire.js("next.push(() => new Promise((resolve) => { window.late = resolve; })); 0")
    expire(wire)
    wire.end(3000, "token_expired")
    wire.reopen()
    assert sent(wire) == bearer(3)
    wire.js(f"late('{SECRET}.2')")
    assert wire.heard() == []
    wire.js("next.push(() => { throw 1; }); 0")
    page.clock.run_for(6_000)
    expire(wire)  # which fails, so a timer runs
    wire.js("client.close()")
    page.clock.run_for(60_000)
    assert wire.js("count") == 4


def test_a_replacement_is_not_sent_a_second_time(page: Page) -> None:
    wire = meet(page)
    expire(wire)
    authenticated(wire, 2)
    wire.js(f"next.push(() => '{SECRET}.2'); 0")
    expire(wire)
    page.clock.run_for(5_100)
    page.clock.run_for(300)
    authenticated(wire, 4)


def test_short_tokens_are_replaced_at_most_each_few_seconds(page: Page) -> None:
    wire = meet(page)
    expire(wire)
    authenticated(wire, 2)
    expire(wire)
    page.clock.run_for(4_900)
    assert wire.heard() == []
    page.clock.run_for(200)
    authenticated(wire, 3)


def test_a_string_is_not_sent_again_and_the_end_is_announced(page: Page, said: list[str]) -> None:
    wire = meet(page, STRING)
    expire(wire)
    assert wire.heard() == []
    assert said == [f"{SERVER}: the server says: The token expires soon"]


# --- Rights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["UNAUTHORIZED", "FORBIDDEN"])
def test_a_missing_right_rejects_the_command_with_its_code(page: Page, code: str) -> None:
    wire = meet(page, STRING)
    wire.js("""() => {
        window.news = client.subscribe("news");
        for (const it of [news.ready(), news.next(), client.publish("news", 1)]) settle(it);
    }""")
    for command in wire.heard():
        wire.refuse(command, code)
    assert wire.outcomes() == [code] * 3
    wire.end(1001)
    wire.reopen()
    assert wire.heard() == []


def test_a_lost_right_ends_its_subscriptions_and_no_other(page: Page, said: list[str]) -> None:
    wire = meet(page)
    wire.subscribe(options="{ onRefused: (error) => items.push({ kind: error.code }) }")
    wire.subscribe("other")
    wire.js("window.iterated = client.subscribe('news'); client.subscribe('news', keep); 0")
    wire.event(1)
    wire.info({"reason": "FORBIDDEN"}, reason="FORBIDDEN")
    wire.event(2, topic="other")
    assert wire.shown() == [1, 1, "FORBIDDEN", 2]
    wire.js("settle(iterated.next()); settle(iterated.next()); 0")
    first, second = wire.outcomes()
    assert (first["value"]["payload"], second) == (1, "FORBIDDEN")
    assert said == ["news: FORBIDDEN: the token no longer gives the right"]
    wire.end(1001)
    wire.reopen()
    assert [command["topic"] for command in wire.heard()] == ["other"]
