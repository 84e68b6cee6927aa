"""The JavaScript client where WebSocket is blocked: streams and HTTP, in a page and in Node.

A proxy refuses or swallows WebSocket handshakes, and cuts connections. tests/clients/test_js.py and
test_js_access.py run with streams, too.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest
from playwright.sync_api import Page

from hub.settings import Settings
from hub.values import Rule
from tests.support.backstage import Backstage
from tests.support.blocking import BlockingProxy, blocking_proxy
from tests.support.browser import CHROMIUM, LIMITED, PATIENCE
from tests.support.eventually import eventually
from tests.support.hurt import hurt
from tests.support.npm import NODE, NPM, needs_npm
from tests.support.programs import skip_unless
from tests.support.server import Running, running
from tests.support.tokens import settings as access_settings
from tests.support.tokens import sign

# Topics that begin with "h" have a history.
SETTINGS = Settings(
    history_rules={"": Rule(0, 60.0, 1), "h": Rule(10_000, 60.0, 10_000_000)},
    recovery_limit=10_000,
)
CUTS = 5  # so long a series of publishes goes on
SOME = 50  # publishes of it at a time


class Runtime(Protocol):
    """Runs JavaScript, in which `connect` is that of the client."""

    def evaluate(self, script: str, argument: Any = None) -> Any: ...


class NodeProcess:
    """Node, with the package ws."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def evaluate(self, script: str, argument: Any = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"script": script, "argument": argument}),
            file=self._process.stdin,
            flush=True,
        )
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer.get("value")


