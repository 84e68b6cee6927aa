"""The view "Topics" of the console: search, create and delete, with subscribers."""

import re
import signal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import needs_chromium
from tests.support.console import (
    PHONE,
    Server,
    assert_accessible,
    assert_fits,
    panel,
    run_code,
    serving,
    state,
    stop_clock,
    topic_line,
    visit,
)
from tests.support.npm import needs_npm
from tests.support.tokens import SECRET, sign

pytestmark = needs_chromium
VIEW = "?view=topics"
UNKNOWN = "\u2013"


def create(page: Page, server: Server, *topics: str, **headers: str) -> None:
    """Create topics over REST, as another client."""
    for topic in topics:
        body = {"name": topic}
        answer = page.request.post(f"{server.url}/topics", data=body, headers=headers)
        assert answer.ok, answer.text()


def lines(page: Page) -> Locator:
    return page.get_by_role("table", name="Topics").locator("tbody tr")


def names(page: Page) -> Locator:
    return lines(page).locator(".topic")


def line(page: Page, topic: str) -> Locator:
    return lines(page).filter(has=page.get_by_text(topic, exact=True))


def search(page: Page, text: str) -> None:
    page.get_by_role("searchbox", name="Name begins with").fill(text)


def test_topics_are_listed_in_the_order_of_the_server(page: Page, server: Server) -> None:
    odd = ["10", "9", "<b>bold</b>", "a/../b", "é" * 127, "\U0001f600", "\uff5e", "__proto__"]
    create(page, server, *(f"odd/{it}"[-127:] for it in odd))
    visit(page, server, VIEW)
    search(page, "odd/")
    expect(names(page)).to_have_text(
        [f"odd/{it}" for it in ["10", "9", "<b>bold</b>", "__proto__", "a/../b", "\uff5e"]]
        + ["odd/\U0001f600"]
    )
    expect(page.locator("b")).to_have_count(0)
    search(page, "é")
    expect(names(page)).to_have_text(["é" * 127])


def test_names_of_digits_keep_their_place(page: Page, server: Server) -> None:
    create(page, server, "2/", "10", "2")
    visit(page, server, f"{VIEW}&q=2")
    expect(names(page)).to_have_text(["2", "2/"])


def test_a_search_is_in_the_address(page: Page, server: Server) -> None:
    create(page, server, "found/1", "lost/1")
    visit(page, server, VIEW)
    search(page, "found")
    expect(names(page)).to_have_text(["found/1"])
    page.reload()
    expect(names(page)).to_have_text(["found/1"])
    search(page, "nowhere")
    expect(panel(page, "Topics")).to_contain_text("No topic begins with “nowhere”.")


def test_many_topics_come_in_pages(page: Page, server: Server) -> None:
    create(page, server, *(f"many/{n:03}" for n in range(120)))
    visit(page, server, f"{VIEW}&q=many/")
    expect(names(page)).to_have_text([f"many/{n:03}" for n in range(50)])
    first, previous, following = (
        page.get_by_role("button", name=name) for name in ("First page", "Previous", "Next")
    )
    expect(first).to_be_disabled()
    following.click()
    expect(names(page).first).to_have_text("many/050")
    following.click()
    expect(names(page)).to_have_text([f"many/{n:03}" for n in range(100, 120)])
    expect(following).to_be_disabled()
    previous.click()
    expect(names(page).first).to_have_text("many/050")
    page.go_back()
    expect(names(page).first).to_have_text("many/100")
    page.reload()
    expect(previous).to_be_disabled()
    first.click()
    expect(names(page).first).to_have_text("many/000")


def test_previous_is_the_page_before_also_after_the_browsers_back(
    page: Page, server: Server
) -> None:
    create(page, server, *(f"back/{n:03}" for n in range(120)))
    visit(page, server, f"{VIEW}&q=back/")
    for first in ("back/050", "back/100"):
        page.get_by_role("button", name="Next").click()
        expect(names(page).first).to_have_text(first)
    page.go_back()
    expect(names(page).first).to_have_text("back/050")
    page.get_by_role("button", name="Previous").click()
    expect(names(page).first).to_have_text("back/000")


