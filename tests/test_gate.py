"""Every command, request and stream passes the gate (hub/service.py)."""

import ast
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import pytest
from aiohttp import ClientSession, web

import hub.service
from handlers.routes import ROUTES
from hub.access import (
    ALL_RIGHTS,
    ANONYMOUS,
    Access,
    Principal,
    Rights,
    Verb,
    compile_patterns,
)
from hub.auth.api_keys import parse_api_keys
from hub.brokers.base import Broker
from hub.delivery.fanout import Fanout
from hub.errors import ErrorCode, Refusal
from hub.hub import Hub
from hub.protocol.commands import Auth, Command, Ping, Publish, Subscribe, Unsubscribe
from hub.sessions import Sessions
from hub.settings import Settings
from hub.values import NOWHERE
from tests.support.node import Node
from tests.support.server import Running, running

ROOT = Path(__file__).parents[1]
# Access is on, and a caller without a key has no right.
LIMITED = Settings(history_size=5, api_keys=parse_api_keys("test:0123456789abcdef"))
REFUSAL = Refusal(ErrorCode.UNAVAILABLE, "refused by the test")

Route = tuple[str, str]  # method and path
Question = tuple[Verb, str]  # what the gate asks, and the topic


class Asks(NamedTuple):
    """A request or command, and the rights that it needs."""

    request: Any  # path and body of a request, or a command
    questions: list[Question]


