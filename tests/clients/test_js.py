"""The JavaScript client in a real browser: with a real server, and with a double.

In the first part a proxy cuts, stalls and delays connections. In the second a double replaces the
page's WebSocket, and Playwright's clock sets the time.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page

from hub.settings import Settings
from hub.values import Rule
from tests.support.backstage import Backstage
from tests.support.browser import evaluate, needs_chromium
from tests.support.eventually import eventually
from tests.support.hurt import hurt
from tests.support.proxy import Proxy, proxy
from tests.support.server import Running, running
from tests.support.wire import SERVER, Wire, staged_page

pytestmark = needs_chromium

LARGE = Settings(history_rules={"": Rule(10_000, 60.0, 10_000_000)}, recovery_limit=10_000)
SMALL = replace(LARGE, history_rules={"": Rule(5, 60.0, 10_000_000)})
CUTS = 7  # so long a stream goes on
SOME = 100  # events of it at a time


@pytest.fixture
def warnings(page: Page) -> list[str]:
    """Collect the lines of the page's console."""
    said: list[str] = []

    def keep(message: Any) -> None:
        said.append(message.text)

    page.on("console", keep)
    return said


# --- Against a real server ------------------------------------------------------------------------


@pytest.fixture(params=["websocket", "sse"])
def via(request: pytest.FixtureRequest) -> str:
    """Return how the clients connect."""
    return str(request.param)


class Scene:
    """A server, a proxy in front, and the client in a page of another origin."""

    def __init__(
        self, backstage: Backstage, page: Page, settings: Settings, transport: str
    ) -> None:
        self.backstage = backstage
        self.server: Running = backstage.enter(running(settings))
        self.way: Proxy = backstage.enter(proxy(self.server.port))
        self.page = page
        page.goto(f"http://127.0.0.1:{self.way.port}/health")  # another port, another origin
        evaluate(
            page,
            """async ([server, way, transport]) => {
                Math.random = () => 0.02;  // very short pauses
                window.connect = (await import(`${server}/client.js`)).connect;
                const transports = [transport];
                window.open_one = (clientId) => connect(way, { clientId, transports });
                window.client = open_one("ann");
                window.other = open_one("bob");
                window.items = [];
                window.joined = 0;
                const onAck = () => { joined += 1; };
                window.news = client.subscribe("news", (item) => items.push(item), { onAck });
                window.shown = () => items.map(({ kind, payload }) => payload ?? kind);
                await news.ready();
            }""",
            [self.server.url, f"ws://127.0.0.1:{self.way.port}/ws", transport],
        )

    def js(self, script: str, argument: Any = None) -> Any:
        return evaluate(self.page, script, argument)

    def act(self, act: Any, *arguments: Any) -> None:
        """Call a method of the proxy in its own thread."""

        async def run() -> None:
            act(*arguments)

        self.backstage.run(run())

    def until(self, condition: str) -> None:
        self.page.wait_for_function(condition, polling=20)

    def until_left(self) -> None:
        """Wait until the server has no subscribers."""
        self.backstage.run(eventually(lambda: not self.server.topics()["news"]))


def test_every_event_arrives_once_and_in_order_despite_network_faults(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, LARGE, via)
    wounds: list[str] = []
    backstage.start(hurt(it.way, 3, wounds, 0.15))
    it.js(
        """() => {
            window.acks = [];
            window.publish = async (from, to) => {
                const under_way = new Set();
                for (let n = from; n < to; n++) {
                    const publishing = other.publish("news", n).then((ack) => (acks[n] = ack));
                    under_way.add(publishing);
                    publishing.finally(() => under_way.delete(publishing));
                    if (under_way.size >= 20) await Promise.race(under_way);
                }
                await Promise.all(under_way);
            };
        }"""
    )
    count = 0
    while wounds.count("cut") < CUTS:
        it.js("([from, to]) => publish(from, to)", [count, count + SOME])
        count += SOME
    it.js("other.publish('news', 'end')")
    it.until("items.at(-1)?.payload === 'end'")
    assert it.js("shown()") == [*range(count), "end"]
    # Each was carried out once: its place is its number, whatever was sent twice.
    assert it.js("acks.map((ack) => ack.offset)") == list(range(1, count + 1))


def test_losses_beyond_the_history_and_by_a_restart_are_reported(
    backstage: Backstage, page: Page, via: str, warnings: list[str]
) -> None:
    it = Scene(backstage, page, SMALL, via)
    it.js(
        "window.direct = connect(`ws://127.0.0.1:${port}/ws`)".replace(
            "${port}", str(it.server.port)
        )
    )
    first = 0
    shown: list[Any] = []
    for times, away in enumerate((3, 6, 5), start=1):
        it.way.shut = True
        it.act(it.way.cut)
        it.until_left()
        numbers = list(range(first, first + away))
        it.js("(numbers) => Promise.all(numbers.map((n) => direct.publish('news', n)))", numbers)
        it.way.shut = False
        it.js("client.retry()")
        shown += ["lost"] if away > 5 else numbers
        it.until(f"joined === {times + 1} && shown().length === {len(shown)}")
        first += away
    assert it.js("shown()") == shown
    assert [text for text in warnings if "lost: " in text] == [
        "news: lost: what was published meanwhile, which the server has forgotten"
    ]

    before = it.js("news.position")
    second = backstage.enter(running(SMALL))
    it.way.target = second.port
    it.act(it.way.cut)
    it.until(f"news.position.epoch !== '{before['epoch']}'")
    it.js("client.publish('news', 'new')")
    it.until("shown().at(-1) === 'new'")
    assert it.js("shown()") == [*shown, "lost", "new"]
    assert it.js("items.at(-1).offset") == 1


