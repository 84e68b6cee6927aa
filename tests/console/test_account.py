"""The settings of the console: tokens, and the rules by which they allow something."""

import json
import random
import re
import shlex
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from hub.access import MAX_PATTERNS, Principal, Verb, compile_patterns
from hub.auth.keys import parse_secrets
from hub.auth.tokens import TokenRules, Verifier
from tests.support.browser import needs_chromium
from tests.support.console import (
    Server,
    assert_accessible,
    assert_fits,
    panel,
    payloads,
    publish,
    rows,
    serving,
    state,
    subscribe,
    topic_line,
    watched,
)
from tests.support.npm import needs_npm
from tests.support.process import ROOT
from tests.support.tokens import SECRET, SHORT, sign

CASES = json.loads((ROOT / "tests/vectors/access.json").read_text())
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with access on."""
    with serving(JWT_SECRET=SECRET, ANONYMOUS_SUBSCRIBE="news/#", HISTORY_SIZE="10") as running:
        yield running


@pytest.fixture
def page(browser: Browser, guarded: Server) -> Iterator[Page]:
    """The console of the guarded server, with open settings; the tab's sessionStorage is empty."""
    page = browser.new_page()
    with watched(page):
        visit_settings(page, guarded)
        yield page
    page.close()


def visit_settings(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/?topic=news/1")
    open_settings(page)


def open_settings(page: Page) -> None:
    page.locator("#open-settings").click()


def close_settings(page: Page) -> None:
    page.get_by_role("dialog").press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def use_token(page: Page, token: str) -> None:
    panel(page, "Access").get_by_label("Token", exact=True).fill(token)
    panel(page, "Access").get_by_role("button", name="Use token").click()


def standing(page: Page) -> Locator:
    return panel(page, "Access").get_by_role("status").first


# --- The rules ------------------------------------------------------------------------------------

FIND = """async (cases) => {
    const { findPattern } = await import("/console/access.js");
    return cases.map(([patterns, topic, separator, subject]) => {
    try {
        return findPattern(patterns, topic, separator, subject) !== undefined;
    } catch (error) {
        return error.message;
    }
    });
}"""


def decide(patterns: list[str], topic: str, separator: str, subject: str | None) -> bool | str:
    """Say what the server decides: whether a pattern matches, or why one is not valid."""
    try:
        return compile_patterns(patterns, separator, subject).find(topic) is not None
    except ValueError as error:
        return str(error)


def test_the_page_matches_the_patterns_that_the_server_matches(page: Page) -> None:
    cases: list[tuple[list[str], str, str, str | None]] = [
        *(([pattern], topic, "/", "ann") for pattern, topic in CASES["match"]),
        *(([pattern], topic, "/", "ann") for pattern, topic in CASES["no_match"]),
        *(([pattern], topic, "/", subject) for pattern, subject, topic in CASES["subject_match"]),
        *(([pattern], pattern, "/", "ann") for pattern, _, _ in CASES["subject_match"]),
        *(
            ([pattern], topic, "/", subject)
            for subject in CASES["unusable_subjects"]
            for pattern in CASES["subject_patterns"]
            for topic in (subject, "a", f"chat/{subject}", pattern, f"x{subject}")
        ),
        *(([pattern], "a", "/", "ann") for pattern in CASES["misplaced_plus"]),
        *(([pattern], "a", "/", "ann") for pattern in CASES["misplaced_number_sign"]),
        (["a.+", "b.#"], "b.c/d", ".", "ann"),
        (["{sub}"], "x.y", ".", "x.y"),
        (["a/{sub}"], "a", "/", None),
        (["a"] * MAX_PATTERNS, "a", "/", "ann"),
        (["a"] * (MAX_PATTERNS + 1), "a", "/", "ann"),
    ]
    expected = [decide(*case) for case in cases]
    assert page.evaluate(FIND, cases) == expected
    assert {True, False, "'a+': '+' must be a whole level"} <= set(expected)


def test_the_page_agrees_with_the_server_on_random_patterns(page: Page) -> None:
    chosen = random.Random(1)
    levels = ["", "a", "b", "a", "b", "{sub}", "a{sub}", "+", "+", "*", "$&"]

    def name(last: list[str]) -> str:
        return "/".join([*chosen.choices(levels, k=chosen.randrange(3)), chosen.choice(last)])

    cases = [
        (
            [name([*levels, "#", "a#"]) for _ in range(chosen.randrange(4))],
            name(levels).replace("{sub}", "ann"),
            "/",
            chosen.choice(["ann", "a", "$&", "a/b", "+"]),
        )
        for _ in range(3_000)
    ]
    expected = [decide(*case) for case in cases]
    assert page.evaluate(FIND, cases) == expected
    assert min(expected.count(True), expected.count(False)) > 300


@pytest.mark.parametrize(
    "claims",
    [
        {"subscribe": "chat"},
        {"subscribe": None},
        {"publish": ["chat", 1]},
        {"manage": {}},
        {"subscribe": ["a+"], "publish": ["chat"]},
        {"subscribe": ["a"] * 60, "publish": ["chat"] * 41},
        {"sub": ""},
        {"sub": 1},
        {"sub": "é" * 128},
        {"sub": "é" * 127, "publish": ["{sub}"]},
        {"publish": ["chat"]},
        {},
    ],
    ids=lambda claims: json.dumps(claims)[:40],
)
def test_the_page_accepts_the_claims_that_the_server_accepts(
    page: Page, claims: dict[str, Any]
) -> None:
    claims = {"sub": "ann", **claims}
    script = """async (claims) => {
        const { findRule } = await import("/console/access.js");
        try {
            return findRule(claims, 'publish', 'chat', '/') ?? 'none';
        } catch {
            return 'invalid';
        }
    }"""
    verifier = Verifier(parse_secrets(SECRET), TokenRules())
    result = verifier.verify(sign(**{"exp": 4_000_000_000, **claims}), 0)
    expected = "invalid"
    if isinstance(result, Principal):
        expected = result.rights.find(Verb.PUBLISH, "chat") or "none"
    assert page.evaluate(script, claims) == expected


def test_may_it_names_the_rule(page: Page) -> None:
    page.get_by_text("May it?").click()
    access, verdict = panel(page, "Access"), page.locator("#verdict")
    access.get_by_label("Topic").fill("news/today")
    expect(verdict).to_have_text("Allowed by news/#, to everybody")
    access.get_by_label("Verb").select_option("publish")
    expect(verdict).to_have_text("Not allowed without a token.")

    token = access.get_by_label("Token", exact=True)
    token.fill(sign(sub="ann", publish=["news/{sub}", "chat/+"]))
    expect(verdict).to_have_text("Not allowed: no publish pattern of the token matches.")
    access.get_by_label("Topic").fill("news/ann")
    expect(verdict).to_have_text("Allowed by news/{sub}")
    token.fill(sign(sub="ann", publish=["a#"]))
    expect(verdict).to_contain_text("'#' must be the whole last level")
    token.fill("chat")
    expect(verdict).to_contain_text("it is not HEADER.CLAIMS.SIGNATURE")


# --- The token field ------------------------------------------------------------------------------


def test_with_access_off_the_page_asks_for_no_token(browser: Browser) -> None:
    page = browser.new_page()
    with watched(page), serving() as server:
        visit_settings(page, server)
        expect(page.get_by_role("dialog")).to_contain_text(
            "Access is off: everybody may do everything."
        )
        expect(panel(page, "Access")).to_have_count(0)
        expect(page.get_by_label("Code of what you did last")).not_to_contain_text("TOKEN")
    page.close()


def test_a_token_signs_in_until_its_end(page: Page, guarded: Server) -> None:
    said: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: urls.append(request.url))
    page.on("websocket", lambda socket: urls.append(socket.url))
    expect(standing(page)).to_have_text("Without a token you may subscribe to news/#.")
    token = sign()
    use_token(page, token)
    expect(standing(page)).to_have_text(re.compile(r"Signed in as ann until .*\d\d:\d\d.*\."))
    close_settings(page)
    expect(page.locator("#open-settings")).to_have_text("ann")
    subscribe(page, "chat")
    publish(page, "chat", "1")
    expect(payloads(page)).to_have_text("1")

    kept = page.evaluate("[JSON.stringify(sessionStorage), localStorage.length, document.cookie]")
    assert kept == [json.dumps({"token": token}, separators=(",", ":")), 0, ""]
    assert token not in page.content()
    assert not any(token in text for text in [*said, *urls])
    assert any("/ws" in url for url in urls)

    page.reload()
    open_settings(page)
    expect(standing(page)).to_contain_text("Signed in as ann")
    page.get_by_role("button", name="Forget it").click()
    expect(standing(page)).to_have_text("Without a token you may subscribe to news/#.")
    page.reload()
    open_settings(page)
    expect(panel(page, "Access").get_by_label("Token", exact=True)).to_have_value("")


