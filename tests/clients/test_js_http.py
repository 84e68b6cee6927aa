"""The HTTP calls of the JavaScript client in a page: with a real server, and a double of fetch."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from hub.settings import Settings
from hub.values import Rule
from tests.support.backstage import Backstage
from tests.support.browser import evaluate, needs_chromium
from tests.support.server import Running, running
from tests.support.wire import SERVER, Wire, staged_page

pytestmark = needs_chromium
HISTORY = Settings(history_rules={"": Rule(3, 60.0, 10_000_000)})
CODE = "catch(({ code }) => code)"


@pytest.fixture
def here(backstage: Backstage, page: Page) -> Running:
    """Return a server, of which a page has a client."""
    server = backstage.enter(running(HISTORY))
    page.goto(f"{server.url}/health")
    evaluate(
        page,
        """async ([url, ws]) => {
            const { connect, RefusedError } = await import(`${url}/client.js`);
            Object.assign(window, { client: connect(ws), RefusedError });
            await client.subscribe("a/1").ready();
        }""",
        [server.url, server.ws],
    )
    return server


@pytest.mark.usefixtures("here")
def test_a_batch_has_a_result_for_each_item_in_order(page: Page) -> None:
    results = evaluate(
        page,
        """async () => {
            const items = [
                { topic: "a/1", payload: 1, key: "k" },
                { topic: "none", payload: 2 },
                { topic: "a/1", payload: 3, key: "k" },
                { topic: "a/1", payload: null },
            ];
            const results = await client.publishBatch(items);
            return results.map((it) => it instanceof RefusedError
                ? `${it.code}: ${it.text}` : [it.topic, it.offset, !!it.duplicate]);
        }""",
    )
    refused = "REFUSED: Topic 'none' does not exist"
    assert results == [["a/1", 1, False], refused, ["a/1", 1, True], ["a/1", 2, False]]


@pytest.mark.usefixtures("here")
def test_history_is_read_without_a_subscription(page: Page) -> None:
    evaluate(
        page,
        "async () => { for (let n = 1; n <= 4; n++) await client.publish('a/1', n); }",
    )
    read = """async (options) => {
        const { topic, events, position } = await client.history("a/1", options);
        return [topic, events.map((it) => [it.kind, it.payload, it.offset]), position];
    }"""
    topic, events, position = evaluate(page, read, {})
    assert topic == "a/1"
    assert events == [["event", n, n] for n in (2, 3, 4)]
    assert position["offset"] == 4
    since = {"sinceEpoch": position["epoch"], "sinceOffset": 3}
    assert evaluate(page, read, since)[1] == [["event", 4, 4]]
    assert evaluate(page, read, {"reverse": True, "limit": 2})[1] == [
        ["event", 4, 4],
        ["event", 3, 3],
    ]
    waiting = """async (position) => {
        const options = { sinceEpoch: position.epoch, sinceOffset: 4, wait: 30_000 };
        const waiting = client.history("a/1", options);
        await client.publish("a/1", "next");
        return (await waiting).events.map((it) => it.payload);
    }"""
    assert evaluate(page, waiting, position) == ["next"]
    old = f"client.history('a/1', {{ sinceEpoch: 'old', sinceOffset: 1 }}).{CODE}"
    assert evaluate(page, old) == "GONE"
    assert evaluate(page, f"client.history('none').{CODE}") == "TOPIC_NOT_FOUND"


@pytest.mark.usefixtures("here")
def test_topics_are_listed_in_pages(page: Page) -> None:
    script = """async () => {
        await client.subscribe("a/2").ready();
        await client.subscribe("b").ready();
        const first = await client.topics({ prefix: "a/", limit: 1 });
        const second = await client.topics({ prefix: "a/", after: first.next });
        return [first, second];
    }"""
    assert evaluate(page, script) == [
        {"count": 3, "topics": {"a/1": 1}, "next": "a/1"},
        {"count": 3, "topics": {"a/2": 1}},
    ]


# --- With a double of fetch -----------------------------------------------------------------------

FETCH = """
window.calls = [];
window.signals = new Set();
window.answers = [];  // of the next calls; without one, a call is not answered
window.told = [];
window.tell = (promise) => promise.then((it) => told.push(it), (it) => told.push(it.message));
window.fetch = (url, { method, body, headers, signal }) => {
    calls.push({ url, method, headers, body: body && JSON.parse(body) });
    signals.add(signal);
    const answer = answers.shift();
    if (!answer) return new Promise((_, reject) => {
        signal.onabort = () => reject(new Error("aborted"));
    });
    if (!answer.status) return Promise.reject(new TypeError("Failed to fetch"));
    const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
    return Promise.resolve(new Response(text, answer));
};
0
"""


class Calls:
    """A client in a page whose fetch and clock a test drives."""

    def __init__(self, page: Page) -> None:
        self.wire = Wire(page, "let n = 0; () => `token.${++n}`")
        self.wire.open()
        self.js(FETCH)
        self.js(
            """() => {
                client.close();
                const token = () => `token.${calls.length + 1}`;
                const transports = ["websocket"];
                window.client = connect("ws://server.example/deep/ws", { token, transports });
            }"""
        )

    def js(self, script: str, argument: Any = None) -> Any:
        return self.wire.js(script, argument)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        answer = {"status": status, "body": body, "headers": headers}
        self.js("(answer) => answers.push(answer)", answer)

    def told(self) -> list[Any]:
        return list(self.js("told.splice(0)"))


@pytest.fixture
def calls(browser: Browser) -> Calls:
    return Calls(staged_page(browser))


def test_a_call_goes_beside_the_websocket_with_a_fresh_token(calls: Calls) -> None:
    for _ in range(2):
        calls.answer(200, {"topic": "é/?", "epoch": "e", "offset": 0, "events": []})
        calls.js("tell(client.history('é/?', { limit: 1 })); 0")
    calls.js("new Promise((resolve) => queueMicrotask(resolve))")
    for number, call in enumerate(calls.js("calls"), start=1):
        assert call["url"] == "http://server.example/deep/topics/%C3%A9%2F%3F/history?limit=1"
        assert call["headers"] == {"Authorization": f"Bearer token.{number}"}
    assert len(calls.told()) == 2


def test_a_batch_is_repeated_with_its_keys_while_the_server_is_not_available(calls: Calls) -> None:
    calls.js("answers.push({ status: 0 }); 0")
    calls.answer(503, {"error": "Redis is out of reach"}, **{"Retry-After": "2"})
    calls.answer(200, {"results": [{"status": "published", "topic": "a"}]})
    calls.js("tell(client.publishBatch([{ topic: 'a', payload: 1 }])); 0")
    for ms in (300, 2_100, 10):
        calls.wire.page.clock.run_for(ms)
    assert calls.told() == [[{"status": "published", "topic": "a"}]]
    bodies = [call["body"] for call in calls.js("calls")]
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    (item,) = bodies[0]["items"]
    assert (item["topic"], item["payload"], len(item["idempotency_key"])) == ("a", 1, 32)


def test_a_call_has_a_limit(calls: Calls) -> None:
    calls.js("tell(client.publishBatch([{ topic: 'a', payload: 1 }])); tell(client.topics()); 0")
    calls.js("tell(client.history('a', { timeout: null })); 0")
    calls.wire.page.clock.run_for(10_100)
    late = f"TIMEOUT: no answer of {SERVER.replace('/ws', '/deep/ws')} within 10 s"
    assert sorted(calls.told()) == [late, f"{late}; it may have been carried out"]
    calls.js("client.close(); tell(client.topics()); 0")
    assert calls.told() == ["CLOSED: the client was closed"] * 2


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": "limit must be"}, "INVALID_MESSAGE: limit must be"),
        (401, {"error": "no"}, "UNAUTHORIZED: no"),
        (403, {"error": "no"}, "FORBIDDEN: no"),
        (404, "<html>", "NOT_FOUND: HTTP 404: this is not the answer of a broadcast server"),
        (413, {"error": "big"}, "TOO_BIG: big"),
        (418, {"error": "tea"}, "REFUSED: tea"),
        (429, {"error": "slow down"}, "RATE_LIMITED: slow down"),
        (502, "<html>", "UNAVAILABLE: HTTP 502: this is not the answer of a broadcast server"),
        (200, "<html>", "REFUSED: HTTP 200: this is not the answer of a broadcast server"),
    ],
)
def test_an_error_has_a_code(calls: Calls, status: int, body: Any, expected: str) -> None:
    calls.answer(status, body, **{"Retry-After": "3"})
    script = "client.topics().catch((it) => [it.message, it.retryAfterMs])"
    assert calls.js(script) == [expected, 3_000]


def test_a_lost_request_is_unavailable(calls: Calls) -> None:
    calls.js("answers.push({ status: 0 }); 0")
    assert calls.js("client.topics().catch((it) => [it.code, it.text])") == [
        "UNAVAILABLE",
        "no answer of ws://server.example/deep/ws: it cannot be reached, or does not allow this "
        "page's origin",
    ]


def test_a_publish_without_an_answer_is_repeated_where_websocket_is_blocked(calls: Calls) -> None:
    calls.js("client.close(); calls.length = 0; signals.clear(); 0")
    calls.answer(200, {"count": 0, "topics": {}})
    calls.js(
        """async () => {
            const onState = (state, { why }) => { if (why) told.push(why); };
            client = connect("ws://server.example/ws", { transports: ["sse"], onState });
            await client.ready();
            tell(client.publish("a", 1));
        }"""
    )
    calls.wire.page.clock.run_for(9_900)
    assert calls.told() == []
    calls.answer(200, {"count": 0, "topics": {}})
    calls.answer(200, {"topic": "a", "id": "1"})
    calls.wire.page.clock.run_for(1_000)
    why, ack = calls.told()
    assert why == "no answer within 10 s"
    assert ack["id"] == "1"
    probe, publish, *repeated = calls.js("calls")
    assert repeated == [probe, publish]
    # A signal of many requests would collect their listeners.
    assert calls.js("signals.size") == 4