def test_a_publish_whose_ack_was_lost_is_published_once(
    backstage: Backstage, page: Page, via: str
) -> None:
    it = Scene(backstage, page, LARGE, via)
    it.js("(url) => { window.direct = connect(url); window.heard = [] }", it.server.ws)
    it.js("direct.subscribe('news', (item) => heard.push(item.payload)).ready()")
    it.way.mute = True
    it.js("window.publishing = client.publish('news', 1); 0")
    it.until("heard.length === 1")

    def cut_before_the_ack_has_passed() -> None:
        it.way.mute = False
        it.way.cut()

    it.act(cut_before_the_ack_has_passed)
    assert it.js("publishing.then((ack) => ack.duplicate)") is True
    it.js("client.publish('news', 2)")
    it.until("heard.length === 2 && shown().length === 2")
    assert it.js("[heard, shown()]") == [[1, 2], [1, 2]]


def test_closing_the_client_ends_the_connection(backstage: Backstage, page: Page, via: str) -> None:
    it = Scene(backstage, page, LARGE, via)
    script = """async () => {
        const publishing = client.publish("news", 1);
        client.close(); other.close();
        return await publishing.catch((error) => error.code);
    }"""
    assert it.js(script) == "CLOSED"
    backstage.run(eventually(lambda: not it.server.hub.clients))


# --- Word by word ---------------------------------------------------------------------------------

GONE = "Topic has been deleted"
REFUSED = "{ onRefused: (error) => items.push({ kind: error.code }) }"


@pytest.fixture(scope="module")
def staged(browser: Browser) -> Page:
    return staged_page(browser)


@pytest.fixture
def wire(staged: Page) -> Wire:
    made = Wire(staged)
    made.open()
    return made


def test_a_reconnect_recovers_from_the_position(wire: Wire) -> None:
    assert wire.js("Double.all[0].url") == "ws://server.example/ws?client_id=ann"
    wire.subscribe(epoch="a", offset=5)
    wire.event("six", 6)
    assert wire.js("items[0]") == {
        "kind": "event",
        "topic": "news",
        "id": "m",
        "payload": "six",
        "ts": "T",
        "offset": 6,
    }
    assert wire.js("news.position") == {"epoch": "a", "offset": 6}
    wire.end(1001, "going_away")
    wire.reopen()
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 6}
    wire.event("of nobody", 7)
    wire.ack(command, epoch="a", offset=7, recovered=True)
    for offset in (6, 7, 7, 8):
        wire.event(offset, offset)
    assert wire.shown() == ["six", 7, 8]
    why = "waiting: the server went away (1001 going_away)"
    assert wire.js("states") == ["connecting", "open", why, "connecting", "open"]


def test_losses_are_reported_in_their_place(wire: Wire) -> None:
    wire.subscribe(epoch="a", offset=1)
    wire.event(2, 2)
    wire.event(4, 4)  # a hole that the server has not reported
    wire.info({"reason": "GAP", "epoch": "b", "offset": 1})
    wire.event("b2", 2)
    wire.info({"reason": "GAP", "dropped": 2, "epoch": "b", "offset": 4})
    wire.event("b3", 3)
    wire.event("b5", 5)
    assert wire.js("items.filter((it) => it.kind === 'lost').map((it) => it.count)") == [1, None, 2]
    wire.info({"reason": "GAP", "epoch": "b", "offset": 2})
    wire.event("b5", 5)
    wire.event("b6", 6)
    assert wire.shown() == [2, "lost", 4, "lost", "b2", "lost", "b5", "lost", "b6"]
    for ack in ({"epoch": "c", "offset": 9, "recovered": False}, {"recovered": False}, {}):
        wire.end(1006)
        wire.reopen()
        wire.ack(wire.heard()[0], **ack)
    assert wire.shown()[-3:] == ["lost", "lost", "lost"]
    assert wire.js("news.position") is None
    wire.info({"reason": "GAP", "dropped": 3})
    wire.event("without a place")
    assert wire.shown()[-2:] == ["lost", "without a place"]


def test_last_n_and_saved_positions(wire: Wire) -> None:
    wire.js("window.news = client.subscribe('news', keep, { lastN: 10 }); 0")
    (command,) = wire.heard()
    assert command["last_n"] == 10
    wire.ack(command, epoch="a", offset=50)
    assert wire.js("news.position") is None
    for top in (55, 70):
        wire.end(1001)  # before any of the ten has come
        wire.reopen()
        (command,) = wire.heard()
        assert command["last_n"] == 10
        assert "recover" not in command
        wire.ack(command, epoch="a", offset=top)
    for offset in (61, 62, 62):
        wire.event(offset, offset)
    wire.end(1001)
    wire.reopen()
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 62}
    wire.ack(command, epoch="a", offset=62, recovered=True)
    wire.js("client.subscribe('short', keep, { lastN: 10 }); 0")
    wire.ack(wire.heard()[0], epoch="a", offset=50)
    wire.event(48, 48, "short")
    wire.event(49, 49, "short")
    wire.js("client.subscribe('old', keep, { recover: { epoch: 'a', offset: 3 } }); 0")
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 3}
    wire.ack(command, epoch="b", offset=5, recovered=False)
    assert wire.shown() == ["lost", 61, 62, 48, 49, "lost"]
    with pytest.raises(Error, match="not both"):
        wire.js("client.subscribe('both', keep, { lastN: 1, recover: news.position })")