# Every route is in one of these.
NEED_RIGHTS: dict[Route, Asks] = {
    ("GET", "/events"): Asks(("/events?topic=t", None), [(Verb.SUBSCRIBE, "t")]),
    ("POST", "/publish"): Asks(
        ("/publish", {"topics": ["a", "b"], "payload": 1}),
        [(Verb.PUBLISH, "a"), (Verb.PUBLISH, "b")],
    ),
    ("POST", "/publish/batch"): Asks(
        ("/publish/batch", {"items": [{"topic": it, "payload": 1} for it in "ab"]}),
        [(Verb.PUBLISH, "a"), (Verb.PUBLISH, "b")],
    ),
    ("POST", "/topics"): Asks(("/topics", {"name": "t"}), [(Verb.MANAGE, "t")]),
    ("GET", r"/topics/{name:[\s\S]+}/history"): Asks(
        ("/topics/made/history?wait=60", None), [(Verb.SUBSCRIBE, "made")]
    ),
    ("DELETE", r"/topics/{name:[\s\S]+}/history"): Asks(
        ("/topics/made/history", None), [(Verb.MANAGE, "made/history")]
    ),
    ("DELETE", r"/topics/{name:[\s\S]+}"): Asks(("/topics/made", None), [(Verb.MANAGE, "made")]),
}
# Of the whole server: a key or manage of every topic is needed.
NEED_ALL: dict[Route, Any] = {
    ("POST", "/disconnect"): {"sub": "ann", "for": 60},
    ("GET", "/nodes"): None,
    ("GET", "/connections"): None,
    ("GET", "/metrics"): None,
}
LISTS = {("GET", "/topics"), ("GET", "/stats")}  # of the topics that the caller may manage
OPEN = {
    ("GET", "/"),
    ("GET", "/console/{name}"),
    ("GET", "/client.js"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
    ("GET", "/ws"),  # its commands are below
    ("GET", "/health"),
    ("GET", "/live"),
    ("GET", "/ready"),
}

COMMANDS: dict[type, Asks] = {
    Subscribe: Asks({"type": "subscribe", "topic": "t"}, [(Verb.SUBSCRIBE, "t")]),
    Publish: Asks({"type": "publish", "topic": "t", "payload": 1}, [(Verb.PUBLISH, "t")]),
    Unsubscribe: Asks({"type": "unsubscribe", "topic": "t"}, []),  # ends what had needed a right
    Ping: Asks({"type": "ping"}, []),
    Auth: Asks({"type": "auth", "token": "t"}, []),  # brings rights, or is refused itself
}

READS = {"cluster_stats", "degraded", "reachable", "topics"}


class RecordingBroker:
    """Passes every use of a broker on, and records the names of the methods."""

    def __init__(self, broker: Broker) -> None:
        self.used: set[str] = set()
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(self._broker, name)


class Closed(NamedTuple):
    """A server on which nobody has any right; it has one topic, "made"."""

    server: Running
    broker: RecordingBroker
    asked: list[Question]
    session: ClientSession

    def has_done_nothing(self) -> bool:
        return self.broker.used <= READS and self.server.topics() == {"made": 0}


def refuse_everything(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Make every check refuse; return the list of the checks."""
    asked: list[Question] = []

    def check(_: Access, principal: Principal, verb: Verb, topic: str) -> Refusal:
        assert principal.is_anonymous
        asked.append((verb, topic))
        return REFUSAL

    monkeypatch.setattr(Access, "check", check)
    # Only for callers that have the right for no topic at all; tests/security/test_strangers.py.
    monkeypatch.setattr(Access, "check_any", lambda *_: None)
    return asked


@asynccontextmanager
async def closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Closed]:
    asked = refuse_everything(monkeypatch)
    async with running(LIMITED) as server, ClientSession(server.url) as session:
        server.hub.broker.create("made", lambda _: None)
        broker = RecordingBroker(server.hub.broker)
        server.hub.broker = cast(Broker, broker)
        yield Closed(server, broker, asked, session)


def route(definition: web.RouteDef) -> Route:
    return definition.method, definition.path


def test_every_route_and_command_is_listed_once() -> None:
    assert sorted([*NEED_RIGHTS, *NEED_ALL, *LISTS, *OPEN]) == sorted(map(route, ROUTES))
    assert set(COMMANDS) == set(get_args(Command))


@pytest.mark.parametrize(("method", "path"), NEED_RIGHTS)
async def test_request_without_the_right_is_refused(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (url, body), questions = NEED_RIGHTS[method, path]
    async with (
        closed(monkeypatch) as it,
        it.session.request(method, url, json=body) as answer,
    ):
        text = await answer.text()
        assert text.count(REFUSAL.text) == len(questions)
        assert it.asked == questions
        assert it.has_done_nothing()


@pytest.mark.parametrize(("method", "path"), NEED_ALL)
async def test_request_without_every_right_is_refused(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        closed(monkeypatch) as it,
        it.session.request(method, path, json=NEED_ALL[method, path]) as answer,
    ):
        assert answer.status == 401
        assert it.server.sessions.bans == {}
        assert it.has_done_nothing()


@pytest.mark.parametrize(("method", "path"), sorted(LISTS))
async def test_list_has_no_topic_that_the_caller_may_not_manage(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with closed(monkeypatch) as it, it.session.request(method, path) as answer:
        fields = await answer.json()
        assert fields["topics"] == {}
        assert fields.get("count", fields.get("total_topics")) == 1
        assert it.asked == []  # the caller manages nothing, so no name is looked at
        assert it.has_done_nothing()


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
async def test_open_route_does_not_concern_any_topic(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with closed(monkeypatch) as it, it.session.request(method, path) as answer:
        assert "made" not in await answer.text() or path in ("/", "/client.js")
        assert it.asked == []
        assert it.has_done_nothing()


@pytest.mark.parametrize("kind", COMMANDS)
async def test_command_without_the_right_is_refused(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, questions = COMMANDS[kind]
    async with (
        closed(monkeypatch) as it,
        it.session.ws_connect("/ws?client_id=me") as socket,
    ):
        await socket.send_json(command)
        answer = json.loads(await socket.receive_str())
        assert it.asked == questions
        if questions:
            assert answer["error"] == {"code": REFUSAL.code, "message": REFUSAL.text}
        elif kind is Auth:
            assert answer["error"]["code"] == "UNAUTHORIZED"
        else:
            assert answer["type"] in ("ack", "pong")
        assert it.has_done_nothing()


async def test_topic_in_the_url_of_a_websocket_without_the_right_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with closed(monkeypatch) as it, it.session.ws_connect("/ws?topic=t&topic=u") as socket:
        for topic in "tu":
            answer = json.loads(await socket.receive_str())
            assert answer["error"] == {"code": REFUSAL.code, "message": REFUSAL.text}
            assert (Verb.SUBSCRIBE, topic) in it.asked
        assert it.has_done_nothing()


async def test_long_poll_without_the_right_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refuse_everything(monkeypatch)
    service = Node().service
    outcome = await service.next_history(
        ANONYMOUS, "t", NOWHERE, seconds=60.0, connected=lambda: True
    )
    assert outcome == REFUSAL
    assert asked == [(Verb.SUBSCRIBE, "t")]


@pytest.mark.parametrize(
    "caller",
    [
        Principal(ALL_RIGHTS),
        Principal(ALL_RIGHTS, key_name="app"),
        Principal(Rights(publish=compile_patterns(["t"])), subject="ann"),
    ],
    ids=["anonymous", "key", "token"],
)
def test_new_rule_about_a_caller_holds_for_publishes_after_both_fields_are_cleared(
    caller: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    results: list[object] = []

    def publish() -> bool:
        """Return whether a publish passes the gate."""
        return node.service.publish(caller, "t", None, 1, results.append) > 0

    assert publish()
    monkeypatch.setattr(Principal, "may", lambda *_: False)
    assert publish()  # from the fields alone
    caller.unlimited = False
    caller.can_publish.clear()
    assert not publish()
    assert isinstance(results[-1], Refusal)


# Modules in front of the gate.
CALLERS = sorted(
    [*ROOT.glob("handlers/*.py"), ROOT / "hub/dispatcher.py", ROOT / "hub/event_stream.py"]
)
# Methods of the hub's parts that only the gate calls; its own have some of the same names.
GUARDED = {
    Hub: {"create", "deliver", "deleted", "publish", "subscribe", "unsubscribe"},
    Fanout: {"broadcast"},
    Sessions: {"ban", "ban_for", "disconnect"},
}
GUARDED_NAMES = set[str]().union(*GUARDED.values())
BEHIND = {"Directory", "LongPolls", "TopicList"}  # what the gate is made of
STATE = {"degraded", "history_budget", "reachable"}  # of a broker, which anybody may read
OF_THE_GATE = ("service", "[SERVICE]")  # ends of expressions that are the gate


def bypasses(source: str) -> Iterator[str]:
    """Yield the expressions that reach the hub, its sessions or its broker around the gate."""
    tree = ast.parse(source)
    allowed = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in STATE
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in BEHIND)
        elif isinstance(node, ast.Attribute):
            of_gate = ast.unparse(node.value).endswith(OF_THE_GATE)
            if (
                (node.attr == "broker" and node not in allowed)
                or (node.attr in GUARDED_NAMES and not of_gate)
                or node.attr in BEHIND
            ):
                yield ast.unparse(node)


@pytest.mark.parametrize("module", CALLERS, ids=lambda it: it.name)
def test_no_module_in_front_of_the_gate_goes_around_it(module: Path) -> None:
    assert list(bypasses(module.read_text())) == []


def test_guarded_names_exist() -> None:
    for part, names in GUARDED.items():
        assert names <= set(vars(part))
    assert set(vars(hub.service)) >= BEHIND


@pytest.mark.parametrize(
    "source",
    [
        "request.app[HUB].publish('t', None, 1, done)",
        "request.app[HUB].create('t', done)",
        "request.app[HUB].deliver('t', event)",
        "request.app[HUB].deleted('t')",
        "request.app[HUB].fanout.broadcast(topic, event)",
        "h = request.app[HUB]; h.publish('t', None, 1, done)",
        "self._hub.subscribe(client, 't', done)",
        "service.hub.broker.create('t', done)",
        "service.hub.unsubscribe(client, 't')",
        "service.sessions.disconnect('ann', '')",
        "self.sessions.ban({'ann': 60.0})",
        "request.app[SERVICE].sessions.ban_for('ann', 60.0)",
        "broker = hub.broker",
        "from hub.long_poll import LongPolls",
        "import hub.topic_list as it; it.TopicList(hub)",
    ],
)
def test_a_way_around_the_gate_is_found(source: str) -> None:
    assert list(bypasses(source))


@pytest.mark.parametrize(
    "source", ["request.app[SERVICE].create(caller, 't', done)", "hub.broker.degraded"]
)
def test_the_gate_and_the_state_of_the_broker_are_allowed(source: str) -> None:
    assert list(bypasses(source)) == []