def test_the_token_is_hidden_until_it_is_shown(page: Page) -> None:
    token = panel(page, "Access").get_by_label("Token", exact=True)
    expect(token).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show the token").click()
    expect(token).to_have_attribute("type", "text")


def test_a_refused_token_is_shown_with_the_reason(page: Page) -> None:
    use_token(page, sign(-100))
    expect(standing(page)).to_have_text("Refused: Token is not valid: it has expired")
    expect(page.locator("#banner")).to_contain_text("Not reconnecting: the token was refused")
    expect(standing(page)).to_have_text("Refused: Token is not valid: it has expired")

    use_token(page, sign())
    expect(standing(page)).to_contain_text("Signed in as ann")
    close_settings(page)
    expect(state(page)).to_have_text("Connected")


def test_what_is_no_token_is_not_sent(page: Page) -> None:
    use_token(page, "the-key-of-a-back-end")
    expect(panel(page, "Access")).to_contain_text(
        "This is not a token. API keys are for back ends."
    )
    expect(standing(page)).to_have_text("Without a token you may subscribe to news/#.")


def test_another_token_is_used_at_once(page: Page) -> None:
    use_token(page, sign())
    close_settings(page)
    subscribe(page, "chat")
    open_settings(page)
    use_token(page, sign(sub="bob", subscribe=["chat"], publish=["chat"]))
    expect(standing(page)).to_contain_text("Signed in as bob")
    close_settings(page)
    expect(rows(page, "recovery").first).to_contain_text("nothing was lost (news/1, chat)")
    publish(page, "other", "1")
    expect(panel(page, "Publish")).to_contain_text("FORBIDDEN")

    open_settings(page)
    use_token(page, sign(sub="cy", publish=["chat"]))
    close_settings(page)
    expect(topic_line(page, "chat")).to_have_attribute("data-phase", "failed")
    expect(panel(page, "Topics")).to_contain_text("FORBIDDEN")
    expect(topic_line(page, "news/1")).to_have_attribute("data-phase", "on")