def test_last_n_of_a_topic_without_events_is_complete_with_the_ack(wire: Wire) -> None:
    wire.subscribe(options="{ lastN: 2 }", epoch="a", offset=0)
    assert wire.js("news.position") == {"epoch": "a", "offset": 0}
    wire.end(1001)
    wire.reopen()
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 0}
    assert "last_n" not in command
    wire.ack(command, epoch="a", offset=5, recovered=True)
    wire.event(1, 1)
    assert wire.shown() == [1]


def test_ready_fails_for_a_subscription_closed_before_the_ack(wire: Wire) -> None:
    wire.subscribe()
    wire.js("news.close(); settle(news.ready().then(() => 'acked')); 0")
    wire.js("for (const it of ['closed', 'left']) settle(client.subscribe(it).ready()); 0")
    wire.js("client.subscribe('none', keep, { lastN: null, recover: null }).close()")
    wire.js("client.close()")
    assert wire.outcomes() == ["acked", "CLOSED", "CLOSED"]


def test_last_n_may_begin_with_a_gap(wire: Wire) -> None:
    wire.subscribe(options="{ lastN: 10 }", epoch="a", offset=50)
    wire.info({"reason": "GAP", "epoch": "a", "offset": 48})
    assert wire.js("news.position") == {"epoch": "a", "offset": 48}
    for offset in (48, 49, 50, 51):
        wire.event(offset, offset)
    assert wire.shown() == ["lost", 49, 50, 51]


def test_last_n_of_another_epoch_follows_the_loss(wire: Wire) -> None:
    wire.subscribe(options="{ lastN: 2 }", epoch="a", offset=50)
    wire.end(1001)
    wire.reopen()
    wire.ack(wire.heard()[0], epoch="b", offset=9)
    wire.event(8, 8)
    wire.event(9, 9)
    assert wire.shown() == ["lost", 8, 9]
    wire.subscribe("plain", "{ lastN: 2 }")  # a topic without a history
    wire.end(1001)
    wire.reopen()
    assert "last_n" not in wire.heard()[1]


def test_events_before_the_ack_belong_to_an_earlier_subscription(wire: Wire) -> None:
    wire.subscribe(epoch="a", offset=1)
    again = "news.close(); window.news = client.subscribe('news', keep, {}); 0"
    wire.js(again.replace("{}", "{ recover: news.position }"))
    wire.event("old", 2)
    wire.info(GONE)
    wire.js(again.replace("{}", "{ lastN: 1 }"))
    commands = wire.heard()
    kinds = ["unsubscribe", "subscribe", "unsubscribe", "subscribe"]
    assert [command["type"] for command in commands] == kinds
    wire.ack(commands[1], epoch="a", offset=2, recovered=True)
    wire.event("not yet", 2)
    wire.js(again.replace("{}", "{ lastN: 1 }"))
    wire.refuse(commands[3], "INVALID_TOPIC")  # for a subscription that is closed by now
    wire.ack(wire.heard()[1], epoch="a", offset=2)
    wire.event("now", 2)
    assert wire.shown() == ["now"]


def test_the_ack_of_an_unsubscribe_is_none_of_the_next_subscription(wire: Wire) -> None:
    wire.subscribe()
    wire.js("news.close(); window.news = client.subscribe('news', keep); 0")
    unsubscribe, subscribe = wire.heard()
    assert "request_id" not in unsubscribe
    wire.say("ack", topic="news", status="ok")
    wire.event("not yet")
    wire.ack(subscribe)
    wire.event("now")
    assert wire.shown() == ["now"]


def test_the_subscriptions_of_a_topic_share_one_on_the_wire(wire: Wire) -> None:
    wire.js("window.one = client.subscribe('news', keep); window.two = client.subscribe('news'); 0")
    (command,) = wire.heard()
    wire.ack(command, epoch="a", offset=5)
    wire.js("window.late = []; window.three = client.subscribe('news', (it) => late.push(it)); 0")
    wire.js("settle(Promise.all([one, two, three].map((it) => it.ready())).then(() => 'all'))")
    assert wire.outcomes() == ["all"]
    wire.event("six", 6)
    assert wire.js("[one.position.offset, two.position.offset]") == [6, 5], "each has its own"
    wire.end(1001)
    wire.reopen()
    (command,) = wire.heard()
    assert command["recover"] == {"epoch": "a", "offset": 6}
    wire.ack(command, epoch="b", offset=1)
    wire.js("one.close()")
    wire.event("two", 2)
    assert wire.shown() == ["six", "lost"]
    assert wire.js("late.map((it) => it.payload ?? it.kind)") == ["six", "lost", "two"]
    taken = "async () => { const it = (await two.next()).value; return it.payload ?? it.kind; }"
    assert [wire.js(taken) for _ in range(3)] == ["six", "lost", "two"]
    wire.js("three.close()")
    assert wire.heard() == []
    wire.js("two.close(); client.subscribe('news'); 0")
    assert [command["type"] for command in wire.heard()] == ["unsubscribe", "subscribe"]