@pytest.fixture(
    params=[
        pytest.param("a page", marks=skip_unless(CHROMIUM, "Chromium")),
        pytest.param("Node", marks=needs_npm),
    ]
)
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    if request.param == "a page":
        yield request.getfixturevalue("page")
        return
    assert NODE is not None
    with subprocess.Popen(
        [NODE, "repl.js"], cwd=NPM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield NodeProcess(process)
        assert process.stdin is not None
        process.stdin.close()


class Scene:
    """A server, a proxy that blocks WebSocket, and a client with the given options."""

    def __init__(
        self,
        backstage: Backstage,
        runtime: Runtime,
        settings: Settings = SETTINGS,
        blocks: str = "refuse",
        token: str | None = None,
    ) -> None:
        self.backstage = backstage
        self.runtime = runtime
        self.server: Running = backstage.enter(running(settings))
        self.way: BlockingProxy = backstage.enter(blocking_proxy(self.server.port))
        self.way.blocks = blocks
        if isinstance(runtime, Page):
            runtime.goto(f"{self.server.url}/health")  # another port, another origin
            runtime.evaluate(
                "async (url) => { window.connect = (await import(url)).connect; window.ws = {}; }",
                f"{self.server.url}/client.js",
            )
        self.js(
            """([url, token]) => {
                Math.random = () => 0.02;  // very short pauses
                globalThis.items = [];
                globalThis.states = [];
                globalThis.keep = (item) => items.push(item);
                globalThis.shown = () => items.map(({ kind, payload }) => payload ?? kind);
                globalThis.asked = [];
                const fetch = (url, init) => {
                    asked.push({ url, ...init.headers });
                    return globalThis.fetch(url, init);
                };
                globalThis.used = new Set();
                const onState = (state) => {
                    states.push(state);
                    if (state === "open") used.add(client.transport);
                };
                globalThis.client = connect(url, { ...ws, token, fetch, onState });
            }""",
            [f"ws://127.0.0.1:{self.way.port}/ws", token],
        )

    def js(self, script: str, argument: Any = None) -> Any:
        return self.runtime.evaluate(LIMITED, [script, argument, 2 * PATIENCE])

    def until(self, condition: str) -> None:
        """Wait until a condition holds; fail after PATIENCE."""
        self.js(
            """async ([condition, patience]) => {
                const end = performance.now() + patience;
                while (!(0, eval)(condition)) {
                    if (performance.now() > end) throw new Error(`never: ${condition}`);
                    await new Promise((resolve) => setTimeout(resolve, 10));
                }
            }""",
            [condition, PATIENCE],
        )

    def cut(self) -> None:
        async def run() -> None:
            self.way.cut()

        self.backstage.run(run())

    def has_streams(self, count: int) -> None:
        """Wait until the server has so many streams; it still has those that have just ended."""
        self.backstage.run(eventually(lambda: len(self.server.hub.clients) == count))


@pytest.mark.parametrize("blocks", ["refuse", "swallow"])
def test_streams_are_used_where_websocket_is_blocked(
    backstage: Backstage, runtime: Runtime, blocks: str
) -> None:
    token = sign()
    it = Scene(backstage, runtime, access_settings(), blocks, token)
    it.js("client.ready({ timeout: null })")
    assert it.js("[client.transport, client.state, client.latency]") == ["sse", "open", None]
    assert it.way.upgrades == (2 if blocks == "refuse" else 1)
    it.js("client.subscribe('news', keep)")
    ack = it.js("client.publish('news', 'mine', { key: 'k' })")
    assert (ack["status"], ack["offset"]) == ("ok", 1)
    assert it.js("client.publish('news', 'again', { key: 'k' })")["duplicate"] is True
    it.js("client.publish('news', 'last')")
    it.until("items.length === 2")
    assert it.js("shown()") == ["mine", "last"]
    asked = it.js("asked")
    assert len(asked) == 5
    for request in asked:
        assert request["Authorization"] == f"Bearer {token}"
        assert token not in request["url"]
    it.js("client.close()")


def test_events_are_complete_and_in_order_across_cut_streams(
    backstage: Backstage, runtime: Runtime
) -> None:
    it = Scene(backstage, runtime)
    it.js("client.subscribe('h', keep).ready()")
    it.js(
        """() => {
            globalThis.offsets = [];
            globalThis.publish = async (from, to) => {
                const under_way = [];
                for (let n = from; n < to; n++)
                    under_way.push(client.publish("h", n).then((ack) => (offsets[n] = ack.offset)));
                await Promise.all(under_way);
            };
        }"""
    )
    wounds: list[str] = []
    backstage.start(hurt(it.way, 5, wounds, 0.3))
    count = 0
    while wounds.count("cut") < CUTS:
        it.js("([from, to]) => publish(from, to)", [count, count + SOME])
        count += SOME
    it.js("client.publish('h', 'end')")
    it.until("items.at(-1)?.payload === 'end'")
    assert it.js("shown()") == [*range(count), "end"]
    assert it.js("offsets") == list(range(1, count + 1))
    assert it.js("states.includes('waiting')")
    assert it.js("[...used]") == ["sse"]
    it.js("client.close()")


def test_what_cannot_be_recovered_is_reported(backstage: Backstage, runtime: Runtime) -> None:
    it = Scene(backstage, runtime)
    it.js("client.subscribe('plain', keep).ready()")
    it.js("client.publish('plain', 1)")
    it.until("items.length === 1")
    it.cut()
    it.until("items.length === 2 && client.state === 'open'")
    it.js("client.publish('plain', 2)")
    it.until("items.length === 3")
    assert it.js("shown()") == [1, "lost", 2]
    it.js("client.close()")


def test_a_websocket_is_used_again_when_it_works(backstage: Backstage, runtime: Runtime) -> None:
    it = Scene(backstage, runtime)
    it.js("client.subscribe('h', keep).ready()")
    it.js("client.publish('h', 1)")
    it.way.blocks = ""
    it.cut()
    it.until("client.transport === 'websocket'")
    it.js("client.publish('h', 2)")
    it.way.blocks = "swallow"
    it.cut()
    it.until("client.transport === 'sse'")
    it.js("client.publish('h', 3)")
    it.until("items.length === 3")
    assert it.js("shown()") == [1, 2, 3]
    it.js("client.close()")


def test_a_wrong_path_of_the_url_is_told(backstage: Backstage, runtime: Runtime) -> None:
    """The server answers HTTP there, so only the log says why no WebSocket is used."""
    it = Scene(backstage, runtime, blocks="")
    script = """async ([url, path]) => {
        const said = [];
        console.warn = (text) => said.push(text);
        const wrong = connect(url + path, { ...ws });
        await wrong.ready();
        wrong.close();
        return [wrong.state, said.at(-1)];
    }"""
    url = f"ws://127.0.0.1:{it.server.port}"
    hint = "is the path of the URL right? The server's is /ws; using Server-Sent Events and HTTP"
    state, said = it.js(script, [url, "/wss"])
    assert state == "closed"
    assert said.endswith(hint)
    it.way.blocks = "refuse"
    _, said = it.js(script, [f"ws://127.0.0.1:{it.way.port}", "/ws"])
    assert "path of the URL" not in said
    it.js("client.close()")


def test_after_an_outage_a_websocket_is_tried_once_more(
    backstage: Backstage, runtime: Runtime
) -> None:
    """Where all was away, the streams may be the first to come back."""
    it = Scene(backstage, runtime, blocks="")
    it.js("client.ready()")
    it.way.blocks, it.way.most = "refuse", it.way.upgrades + 2
    it.cut()
    it.until("states.includes('waiting') && client.state === 'open'")
    assert it.js("[...used]") == ["websocket"]
    assert it.way.upgrades == 4
    it.js("client.close()")


def test_more_topics_than_a_stream_has_share_few_streams(
    backstage: Backstage, runtime: Runtime
) -> None:
    it = Scene(backstage, runtime)
    names = [f"h/{number}" for number in range(30)] + [f"p/{number}" for number in range(10)]
    it.js("(names) => { for (const name of names) client.subscribe(name, keep); }", names)
    it.js("(names) => Promise.all(names.map((name) => client.publish(name, name)))", names)
    it.until("items.length === 40")
    assert sorted(it.js("shown()")) == sorted(names)
    it.has_streams(3)
    many = [f"h/{number}" for number in range(30, 60)]
    script = """async (names) => {
        const code = (promise) => promise.then(() => "ok", (it) => it.code);
        return Promise.all(names.map((name) => code(client.subscribe(name, keep).ready())));
    }"""
    outcomes = it.js(script, many)
    assert outcomes.count("ok") == 8
    assert outcomes.count("LIMIT_EXCEEDED") == 22
    it.has_streams(3)
    it.js("client.close()")


def test_topics_with_a_history_come_and_go_without_a_loss(
    backstage: Backstage, runtime: Runtime
) -> None:
    it = Scene(backstage, runtime)
    for name in ("h/1", "h/2", "h/3"):
        it.js(f"(globalThis.subscription = client.subscribe('{name}', keep)).ready()")
        it.js(f"client.publish('h/1', '{name}')")
    it.has_streams(1)
    it.js("client.subscribe('h/4', keep, { lastN: 5 }).ready()")
    it.js("subscription.close()")
    it.js("client.publish('h/4', 'four')")
    it.until("items.length === 4")
    assert sorted(it.js("shown()")) == ["four", "h/1", "h/2", "h/3"]
    it.until("client.topics().then(({ topics }) => { globalThis.topics = topics; }) && 1")
    it.has_streams(1)
    assert it.server.topics()["h/3"] == 0
    it.js("client.close()")


def test_topics_subscribed_at_once_begin_where_each_wants(
    backstage: Backstage, runtime: Runtime
) -> None:
    it = Scene(backstage, runtime)
    names = ["h0", "h1", "h2"]
    it.js(f"Promise.all({names}.map((name) => client.subscribe(name, () => 0).ready()))")
    for name in names:
        it.js("(name) => Promise.all([1, 2, 3].map((n) => client.publish(name, name + n)))", name)
    it.js("client.close()")
    it.js(
        """(url) => {
            globalThis.client = connect(url, { ...ws, transports: ["sse"] });
            return Promise.all([2, 0, 1].map((lastN, number) =>
                client.subscribe(`h${number}`, keep, { lastN }).ready()));
        }""",
        f"ws://127.0.0.1:{it.way.port}/ws",
    )
    it.js("client.publish('h1', 'h14')")
    it.until("items.length >= 4")
    assert sorted(it.js("shown()")) == ["h02", "h03", "h14", "h23"]
    it.js("client.close()")


def test_a_forbidden_topic_ends_no_other(backstage: Backstage, runtime: Runtime) -> None:
    token = sign(subscribe=["a", "b"], publish=["a"])
    it = Scene(backstage, runtime, access_settings(), "refuse", token)
    script = """() => Promise.all(["a", "secret", "b", "other"].map(
        (name) => client.subscribe(name, keep).ready().then(() => "ok", (it) => it.code)))"""
    assert it.js(script) == ["ok", "FORBIDDEN", "ok", "FORBIDDEN"]
    assert it.js("client.publish('b', 1).catch((it) => it.code)") == "FORBIDDEN"
    it.js("client.publish('a', 1)")
    it.until("items.length === 1")
    assert it.js("client.state") == "open"
    it.js("client.close()")


def test_a_publish_is_refused_with_the_code_of_a_websocket(
    backstage: Backstage, runtime: Runtime
) -> None:
    it = Scene(backstage, runtime, replace(SETTINGS, max_message_bytes=1_000))
    code = "catch((it) => it.code)"
    assert it.js(f"client.publish('none', 1).{code}") == "TOPIC_NOT_FOUND"
    assert it.js(f"client.publish('none', 'x'.repeat(2000)).{code}") == "TOO_BIG"
    assert it.js(f"client.publish('', 1).{code}") == "INVALID_MESSAGE"
    it.js("client.close()")


def test_the_deletion_of_a_topic_is_its_last_item(backstage: Backstage, runtime: Runtime) -> None:
    it = Scene(backstage, runtime)
    it.js("Promise.all(['p', 'h'].map((name) => client.subscribe(name, keep).ready()))")
    it.js(
        "async (url) => (await fetch(url, { method: 'DELETE' })).status",
        f"{it.server.url}/topics/p",
    )
    it.until("items.length === 1")
    it.js("client.publish('h', 1)")
    it.until("items.length === 2")
    assert it.js("shown()") == ["deleted", 1]
    it.js("client.close()")