def test_the_end_of_a_token_is_announced(page: Page) -> None:
    use_token(page, sign(SHORT))
    expect(panel(page, "Access")).to_contain_text("This token ends soon.")
    use_token(page, sign())
    expect(panel(page, "Access")).not_to_contain_text("This token ends soon.")


def test_a_refused_topic_is_reported_once_beside_a_way_to_sign_in(page: Page) -> None:
    close_settings(page)
    subscribed = panel(page, "Topics").get_by_label("Topic", exact=True)
    subscribed.fill("secret")
    subscribed.press("Enter")
    expect(topic_line(page, "secret")).to_have_attribute("data-phase", "failed")
    expect(rows(page, "error")).to_have_text(re.compile("secret: Not subscribed: UNAUTHORIZED"))
    page.get_by_role("button", name="Sign in").click()
    expect(panel(page, "Access")).to_be_visible()


def test_without_any_right_the_page_says_that_a_token_is_needed(browser: Browser) -> None:
    page = browser.new_page()
    with watched(page), serving(JWT_SECRET=SECRET, AUTH_TIMEOUT="0.1") as server:
        page.goto(server.url)
        expect(page.locator("#banner")).to_contain_text("Not reconnecting: a token is needed")
        page.get_by_role("button", name="Use a token").click()
        expect(standing(page)).to_have_text("This server needs a token.")
    page.close()


# --- Making a token -------------------------------------------------------------------------------


def fill_in(page: Page, subject: str, **patterns: str) -> None:
    page.get_by_text("Make a token").click()
    page.get_by_label("Subject").fill(subject)
    page.get_by_label("May subscribe to").fill(patterns.get("subscribe", ""))
    page.get_by_label("May publish to").fill(patterns.get("publish", ""))
    page.get_by_label("May manage").fill(patterns.get("manage", ""))