@pytest.mark.parametrize("acked", [True, False], ids=["acked", "asked"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{}", [7, 8]),
        ("{ lastN: 2 }", ["lost", 7, 8]),
        ("{ recover: { epoch: 'a', offset: 4 } }", ["lost", 7, 8]),
        ("{ recover: { epoch: 'z', offset: 9 } }", ["lost", 7, 8]),
        ("{ recover: { epoch: 'a', offset: 6 } }", [7, 8]),
        ("{ recover: { epoch: 'a', offset: 7 } }", [8]),
    ],
    ids=["nothing", "the newest", "behind", "another epoch", "nothing missing", "ahead"],
)
def test_a_later_subscription_begins_at_the_current_position(
    wire: Wire, options: str, expected: list[Any], acked: bool
) -> None:
    wire.js("client.subscribe('news', () => {}, { lastN: 1 }); 0")
    (command,) = wire.heard()
    if acked:
        wire.ack(command, epoch="a", offset=6)
    wire.js(f"window.later = client.subscribe('news', keep, {options}); items.length")
    wire.js("window.same = client.subscribe('news', null, { lastN: 1 }); 0")
    if not acked:
        wire.ack(command, epoch="a", offset=6)
    wire.js("settle(later.ready().then(() => 'acked')); 0")
    assert wire.outcomes() == ["acked"]
    for offset in (6, 7, 8):
        wire.event(offset, offset)
    assert wire.shown() == expected
    assert wire.js("later.position.offset") == 8
    first = "same.next().then(({ value }) => value.payload ?? value.kind)"
    assert wire.js(first) == ("lost" if acked else 6)


def test_a_later_subscription_gets_no_callback_before_it_is_returned(wire: Wire) -> None:
    wire.subscribe(epoch="a", offset=6)
    wire.js("""() => {
        client.subscribe('news', keep, { lastN: 1 });
        items.push({ kind: "made" });
        client.subscribe('news', keep, { lastN: 1 }).close();
    }""")
    assert wire.shown() == ["made", "lost"]


def test_callbacks_may_close_and_subscribe(wire: Wire) -> None:
    wire.js("""() => {
        window.again = [];
        const both = (item) => {
            keep(item);
            if (item.kind === "event" && item.payload !== 1) return;
            client.subscribe("news", (it) => again.push(it.payload ?? it.kind));
            if (item.kind === "deleted") other.close();
        };
        client.subscribe("news", both);
        window.other = client.subscribe("news", both);
    }""")
    wire.ack(wire.heard()[0])
    wire.event(1)
    wire.event(2)
    assert wire.shown() == [1, 1, 2, 2]
    assert wire.js("again.splice(0)") == [2, 2]
    wire.info(GONE)
    assert wire.shown()[4:] == ["deleted"]
    (command,) = wire.heard()
    assert command["type"] == "subscribe"
    wire.ack(command)
    wire.event(3)
    assert wire.js("again") == ["deleted", "deleted", 3]


def test_a_subscription_closed_by_a_callback_gets_no_ack(wire: Wire) -> None:
    wire.js("""() => {
        client.subscribe("news", keep, { onAck: () => two.close() });
        window.two = client.subscribe("news", keep, { onAck: keep });
        settle(two.ready());
    }""")
    wire.ack(wire.heard()[0])
    assert wire.shown() == []
    assert wire.outcomes() == ["CLOSED"]


def test_a_refusal_ends_every_subscription_of_the_topic(wire: Wire) -> None:
    wire.js(f"for (let n = 0; n < 2; n++) client.subscribe('', keep, {REFUSED}); 0")
    wire.refuse(wire.heard()[0], "INVALID_TOPIC")
    assert wire.shown() == ["INVALID_TOPIC", "INVALID_TOPIC"]


@pytest.mark.parametrize(
    "deleted", [{"payload": "in other words", "reason": "TOPIC_DELETED"}, {"payload": GONE}]
)
@pytest.mark.parametrize("gap", [{"payload": {}, "reason": "GAP"}, {"payload": {"reason": "GAP"}}])
def test_infos_are_recognised_by_their_reason(
    wire: Wire, deleted: dict[str, Any], gap: dict[str, Any]
) -> None:
    wire.subscribe(epoch="a", offset=1)
    wire.info("something new")
    wire.say("info", topic="news", reason="NEW")
    wire.say("info", reason="NEW")
    wire.info(GONE, reason="NEW")
    wire.info(**gap)
    wire.event(2, 2)
    wire.info(**deleted)
    assert wire.shown() == ["lost", 2, "deleted"]


def test_a_temporary_refusal_is_retried_and_a_final_one_is_reported(wire: Wire) -> None:
    wire.subscribe(options=REFUSED, epoch="a", offset=1)
    wire.end(1001)
    wire.reopen()
    for _ in range(2):
        (command,) = wire.heard()
        assert command["recover"] == {"epoch": "a", "offset": 1}
        wire.refuse(command, "UNAVAILABLE")
        wire.page.clock.run_for(2_000)
    wire.ack(wire.heard()[0], epoch="a", offset=1, recovered=True)
    wire.end(1001)
    wire.reopen()
    for _ in range(4):
        wire.refuse(wire.heard()[0], "UNAVAILABLE")
        wire.page.clock.run_for(5_000)
    wire.refuse(wire.heard()[0], "UNAVAILABLE")  # 4 s until it would be asked again
    wire.end(1001)
    wire.page.clock.run_for(300)
    wire.open()
    wire.page.clock.run_for(5_000)
    (command,) = wire.heard()  # and not another one
    wire.refuse(command, "INVALID_TOPIC")
    assert wire.shown() == ["INVALID_TOPIC"]
    wire.js("settle(client.subscribe('news').ready()); 0")
    wire.refuse(wire.heard()[0], "INVALID_TOPIC")
    assert wire.outcomes() == ["INVALID_TOPIC"]


