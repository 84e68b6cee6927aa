"""The JavaScript client in a page, whose WebSocket and clock a test drives."""

from typing import Any

from playwright.sync_api import Browser, Page

from tests.support.browser import PATIENCE
from tests.support.process import ROOT

INSECURE = "http://insecure.example/"  # a page without HTTPS, for which not all of crypto is there

SERVER = "ws://server.example/ws"  # the address in the client's log lines

DOUBLE = """
window.Double = class Double {
    static all = [];
    sent = [];
    closed = false;
    constructor(url, protocols = null) {
        this.url = String(url);
        this.protocols = protocols;
        Double.all.push(this);
    }
    send(text) { this.sent.push(JSON.parse(text)); }
    close() { this.closed = true; }
    say(message) { this.onmessage({ data: JSON.stringify({ ts: "T", ...message }) }); }
};
window.WebSocket = Double;
window.listeners = new Set();
window.addEventListener = (name, listener) => listeners.add(listener);
window.removeEventListener = (name, listener) => listeners.delete(listener);
Math.random = () => 0.5;
window.items = [];
window.states = [];
window.outcomes = [];
window.settle = (promise) => {
    promise.then((it) => outcomes.push(it), (error) => outcomes.push(error.code));
};
window.keep = (item) => items.push(item);
0
"""


class Wire:
    """The client in a page, with a double of the WebSocket that a test drives."""

    def __init__(self, page: Page, token: str = "undefined") -> None:
        """`token` is a JavaScript expression for the client's option."""
        self.page = page
        page.goto(INSECURE)
        page.evaluate(DOUBLE)
        script = (ROOT / "clients/js/client.js").read_text()
        page.evaluate(
            """async ([script, token]) => {
                const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
                window.connect = (await import(url)).connect;
                const onState = (state, { why, error }) => {
                    states.push(why ? `${state}: ${why}` : state);
                    window.ended = error?.message;
                };
                const transports = ["websocket"];
                const options = { clientId: "ann", onState, token: (0, eval)(token), transports };
                window.client = connect("http://server.example/ws", options);
            }""",
            [script, token],
        )

    def js(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def open(self) -> None:
        """Open the newest connection."""
        self.js("Double.all.at(-1).onopen()")

    def end(self, code: int, word: str = "") -> None:
        self.js("([code, reason]) => Double.all.at(-1).onclose({ code, reason })", [code, word])

    def reopen(self) -> None:
        """Let the pause pass, and open the next connection."""
        count = self.connections
        self.page.clock.run_for(10_000)
        assert self.connections == count + 1
        self.open()

    @property
    def connections(self) -> int:
        return int(self.js("Double.all.length"))

    def heard(self) -> list[dict[str, Any]]:
        """Return the client's messages on the newest connection, without pings."""
        said = self.js("Double.all.at(-1).sent.splice(0)")
        return [message for message in said if message["type"] != "ping"]

    def say(self, kind: str, **fields: Any) -> None:
        self.js("(message) => Double.all.at(-1).say(message)", {"type": kind, **fields})

    def ack(self, command: dict[str, Any], **more: Any) -> None:
        known = {key: command[key] for key in ("request_id", "topic")}
        self.say("ack", **known, status="ok", **more)

    def refuse(self, command: dict[str, Any], code: str, **more: Any) -> None:
        error = {"code": code, "message": "because", **more}
        self.say("error", request_id=command["request_id"], error=error)

    def subscribe(self, topic: str = "news", options: str = "{}", **position: Any) -> None:
        """Subscribe with a callback, and send the ack."""
        self.js(f"window.{topic} = client.subscribe('{topic}', keep, {options}); 0")
        (command,) = self.heard()
        self.ack(command, **position)

    def event(self, payload: Any, offset: int | None = None, topic: str = "news") -> None:
        place = {} if offset is None else {"offset": offset}
        self.say("event", topic=topic, message={"id": "m", "payload": payload}, **place)

    def info(self, payload: Any, **more: Any) -> None:
        self.say("info", topic="news", message={"id": "info_1", "payload": payload}, **more)

    def shown(self) -> list[Any]:
        """Return the payloads of the events so far, and the kinds of other items."""
        return list(self.js("items.map((it) => (it.kind === 'event' ? it.payload : it.kind))"))

    def outcomes(self) -> list[Any]:
        return list(self.js("outcomes.splice(0)"))


def staged_page(browser: Browser) -> Page:
    """Return a tab whose clock a test sets."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.route(INSECURE, lambda route: route.fulfill(body="<p>", content_type="text/html"))
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    return page
