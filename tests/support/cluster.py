"""Several server processes on one Redis, used over their sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from tests.support.patience import PATIENCE
from tests.support.process import ServerProcess, server_process

Body = dict[str, Any]


class Subscriber:
    """A WebSocket client that records all messages in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.heard: list[Body] = []
        self._socket = socket
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            self.heard.append(json.loads(message.data))
            self._news.set()

    async def say(self, kind: str, **fields: Any) -> None:
        await self._socket.send_json({"type": kind, **fields})

    async def ask(self, kind: str, **fields: Any) -> Body:
        """Send a command with a request_id, and wait for its answer."""
        request_id = f"r{len(self.heard)}-{id(fields)}"
        await self.say(kind, request_id=request_id, **fields)
        return await self.answer(request_id)

    async def answer(self, request_id: str) -> Body:
        def found() -> list[Body]:
            return [it for it in self.heard if it.get("request_id") == request_id]

        await self.until(found)
        return found()[0]

    async def until(self, come: Callable[[], object], patience: float = PATIENCE) -> None:
        async with asyncio.timeout(patience):
            while not come():
                self._news.clear()
                await self._news.wait()

    def payloads(self, topic: str) -> list[Any]:
        """Return the payloads of a topic's events and infos so far."""
        return [
            it["message"]["payload"]
            for it in self.heard
            if it["type"] in ("event", "info") and it.get("topic") == topic
        ]

    async def close(self) -> None:
        self._task.cancel()
        await self._socket.close()


class Cluster:
    """The nodes of a cluster, and their clients."""

    def __init__(self, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.nodes: list[ServerProcess] = []
        self._session = session
        self._stack = stack

    async def add_node(self, **settings: str) -> ServerProcess:
        node = await self._stack.enter_async_context(server_process(**settings))
        self.nodes.append(node)
        return node

    async def subscriber(self, node: int, *topics: str) -> Subscriber:
        url = f"ws://127.0.0.1:{self.nodes[node].port}/ws?client_id=test"
        made = Subscriber(await self._session.ws_connect(url, max_msg_size=0))
        self._stack.push_async_callback(made.close)
        for topic in topics:
            assert (await made.ask("subscribe", topic=topic))["type"] == "ack"
        return made

    async def call(self, node: int, method: str, path: str, body: Any = None) -> tuple[int, Body]:
        url = f"http://127.0.0.1:{self.nodes[node].port}{path}"
        async with self._session.request(method, url, json=body) as answer:
            return answer.status, await answer.json()

    async def publish(self, node: int, topic: str, payload: Any) -> tuple[int, Body]:
        return await self.call(node, "POST", "/publish", {"topic": topic, "payload": payload})

    async def until_refused(self, node: int, topic: str) -> None:
        """Publish until the topic is unknown; a node refuses none within a grace."""
        async with asyncio.timeout(PATIENCE):
            while (await self.publish(node, topic, 1))[0] != 404:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def eventually(
        self, node: int, path: str, good: Callable[[Body], object], patience: float = PATIENCE
    ) -> Body:
        """Request `path` until the answer is good: stats of other nodes arrive with a delay."""
        body: Body = {}
        try:
            async with asyncio.timeout(patience):
                while not good(body := (await self.call(node, "GET", path))[1]):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # there is no event for it
        except TimeoutError:
            raise AssertionError(f"{path} of node {node} stays {body}") from None
        return body

    async def healed(self, topics: tuple[str, ...], patience: float = PATIENCE) -> None:
        """Wait until no node is degraded and an event to each topic reaches a new subscriber."""
        for node in range(len(self.nodes)):
            await self.eventually(node, "/stats", lambda it: "degraded" not in it, patience)
        for topic in topics:
            assert (await self.publish(0, topic, "healed"))[0] == 200


@asynccontextmanager
async def cluster(*nodes: dict[str, str]) -> AsyncIterator[Cluster]:
    """Run a server for each of the settings."""
    async with AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        )
        made = Cluster(session, stack)
        for settings in nodes:
            await made.add_node(**settings)
        yield made