def test_subscribes_over_the_rate_are_repeated_one_at_a_time(wire: Wire) -> None:
    wire.js("for (const topic of 'abc') client.subscribe(topic, keep); 0")
    for command in wire.heard():
        wire.refuse(command, "RATE_LIMITED", retry_after_ms=200)
    for topic in "abc":
        wire.page.clock.run_for(150)
        assert wire.heard() == []
        wire.page.clock.run_for(50)
        (command,) = wire.heard()
        assert command["topic"] == topic
        wire.ack(command)
    wire.page.clock.run_for(2_000)
    assert wire.heard() == []


def test_a_publish_over_the_rate_is_refused_with_the_time_to_wait(wire: Wire) -> None:
    wire.js("window.refused = null; client.publish('news', 1).catch((e) => (refused = e)); 0")
    (command,) = wire.heard()
    wire.refuse(command, "RATE_LIMITED", retry_after_ms=200)
    assert wire.js("[refused.code, refused.retryAfterMs]") == ["RATE_LIMITED", 200]


def test_a_new_connection_replaces_the_subscribes_to_be_repeated(wire: Wire) -> None:
    wire.js("for (const topic of 'ab') client.subscribe(topic, keep); 0")
    for command in wire.heard():
        wire.refuse(command, "RATE_LIMITED", retry_after_ms=5_000)
    wire.end(1013)
    wire.reopen()
    assert [command["topic"] for command in wire.heard()] == ["a", "b"]
    wire.page.clock.run_for(8_000)
    assert wire.heard() == []


def test_a_deleted_topic_ends_its_subscription_and_no_other(wire: Wire) -> None:
    wire.subscribe(epoch="a", offset=1)
    wire.subscribe("other")
    wire.info({"something": "new"})
    wire.info("Topic has been deleted")
    wire.event("late", 2)
    wire.event("still", topic="other")
    assert wire.shown() == ["deleted", "still"]
    wire.end(1001)
    wire.reopen()
    assert [command["topic"] for command in wire.heard()] == ["other"]


def test_a_slow_iterator_loses_the_oldest_items_and_delays_no_other(wire: Wire) -> None:
    wire.js("window.slow = client.subscribe('slow'); settle(client.publish('other', 1)); 0")
    subscribing, publishing = wire.heard()
    wire.ack(subscribing, epoch="a", offset=0)
    flood = """() => {
        for (let n = 1; n <= 1003; n++) {
            const message = { id: "m", payload: n };
            Double.all.at(-1).say({ type: "event", topic: "slow", offset: n, message });
        }
    }"""
    wire.js(flood)
    wire.ack(publishing)
    assert [outcome["status"] for outcome in wire.outcomes()] == ["ok"]
    (lost, position, first, rest) = wire.js(
        """async () => {
            const lost = (await slow.next()).value, position = slow.position;
            const first = (await slow.next()).value;
            let rest = 0;
            for await (const item of slow) if (++rest && item.payload === 1003) break;
            return [lost, position, first, rest];
        }"""
    )
    assert (lost["kind"], lost["count"], position) == ("lost", 3, {"epoch": "a", "offset": 0})
    assert (first["payload"], rest) == (4, 999)
    assert [command["type"] for command in wire.heard()] == ["unsubscribe"]  # the loop was left
    # Leaving does not wait for an item that may never come.
    wire.js("window.idle = client.subscribe('idle'); settle(idle.next()); settle(idle.return()); 0")
    assert [outcome["done"] for outcome in wire.outcomes()] == [True, True]


def test_a_failing_callback_affects_no_other(wire: Wire) -> None:
    wire.js("window.onunhandledrejection = () => outcomes.push('unhandled'); 0")
    wire.js("window.fail = () => { throw 'oops'; }; 0")
    wire.js("client.subscribe('', keep, { onRefused: fail }); 0")
    wire.refuse(wire.heard()[0], "INVALID_TOPIC")
    wire.subscribe("acked", "{ onAck: fail }")
    wire.js("client.subscribe('news', (it) => { keep(it); if (it.payload === 1) throw 1; }); 0")
    wire.ack(wire.heard()[0])
    wire.event(1)
    wire.event(2)
    wire.js("client.subscribe('late', async (it) => { keep(it); throw 'oops'; }); 0")
    wire.ack(wire.heard()[0])
    wire.event(3, topic="late")
    wire.js("client.subscribe('once', (it) => { keep(it); client.close(); }); 0")
    wire.ack(wire.heard()[0], epoch="a", offset=0)
    wire.event("hole, and left at once", 3, "once")
    assert wire.shown() == [1, 2, 3, "lost"]
    assert wire.outcomes() == []


def test_unanswered_publishes_are_repeated_in_order_with_their_keys(wire: Wire) -> None:
    wire.js("settle(client.publish('news', 1)); 0")
    wire.js("settle(client.publish('news', 2, { key: 'mine' })); 0")
    commands = wire.heard()
    assert commands[1]["idempotency_key"] == "mine"
    assert len(commands[0]["idempotency_key"]) == 32
    wire.end(1013, "slow_consumer")
    wire.js("settle(client.publish('news', 3)); 0")
    wire.reopen()
    again = wire.heard()
    assert again[:2] == commands
    wire.ack(again[0], duplicate=True)
    wire.refuse(again[1], "TOPIC_NOT_FOUND")
    wire.ack(again[2])
    first, second, third = wire.outcomes()
    assert (first["duplicate"], second, third["status"]) == (True, "TOPIC_NOT_FOUND", "ok")
    wire.end(1006)
    wire.reopen()
    assert wire.heard() == []


