"""Questions to the other nodes, and answers to theirs.

Theory of operation. A question is published to the channel of each node. The reply of Redis says
whether the node is subscribed. A dead node is not, and neither is one of an older version that does
not know questions. A node writes its answer to a key of its own, and notifies the asker on the
asker's channel. So an answer may be large: it does not count against the output buffer that Redis
allows a subscriber, and is read only if it is needed.

State: the questions of this node, as long as their callers keep them, and the answers that this
node is working on.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import hiredis
import orjson

from hub.brokers.base import Asked, QuestionEvents
from hub.logs import events
from hub.redis.connection import Reply
from hub.redis.envelope import ANSWERED, QUESTION, Envelope, Sender, unseal_content
from hub.redis.keys import Keys
from hub.redis.poison import Poison
from hub.redis.session import Session
from hub.values import Json

PATIENCE: Final = 1.5  # seconds in which a node must have answered
REPLY: Final = 1.0  # seconds in which Redis must reply to the asker
KEPT: Final = 5  # seconds for which Redis keeps an answer
MAX_ANSWERING: Final = 100  # questions that this node answers at a time; others are dropped

_NODE: Final = re.compile(b"[0-9a-f]{16}")
_DIGITS: Final = 16  # most digits of the number of a question
_FAILURES: Final = (TimeoutError, ConnectionError, hiredis.ReplyError)  # of a command


class Questions:
    """Asks the other nodes, and answers them."""

    def __init__(self, keys: Keys, node: str, sender: Sender, poison: Poison) -> None:
        """`poison` counts messages and answers that no server of the deployment has written."""
        self.channel = keys.peer(node)
        self._keys = keys
        self._node = node
        self._sender = sender
        self._poison = poison
        self._asked: WeakValueDictionary[int, _AskedNodes] = WeakValueDictionary()
        self._answering: set[asyncio.Task[None]] = set()
        self._events: QuestionEvents
        self._session: Session

    def serve(self, events: QuestionEvents) -> None:
        """Register the object that answers questions. Called once, before any other call."""
        self._events = events

    def attach(self, session: Session) -> None:
        """Answer through a new session."""
        self._session = session

    async def ask(self, question: Json, start: str) -> Asked:
        """Send a question to the other nodes; see `Broker.ask`."""
        session = self._session
        try:
            async with asyncio.timeout(REPLY):
                listed: list[bytes] = await session.commands.ask("ZRANGE", self._keys.nodes, 0, -1)
        except _FAILURES:
            return Asked(degraded=True)
        ids = [it.decode() for it in listed if _NODE.fullmatch(it)]
        nodes = sorted(it for it in ids if it >= start and it != self._node)
        number, message = self._sender.seal(QUESTION, orjson.dumps(question))
        answers = partial(self._keys.answer, self._node, number)
        asked = self._asked[number] = _AskedNodes(nodes, session, answers, self._poison)
        for node in nodes:
            published = partial(asked.published, node)
            session.commands.send(published, "PUBLISH", self._keys.peer(node), message)
        return asked

    def detach(self) -> None:
        """Handle the loss of the session: no more answers come."""
        for asked in list(self._asked.values()):
            asked.lose()

    def receive(self, data: bytes) -> None:
        """Handle a message of this node's channel: a question, or the notice of an answer."""
        envelope = unseal_content(data, QUESTION, ANSWERED)
        if envelope is None or self._sender.is_own(envelope):
            self._drop(data)
        elif envelope.kind == ANSWERED:
            number = envelope.event
            if not number.isdigit() or len(number) >= _DIGITS:
                self._drop(data)
            elif (asked := self._asked.get(int(number))) is not None:
                asked.answered(envelope.run.hex())
        else:
            try:
                question = orjson.loads(envelope.event)
            except orjson.JSONDecodeError:
                self._drop(data)
                return
            if len(self._answering) < MAX_ANSWERING:
                answering = self._answer(envelope, question)
                task = asyncio.get_running_loop().create_task(answering)
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    def _drop(self, data: bytes) -> None:
        self._poison.drop(f"channel {self.channel!r}", data)

    async def _answer(self, envelope: Envelope, question: Json) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._events.answer(question)
        except TimeoutError:
            return  # the asker does not wait any longer
        except Exception as fault:
            # A fault of the server may be any exception. Without an answer, the asker reports this
            # node as missing.
            events.QUESTION_FAULT.log(fault)
            return
        asker = envelope.run.hex()
        key = self._keys.answer(asker, envelope.seq, self._node)
        _, notice = self._sender.seal(ANSWERED, b"%d" % envelope.seq)
        send = self._session.commands.send
        send(_ignore, "SET", key, orjson.dumps(answer), "EX", KEPT)
        send(_ignore, "PUBLISH", self._keys.peer(asker), notice)


class _AskedNodes(Asked):
    """A question of this node.

    State: whether each node has answered.
    """

    def __init__(self, nodes: Sequence[str], session: Session, key: Any, poison: Poison) -> None:
        super().__init__(nodes)
        self._session = session
        self._key = key
        self._poison = poison
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + PATIENCE
        self._answered: dict[str, asyncio.Future[bool]] = {it: loop.create_future() for it in nodes}

    def published(self, node: str, reply: Reply) -> None:
        """Handle Redis' reply to the question: the number of subscribers of a node's channel."""
        if isinstance(reply, Exception):
            self.lose()
        elif reply == 0:
            self._settle(node, False)

    def answered(self, node: str) -> None:
        """Record that a node has written its answer."""
        if node in self._answered:
            self._settle(node, True)

    def lose(self) -> None:
        """Handle the loss of Redis: no more answers come, and those written cannot be read."""
        self.degraded = True
        for node in self.nodes:
            self._settle(node, False)

    def _settle(self, node: str, answered: bool) -> None:
        if not self._answered[node].done():
            self._answered[node].set_result(answered)

    async def answer(self, node: str) -> Json:
        answered = self._answered[node]
        left = self._deadline - asyncio.get_running_loop().time()
        await asyncio.wait([answered], timeout=max(0.0, left))
        if self.degraded or not answered.done() or not answered.result():
            return None
        key = self._key(node)
        try:
            async with asyncio.timeout(REPLY):
                data = await self._session.commands.ask("GET", key)
        except hiredis.ReplyError:
            return None  # the key holds no string: another program has written it
        except (TimeoutError, ConnectionError):
            self.lose()
            return None
        self._session.commands.send(_ignore, "DEL", key)
        try:
            return orjson.loads(data or b"null")
        except orjson.JSONDecodeError:
            self._poison.drop(key, data)
            return None


def _ignore(_: Reply) -> None:
    """Ignore a reply. If an answer was not written, its asker reports this node as missing."""