def test_a_token_is_made_in_the_browser_and_the_server_accepts_it(browser: Browser) -> None:
    sent: list[str] = []
    page = browser.new_page()
    page.on("request", lambda it: sent.append(f"{it.url} {it.headers} {it.post_data}"))
    settings = {"JWT_SECRET": SECRET, "JWT_ISSUER": 'a"><b>', "JWT_AUDIENCE": "'&amp;é"}
    with watched(page), serving(**settings) as server:
        visit_settings(page, server)
        fill_in(page, "zoë", subscribe="chat/#, user/{sub}", publish="chat/{sub}")
        page.get_by_label("Secret", exact=True).fill(SECRET)
        page.get_by_role("button", name="Make token").click()
        expect(page.get_by_label("New token", exact=True)).to_have_value(re.compile(r"^[\w.-]+$"))
        token = page.get_by_label("New token", exact=True).input_value()
        page.get_by_role("button", name="Use new token").click()
        expect(standing(page)).to_contain_text("Signed in as zoë until")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("dialog").get_by_role("button", name="Copy", exact=True).click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        close_settings(page)
        subscribe(page, "chat/zoë")
        publish(page, "chat/zoë", "1")
        expect(payloads(page)).to_have_text("1")
        assert page.evaluate("navigator.clipboard.readText()") == token
        assert page.evaluate("Object.values(sessionStorage)") == [token]
    assert any(token in text for text in sent)
    assert not any(SECRET in text for text in sent)
    page.close()


def test_no_token_is_made_that_the_server_would_refuse(page: Page) -> None:
    fill_in(page, "ann", subscribe="a+")
    page.get_by_label("Secret", exact=True).fill(SECRET)
    page.get_by_role("button", name="Make token").click()
    problem = page.locator("#problem")
    expect(problem).to_have_text("No token was made: 'a+': '+' must be a whole level")
    page.get_by_label("May subscribe to").fill("a/+")
    page.get_by_label("Secret", exact=True).fill("short")
    page.get_by_label("Secret", exact=True).press("Enter")
    expect(problem).to_have_text("No token was made: a secret has at least 32 bytes")
    expect(page.get_by_label("New token", exact=True)).to_be_hidden()


def test_on_plain_http_the_page_shows_a_command_instead(page: Page, guarded: Server) -> None:
    page.goto(f"http://page.test:{guarded.port}/?topic=news/1")
    open_settings(page)
    fill_in(page, "it's", subscribe="chat/#", manage="-x, +")
    expect(page.get_by_label("Secret", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="Make token")).to_be_hidden()
    assert shlex.split(page.get_by_label("token command").inner_text()) == [
        *("python", "server.py", "token", "--sub=it's", "--subscribe=chat/#"),
        *("--manage=-x", "--manage=+", "--ttl=3600s"),
    ]


def test_without_a_secret_the_server_offers_no_form_for_tokens(browser: Browser) -> None:
    page = browser.new_page()
    with watched(page), serving(API_KEYS="app:0123456789abcdef") as server:
        visit_settings(page, server)
        expect(page.get_by_text("May it?")).to_be_visible()
        expect(page.get_by_text("Make a token")).to_be_hidden()
    page.close()


def test_the_access_part_fits_a_phone_and_a_desktop(page: Page) -> None:
    fill_in(page, "long" * 40, subscribe="long" * 40)
    page.get_by_label("Secret", exact=True).fill(SECRET)
    page.get_by_role("button", name="Make token").click()
    page.get_by_role("button", name="Use new token").click()
    expect(standing(page)).to_contain_text("Signed in as longlong")
    page.get_by_text("May it?").click()
    panel(page, "Access").get_by_label("Topic").fill("long" * 40)

    for width in (390, 1000, 1400):
        page.set_viewport_size({"width": width, "height": 844})
        assert_fits(page)
        dialog = page.get_by_role("dialog")
        assert dialog.evaluate("(it) => it.scrollWidth <= it.clientWidth")


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_settings_are_accessible(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.get_by_text("May it?").click()
    page.get_by_text("Make a token").click()
    use_token(page, sign(-100))
    expect(standing(page)).to_contain_text("Refused")
    assert_accessible(page)