def test_nothing_is_sent_while_the_connection_is_closing(wire: Wire) -> None:
    """Chromium would log an error."""
    wire.js("Double.all[0].readyState = 2; 0")
    wire.js("settle(client.publish('news', 1)); client.subscribe('news'); 0")
    assert wire.heard() == []
    wire.end(1001)
    wire.reopen()
    assert [command["type"] for command in wire.heard()] == ["subscribe", "publish"]


def test_invalid_payloads_fail_in_the_client(wire: Wire) -> None:
    wire.js(
        r"""() => {
            const nested = (levels) => (levels > 1 ? [nested(levels - 1)] : []);
            let deepest = [];
            for (let n = 0; n < 100_000; n++) deepest = [deepest];
            const deep = [nested(251), deepest, { "[": nested(251) }];
            const wrong = ["\ud800", { "\udfff": 1 }, "\\\ud800", 1n, ...deep];
            const fine = ["\\ud800", "\ud83d\ude00", '\\"['.repeat(300), "[".repeat(1_000_000)];
            fine.push(nested(250), Array(300).fill([[]]));
            const told = (promise) => promise.catch(() => outcomes.push("refused"));
            for (const payload of [...wrong, ...fine]) told(client.publish("news", payload));
            for (const topic of ["\ud800", 1n]) told(client.publish(topic, 1));
            told(client.publish("news", 1, { key: "\ud800" }));
            window.wrong = wrong.length + 3;
            const sent = Double.all[0].sent.filter((it) => it.type === "publish");
            window.same = JSON.stringify(fine) === JSON.stringify(sent.map((it) => it.payload));
        }"""
    )
    assert wire.js("same"), "these have been sent, and only these"
    assert wire.outcomes() == ["refused"] * wire.js("wrong")
    for wrong in (r"'\ud800'", "1n", r"'old', keep, { recover: { epoch: '\ud800', offset: 1 } }"):
        with pytest.raises(Error, match="TypeError"):
            wire.js(f"client.subscribe({wrong})")
    assert wire.js("client.subscribe('old'); Double.all[0].sent.at(-1).topic") == "old"


def test_a_subscribe_may_be_too_big(wire: Wire) -> None:
    wire.js("settle(client.publish('news', 'x')); client.subscribe('x'.repeat(1000)); 0")
    wire.end(1009, "too_big")
    wire.reopen()
    assert [command["type"] for command in wire.heard()] == ["publish"]
    assert wire.outcomes() == []


def test_publishing_has_bounds(wire: Wire) -> None:
    wire.js("for (let n = 0; n <= 1000; n++) settle(client.publish('news', 'x'.repeat(n))); 0")
    assert wire.outcomes() == ["BUSY"]
    wire.end(1009, "too_big")
    assert wire.outcomes() == ["TOO_BIG"]
    wire.reopen()
    sent = wire.heard()
    assert [len(command["payload"]) for command in sent] == list(range(999))
    wire.end(1006)
    wire.page.clock.run_for(300_000)
    wire.open()
    assert wire.outcomes() == ["UNKNOWN"] * 999
    assert wire.heard() == []


@pytest.mark.parametrize("code", [1002, 1007, 1008, 3003])
def test_a_final_refusal_ends_the_client_and_is_reported(wire: Wire, code: int) -> None:
    wire.subscribe(options=REFUSED)
    wire.js("window.it = client.subscribe('iterated'); settle(it.next()); settle(it.ready()); 0")
    wire.js("settle(client.publish('news', 1)); 0")
    wire.end(code, "word")
    assert wire.outcomes() == ["REFUSED"] * 3
    wire.js("settle(client.publish('news', 2)); client.close(); client.retry()")
    assert wire.outcomes() == ["REFUSED"]
    with pytest.raises(Error, match="REFUSED"):
        wire.js("client.subscribe('other')")
    assert wire.shown() == ["REFUSED"]
    wire.page.clock.run_for(60_000)
    assert wire.connections == 1
    assert wire.js("states.at(-1)") == "closed"


def test_a_silent_connection_is_detected(wire: Wire) -> None:
    wire.subscribe()
    wire.say("pong")
    wire.page.clock.run_for(24_000)
    assert wire.connections == 1
    wire.page.clock.run_for(11_500)  # an unanswered ping at 25 s
    assert wire.js("Double.all[0].closed")
    assert wire.connections == 2
    late = "{ type: 'event', topic: 'news', message: { payload: 'of before' } }"
    wire.js(f"Double.all[0].say({late})")
    wire.page.clock.run_for(10_500)  # a connect that hangs
    assert wire.js("Double.all[1].closed")
    wire.page.clock.run_for(1_000)
    wire.open()
    wire.js("Double.all[1].onopen(); Double.all[1].onclose({ code: 1008, reason: '' })")
    (command,) = wire.heard()
    wire.ack(command)
    wire.event("hello")
    assert wire.shown() == ["lost", "hello"]
    wire.page.clock.run_for(5_000)
    wire.js("[...listeners][0]()")  # the network is another: it is asked at once
    wire.page.clock.run_for(10_500)
    assert wire.connections == 4


