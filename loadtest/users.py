"""The simulated clients: subscribers, streams, publishers and REST users.

A row of the report is named by what a client did, and its failures by what went wrong.
"""

import itertools
import random
import time
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import gevent
import orjson
from locust import FastHttpUser, User, between, task
from locust.env import Environment

from cli.address import Address
from loadtest.connections import TLS, EndedError, RefusedError, Stream, WebSocket, reason
from loadtest.events import Author, Checker, Pace


@dataclass(frozen=True)
class Plan:
    """What all users of a run have in common."""

    client: Address  # with the clients' token
    backend: Address  # with the API key, or else the token
    topics: list[str]
    size: int  # bytes of a payload
    rate: float  # events a second of each publisher
    silence: float  # seconds after which a subscriber gives up

    def in_turn(self) -> "itertools.cycle[str]":
        """Return all topics for ever, from a random one on."""
        start = random.randrange(len(self.topics))
        return itertools.cycle(self.topics[start:] + self.topics[:start])


class Client(User):
    """A user with a connection that reports what it does; it connects again when it ends."""

    abstract = True
    plan: ClassVar[Plan]
    kind: ClassVar[str]  # the type of its rows
    wait_time = between(1, 2)  # seconds until it connects again

    def report(
        self, name: str, started: float | None = None, why: str | None = None, size: int = 0
    ) -> None:
        """Report a success, or with `why` a failure; `started` is on the clock of `time.time()`."""
        self.environment.events.request.fire(
            request_type=self.kind,
            name=name,
            response_time=None if started is None else (time.time() - started) * 1000,
            response_length=size,
            exception=why,
        )

    def connect(self) -> WebSocket | Stream:
        raise NotImplementedError

    def use(self, connection: Any) -> None:
        raise NotImplementedError

    @task
    def live(self) -> None:
        """Connect, and use the connection until it ends."""
        started = time.time()
        try:
            connection = self.connect()
        except RefusedError as error:
            self.report("connect", started, str(error))
            return
        self.report("connect", started)
        with connection:
            try:
                self.use(connection)
            except EndedError as error:
                self.report("end", why=str(error))

    def receive_answer(self, name: str, started: float, connection: WebSocket | Stream) -> str:
        """Report an ack or an error; return the code of the error, or an empty text."""
        while True:
            text = connection.receive()
            message = orjson.loads(text)
            if message["type"] == "ack":
                self.report(name, started, size=len(text))
                return ""
            if message["type"] == "error":
                code: str = message["error"]["code"]
                self.report(name, started, f"refused: {code}")
                return code


class Listener(Client):
    """A user that receives the events of one topic."""

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.topic = random.choice(self.plan.topics)

    def listen(self, started: float, connection: WebSocket | Stream) -> None:
        """Receive messages for ever; the first is the answer to the subscribe."""
        if self.receive_answer("subscribe", started, connection):
            return
        checker = Checker()
        while True:
            text = connection.receive()
            message = orjson.loads(text)
            if message["type"] == "event":
                self.hear(checker, message["message"]["payload"], len(text))
            elif message["type"] == "error":
                self.report("error", why=message["error"]["code"])
            elif message.get("reason") == "GAP":
                self.report("gap", why="notice of the server")

    def hear(self, checker: Checker, payload: dict[str, Any], size: int) -> None:
        """Report an event, and a failure for each one that is missing before it."""
        missing = checker.missing(payload)
        self.report("event", payload["due"], "repeated" if missing < 0 else None, size)
        for _ in range(missing):
            self.report("event", why="missing")


class Subscriber(Listener):
    """Subscribes by WebSocket."""

    abstract = False
    kind = "WS"

    def connect(self) -> WebSocket:
        return WebSocket(self.plan.client, "/ws?client_id=loadtest", self.plan.silence)

    def use(self, connection: WebSocket) -> None:
        started = time.time()
        connection.send(orjson.dumps({"type": "subscribe", "topic": self.topic}))
        self.listen(started, connection)


class StreamReader(Listener):
    """Reads a stream of Server-Sent Events."""

    abstract = False
    kind = "SSE"

    def connect(self) -> Stream:
        path = f"/events?topic={quote(self.topic, safe='')}"
        return Stream(self.plan.client, path, self.plan.silence)

    def use(self, connection: Stream) -> None:
        self.listen(time.time(), connection)


class Publisher(Client):
    """Publishes by WebSocket to all topics in turn, and waits for each ack."""

    abstract = False
    kind = "WS"

    def connect(self) -> WebSocket:
        return WebSocket(self.plan.client, "/ws?client_id=loadtest", self.plan.silence)

    def use(self, connection: WebSocket) -> None:
        author, pace = Author(self.plan.size), Pace(self.plan.rate)
        for topic in self.plan.in_turn():
            gevent.sleep(pace.step())
            started = time.time()
            payload = author.write(topic, pace.due)
            connection.send(orjson.dumps({"type": "publish", "topic": topic, "payload": payload}))
            code = self.receive_answer("publish", started, connection)
            if not code:
                author.accepted(topic)
            elif code == "UNAVAILABLE":
                author.begin()


class Backend(FastHttpUser):
    """Publishes by REST, and reads lists and statistics."""

    plan: ClassVar[Plan]
    insecure = False
    ssl_context_factory = staticmethod(lambda: TLS)
    connection_timeout = network_timeout = 10.0  # seconds

    def __init__(self, environment: Environment) -> None:
        self.host = self.plan.backend.url("http")
        credential = self.plan.backend.credential
        if credential is not None:
            self.default_headers = {"Authorization": f"Bearer {credential}"}
        super().__init__(environment)
        self.author, self.pace = Author(self.plan.size), Pace(self.plan.rate)
        self.topics = self.plan.in_turn()

    def on_start(self) -> None:
        gevent.sleep(self.pace.step())

    def wait_time(self) -> float:
        return self.pace.step()

    @task(8)
    def publish(self) -> None:
        topic = next(self.topics)
        payload = self.author.write(topic, self.pace.due)
        status = self.call("POST", "/publish", orjson.dumps({"topic": topic, "payload": payload}))
        if status == 200:
            self.author.accepted(topic)
        elif status == 0 or status >= 500:
            self.author.begin()

    @task(1)
    def list_topics(self) -> None:
        self.call("GET", "/topics")

    @task(1)
    def read_stats(self) -> None:
        self.call("GET", "/stats")

    def call(self, method: str, path: str, body: bytes | None = None) -> int:
        """Send a request, report it, and return the status: 0 without an answer."""
        with self.client.request(method, path, data=body, catch_response=True) as response:
            status: int = response.status_code
            if status == 0:
                response.failure(f"no answer: {reason(response.error)}")
            elif status != 200:
                response.failure(f"refused: HTTP {status}")
        return status