def test_subscribers_are_counted_while_one_watches(
    page: Page, browser: Browser, server: Server
) -> None:
    create(page, server, "busy")
    visit(page, server, f"{VIEW}&q=busy")
    subscribers = line(page, "busy").get_by_role("cell").nth(1)
    expect(subscribers).to_have_text("0")
    other = browser.new_page()
    visit(other, server, "?topic=busy")
    expect(subscribers).to_have_text("1")
    other.close()
    expect(subscribers).to_have_text("0")


def test_a_refresh_keeps_focus_and_scroll(page: Page, server: Server) -> None:
    create(page, server, *(f"steady/{n:02}" for n in range(10, 50)))
    visit(page, server, f"{VIEW}&q=steady/")
    button = page.get_by_role("button", name="Delete steady/40")
    button.focus()
    before = page.evaluate("[scrollY, document.activeElement.getBoundingClientRect().top]")
    create(page, server, "steady/99")
    expect(line(page, "steady/99")).to_have_count(1)
    expect(button).to_be_focused()
    after = page.evaluate("[scrollY, document.activeElement.getBoundingClientRect().top]")
    assert after == before
    assert before[0] > 0

    create(page, server, "steady/00")  # above, so the row moves
    expect(line(page, "steady/00")).to_have_count(1)
    expect(button).to_be_focused()


def test_open_subscribes_and_shows_the_rate(page: Page, server: Server) -> None:
    create(page, server, "opened")
    visit(page, server, f"{VIEW}&q=opened")
    expect(line(page, "opened").get_by_role("cell").nth(2)).to_have_text(UNKNOWN)
    page.get_by_role("button", name="Open opened in Live").click()
    expect(topic_line(page, "opened")).to_have_attribute("data-phase", "on")
    page.go_back()
    expect(line(page, "opened").get_by_role("cell").nth(2)).to_have_text("0")


def test_a_topic_is_created(page: Page, server: Server) -> None:
    visit(page, server, f"{VIEW}&q=another")
    view = panel(page, "Topics")
    view.get_by_label("New topic").fill("made/here")
    view.get_by_label("New topic").press("Enter")
    expect(view.get_by_role("status").first).to_contain_text("Created “made/here”.")
    view.get_by_role("button", name="Show it").click()
    expect(names(page)).to_have_text(["made/here"])

    view.get_by_label("New topic").fill("made/here")
    view.get_by_role("button", name="Create").click()
    expect(view).to_contain_text("“made/here” was not created: Topic already exists")


def test_the_code_of_an_action_does_the_same(page: Page, server: Server) -> None:
    visit(page, server, VIEW)
    name = "it's/“shown”"
    panel(page, "Topics").get_by_label("New topic").fill(name)
    panel(page, "Topics").get_by_role("button", name="Create").click()
    expect(panel(page, "Topics")).to_contain_text(f"Created “{name}”.")
    assert page.request.delete(f"{server.url}/topics/{quote(name, safe='')}").ok
    assert run_code(page) == {"status": "created", "topic": name}

    search(page, "it's")
    expect(page.get_by_label("Code of what you did last")).to_contain_text("prefix=")
    assert name in run_code(page)["topics"]


def test_a_topic_is_deleted_after_a_question(page: Page, browser: Browser, server: Server) -> None:
    create(page, server, "gone/1", "gone/2")
    other = browser.new_page()
    visit(other, server, "?topic=gone/1")
    visit(page, server, f"{VIEW}&q=gone")
    expect(line(page, "gone/1").get_by_role("cell").nth(1)).to_have_text("1")
    page.get_by_role("button", name="Delete gone/1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete gone/1?")
    expect(dialog).to_contain_text("1 subscriber gets a notice and is unsubscribed")
    dialog.get_by_role("button", name="Cancel").click()
    expect(names(page)).to_have_text(["gone/1", "gone/2"])

    page.get_by_role("button", name="Delete gone/1").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(names(page)).to_have_text(["gone/2"])
    expect(page.get_by_role("button", name="Delete gone/2")).to_be_focused()
    expect(panel(page, "Topics")).to_contain_text("Deleted “gone/1”.")
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete").click()
    expect(names(page)).to_have_count(0)
    expect(page.get_by_role("searchbox", name="Name begins with")).to_be_focused()
    expect(state(other)).to_have_text("Connected")
    expect(topic_line(other, "gone/1")).to_have_count(0)
    other.close()