def test_pauses_have_full_jitter_and_can_be_cut_short(wire: Wire) -> None:
    pauses = []
    wire.js(
        """() => {
            window.waits = [];
            const original = setTimeout;
            window.setTimeout = (act, ms) => { waits.push(ms); return original(act, ms); };
        }"""
    )
    for _ in range(8):
        wire.end(1006)
        pauses.append(wire.js("waits.at(-1)"))
        wire.js("client.retry()")
    assert pauses == [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]
    wire.open()
    wire.say("pong")
    wire.page.clock.run_for(11_000)
    wire.end(1006)
    assert wire.js("waits.at(-1)") == 250


def test_the_state_can_be_read_and_followed(staged: Page) -> None:
    wire = Wire(staged)
    wire.js("""() => {
        window.seen = [];
        window.see = (state, { why, attempt, ms, error }) =>
            seen.push([state, client.state, why ?? error?.code, attempt, ms]);
        window.remove = client.onState(see);
        window.removeSecond = client.onState(see);
        client.onState(() => { throw "oops"; });
    }""")
    assert wire.js("client.state") == "connecting"
    wire.open()
    wire.js("removeSecond()")
    wire.end(1013, "overloaded")
    wire.js("removeSecond(); client.retry(); Double.all.at(-1).onclose({ code: 3003, reason: '' })")
    why = "too slow, or the server is overloaded (1013 overloaded)"
    assert wire.js("seen") == [
        ["open", "open", None, None, None],
        ["open", "open", None, None, None],
        ["waiting", "waiting", why, 1, 250],
        ["connecting", "connecting", None, None, None],
        ["closed", "closed", "REFUSED", None, None],
    ]
    wire.js("window.client = connect('ws://server.example/ws'); remove = client.onState(see); 0")
    wire.js("remove(); client.onState(see); client.close()")
    assert wire.js("seen.slice(5)") == [["closed", "closed", None, None, None]]


def test_ready_waits_for_the_connection(staged: Page) -> None:
    wire = Wire(staged)
    wire.js("""() => {
        window.told = [];
        const fail = ({ message }) => told.push(message);
        const tell = (promise) => promise.then(() => told.push("ready"), fail);
        window.wait = () => {
            tell(client.ready());
            tell(client.ready({ timeout: 1500 }));
            tell(client.ready({ timeout: null }));
        };
        wait();
    }""")
    wire.page.clock.run_for(2_000)
    late = f"TIMEOUT: no connection to {SERVER} within 1.5 s: "
    assert wire.js("told.splice(0)") == [f"{late}the server has not answered"]
    wire.open()
    assert wire.js("told.splice(0)") == ["ready", "ready"]
    wire.js("wait()")
    assert wire.js("told.splice(0)") == ["ready"] * 3
    wire.end(1013)
    wire.js("wait()")
    for _ in range(5):
        wire.page.clock.run_for(2_000)
        if wire.js("client.state") == "connecting":
            wire.end(1013)
    why = "too slow, or the server is overloaded (1013)"
    ten = f"TIMEOUT: no connection to {SERVER} within 10 s: {why}"
    assert wire.js("told.splice(0)") == [f"{late}{why}", ten]
    wire.js("client.retry(); wait(); client.close(); wait()")
    assert wire.js("told.splice(0)") == ["CLOSED: the client was closed"] * 7


def test_a_publish_may_have_a_limit_and_is_not_sent_again(wire: Wire) -> None:
    wire.js("""() => {
        window.told = [];
        client.publish("news", 1, { timeout: 500 }).catch(({ message }) => told.push(message));
        settle(client.publish("news", 2, { timeout: 500 }));
    }""")
    first, second = wire.heard()
    wire.ack(second)
    wire.page.clock.run_for(600)
    text = "TIMEOUT: news: no answer to a publish within 0.5 s; it may have been carried out"
    assert wire.js("told") == [text]
    wire.ack(first)  # too late
    wire.end(1006)
    wire.reopen()
    assert wire.heard() == []
    assert [outcome["status"] for outcome in wire.outcomes()] == ["ok"]


def test_the_end_can_be_awaited(staged: Page) -> None:
    wire = Wire(staged)
    wire.js("settle(client.ended().then(() => 'closed')); client.close()")
    assert wire.outcomes() == ["closed"]
    wire = Wire(staged)
    wire.js("settle(client.ended()); 0")
    wire.end(1008)
    assert wire.outcomes() == ["REFUSED"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("{ headers: { a: 'b' } }", "TypeError: headers: a page cannot set the headers"),
        ("{ tls: { ca: 'x' } }", "TypeError: tls: it needs the package ws"),
        ("{ transports: [] }", 'TypeError: transports must be a list of "websocket" and "sse"'),
        ("{ transports: ['tcp'] }", "TypeError: transports must be a list"),
        ("{ transports: 'sse' }", "TypeError: transports must be a list"),
        (
            "{ clientid: 'ann' }",
            "TypeError: connect has no option clientid: it has clientId, token",
        ),
        ("'ann'", "TypeError: connect: the options must be an object"),
    ],
)
def test_options_that_cannot_work_are_errors(wire: Wire, options: str, error: str) -> None:
    with pytest.raises(Error, match=error):
        wire.js(f"connect('ws://server.example/ws', {options})")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("subscribe('news', { lastN: 3 })", "subscribe: the callback must be a function"),
        ("subscribe('news', null, { lastn: 3 })", "subscribe has no option lastn: it has lastN"),
        ("publish('news', 1, { idempotencyKey: 'k' })", "publish has no option idempotencyKey"),
        ("publishBatch([], 500)", "publishBatch: the options must be an object"),
        ("publishBatch([{ topik: 'news' }])", "an item of publishBatch has no option topik"),
        ("history('news', { since_offset: 3 })", "history has no option since_offset"),
        ("topics({ prefixes: 'a' })", "topics has no option prefixes"),
        ("ready(500)", "ready: the options must be an object"),
        ("subscribe('news').ready({ time: 500 })", "ready has no option time: it has timeout"),
    ],
)
def test_misspelled_options_of_calls_are_errors(wire: Wire, call: str, error: str) -> None:
    """Without an error, a call would do something else than its author thinks."""
    with pytest.raises(Error, match=f"TypeError: {error}"):
        wire.js(f"client.{call}")


@pytest.mark.parametrize(
    "url",
    ["server.example/ws", "server.example:8080/ws", "ftp://server.example/ws", "ws:///", ""],
)
def test_an_address_that_is_none_is_an_error(wire: Wire, url: str) -> None:
    with pytest.raises(Error, match="TypeError: url must be like ws://localhost:8080/ws, and not"):
        wire.js("(url) => connect(url)", url)


def test_the_error_of_an_address_has_no_secret(wire: Wire) -> None:
    with pytest.raises(Error, match=r"and not 'server\.example/ws'") as caught:
        wire.js("connect('ann:sesame@server.example/ws?access_token=sesame')")
    assert "sesame" not in str(caught.value).partition("\n")[0]


def test_ready_of_a_subscription_may_have_a_limit(wire: Wire) -> None:
    wire.js("""() => {
        window.told = [];
        const fail = ({ message }) => told.push(message);
        const tell = (promise) => promise.then(() => told.push("acked"), fail);
        const news = client.subscribe("news");
        tell(news.ready({ timeout: 500 }));
        tell(news.ready());
    }""")
    wire.page.clock.run_for(600)
    assert wire.js("told") == ["TIMEOUT: news: no ack of the server within 0.5 s"]
    wire.ack(wire.heard()[0])
    assert wire.js("told.slice(1)") == ["acked"]


CLOSES = [
    (3000, "token_expired"),
    (3000, "disconnected"),
    (3000, "new"),
    (3008, "new"),
    (3008, "message_timeout"),
]
CLOSES += [(1013, "rate_limited"), (1013, "overloaded"), (1013, "new"), (4999, "new"), (1001, "")]


@pytest.mark.parametrize(("code", "word"), CLOSES)
def test_the_client_reconnects_after_any_other_close(wire: Wire, code: int, word: str) -> None:
    wire.subscribe()
    wire.end(code, word)
    assert f"({code} {word}".strip() in wire.js("states.at(-1)")
    wire.reopen()
    assert wire.heard()[0]["topic"] == "news"


def test_after_a_shutdown_the_client_reconnects_within_the_given_span(wire: Wire) -> None:
    goodbye = {"id": "shutdown_1", "payload": "Server is shutting down."}
    span = {"min_ms": 1_000, "max_ms": 31_000}
    wire.say("info", reason="SHUTDOWN", message=goodbye, reconnect=span)
    wire.end(1001, "going_away")
    wire.page.clock.run_for(15_900)  # Math.random() is 0.5
    assert wire.connections == 1
    wire.page.clock.run_for(200)
    assert wire.connections == 2
    wire.end(1006)  # the span was for once: now it is 500 ms, half of the second pause
    wire.page.clock.run_for(600)
    assert wire.connections == 3
    wire.open()
    wire.say("info", message=goodbye)  # from a server that gives none
    wire.end(1001, "going_away")
    wire.page.clock.run_for(1_100)
    assert wire.connections == 4


@pytest.mark.parametrize("state", ["connecting", "open", "waiting"])
def test_closing_leaves_nothing_behind(wire: Wire, state: str) -> None:
    wire.js("settle(client.publish('news', 1)); settle(client.subscribe('news').next()); 0")
    if state != "open":
        wire.end(1006)
    if state == "connecting":
        wire.js("client.retry()")
    count = wire.connections
    wire.js("client.close()")
    first, second = wire.outcomes()
    assert (first, second["done"]) == ("CLOSED", True)
    assert wire.js("Double.all.every((it) => it.closed)")
    wire.js("Double.all.at(-1).sent.length = 0")
    assert wire.js("listeners.size") == 0
    wire.page.clock.run_for(120_000)
    assert wire.connections == count
    assert wire.heard() == []


def test_another_kind_of_server_is_given_up(wire: Wire) -> None:
    wire.js("settle(client.publish('news', 1)); Double.all[0].onmessage({ data: 'hello' })")
    assert wire.outcomes() == ["REFUSED"]


def test_the_page_may_supply_the_json_parser(wire: Wire) -> None:
    text = json.dumps({"type": "event", "topic": "news", "message": {"id": 1, "payload": 2}})
    wire.js(
        """() => {
            client.close();
            const parse = (text) => { window.parsed = text; return JSON.parse(text); };
            window.client = connect("ws://server.example/ws", { parse });
        }"""
    )
    wire.open()
    wire.js("(data) => Double.all.at(-1).onmessage({ data })", text)
    assert wire.js("parsed") == text
    assert wire.js("Double.all.at(-1).url").startswith("ws://server.example/ws?client_id=js-")