def test_a_name_that_browsers_cannot_send_is_explained(page: Page, server: Server) -> None:
    create(page, server, "..")
    visit(page, server, f"{VIEW}&q=..")
    page.get_by_role("button", name="Delete ..").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(panel(page, "Topics")).to_contain_text("A browser cannot ask for a topic named ..")


def test_a_server_out_of_reach_is_told_and_asked_again(page: Page) -> None:
    with serving() as first:
        create(page, first, "kept")
        visit(page, first, VIEW)
        expect(names(page)).to_have_text(["kept"])
        first.end(signal.SIGKILL)
        expect(panel(page, "Topics")).to_contain_text("No answer")
        expect(panel(page, "Topics")).to_contain_text("What is shown is old.")
        expect(names(page)).to_have_text(["kept"])
    with serving(first.port) as second:
        create(page, second, "new")
        expect(names(page)).to_have_text(["new"])
        expect(panel(page, "Topics")).not_to_contain_text("What is shown is old.")


def test_what_a_token_may_not_do_is_explained(browser: Browser) -> None:
    page = browser.new_page()
    with serving(JWT_SECRET=SECRET) as server:
        boss = f"Bearer {sign(manage=['#'])}"
        create(page, server, "chat/1", "orders", authorization=boss)
        page.goto(f"{server.url}/{VIEW}")
        view = panel(page, "Topics")
        expect(view).to_contain_text("You may manage none of these 2.")
        expect(view).to_contain_text("python server.py token --sub=ops --manage='#'")

        use_token(page, sign(manage=["chat/#"]))
        expect(names(page)).to_have_text(["chat/1"])
        view.get_by_label("New topic").fill("orders/1")
        view.get_by_role("button", name="Create").click()
        expect(view).to_contain_text("“orders/1” was not created: The token does not allow manage")
        assert (
            '"Authorization: Bearer $TOKEN"'
            in page.get_by_label("Code of what you did last").inner_text()
        )

        use_token(page, sign(-100))
        expect(view).to_contain_text("Token is not valid: it has expired")
        expect(names(page)).to_have_count(0)
        use_token(page, sign(manage=["#"]))
        expect(names(page)).to_have_text(["chat/1", "orders"])
    page.close()


def use_token(page: Page, token: str) -> None:
    page.get_by_role("banner").get_by_role("button").last.click()  # has the name of the user
    settings = page.get_by_role("dialog", name="Settings")
    settings.get_by_label("Token", exact=True).fill(token)
    settings.get_by_role("button", name="Use token").click()
    settings.get_by_role("button", name="Close").click()


def test_a_slow_list_is_asked_for_less_often(staged: Page, server: Server) -> None:
    asked: list[Route] = []
    staged.route(re.compile(r"/topics\?"), lambda route: asked.append(route))
    staged.goto(f"{server.url}/?view=nodes&topic=here")
    expect(state(staged)).to_have_text("Connected")
    stop_clock(staged)
    with staged.expect_request(re.compile(r"/topics\?")):
        staged.get_by_role("navigation").get_by_role("link", name="Topics").click()
    staged.clock.run_for(1_000)  # so long the server takes to answer
    asked[0].fulfill(json={"count": 0, "topics": {}})
    expect(panel(staged, "Topics")).to_contain_text("No topics yet.")
    staged.clock.run_for(15_000)
    assert len(asked) == 1
    with staged.expect_request(re.compile(r"/topics\?")):
        staged.clock.run_for(10_000)


@needs_npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_accessible_and_fits(browser: Browser, server: Server, scheme: str) -> None:
    for options in ({"viewport": PHONE, "has_touch": True}, {}):
        page = browser.new_page(**options, color_scheme=scheme)
        create(page, server, f"fits/{scheme}/{'long' * 50}{len(options)}")
        visit(page, server, f"{VIEW}&q=fits/{scheme}")
        expect(names(page).first).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        page.get_by_role("button", name="Delete").first.click()
        assert_accessible(page)
        page.close()
