"""A server with workers, and which of them has a client."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.patience import PATIENCE
from tests.support.process import ServerProcess, server_process
from tests.support.raw import HANDSHAKE, RawClient
from tests.support.tokens import BACK_END

READY = re.compile(r"worker is ready: worker=(\d+) pid=(\d+) node=(\w+)")
_numbers = count()


@asynccontextmanager
async def server_with_workers(
    redis_port: int, workers: int = 2, **settings: str
) -> AsyncIterator[ServerProcess]:
    """Run a server with workers on a Redis. Its end is that of the workers, too."""
    joined = {"REDIS_ADDR": f"127.0.0.1:{redis_port}", "WORKERS": str(workers)}
    async with server_process(**{**joined, "SHUTDOWN_TIMEOUT": "5", **settings}) as server:
        yield server


def pids(server: ServerProcess) -> dict[int, int]:
    """Return the newest process of each worker, as the log says so far."""
    return {int(number): int(pid) for number, pid, _ in READY.findall("".join(server.log))}


def nodes(server: ServerProcess) -> dict[str, int]:
    """Return the worker of each node id, as the log says so far."""
    return {node: int(number) for number, _, node in READY.findall("".join(server.log))}


async def ended(processes: Iterable[int]) -> None:
    """Wait until these processes, which are not children of this one, have ended."""
    async with asyncio.timeout(PATIENCE):
        for pid in processes:
            while _runs(pid):  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    """Return whether a process runs. One whose parent has not asked for its code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


async def get(server: ServerProcess, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer, each time on a new connection.

    If access is on, KEY must be an API key.
    """
    url = f"http://127.0.0.1:{server.port}"
    async with (
        aiohttp.ClientSession(url, headers=BACK_END) as session,
        session.get(path) as answer,
    ):
        return answer.status, await answer.json()


async def all_ready(server: ServerProcess) -> None:
    """Wait until all workers are ready, and answer in time."""
    async with asyncio.timeout(PATIENCE):
        while (await get(server, "/ready"))[1]["checks"]["workers"] != "ok":
            pass


async def connect(server: ServerProcess) -> tuple[int, RawClient]:
    """Return a new client, and the number of the worker that has it."""
    name = f"client{next(_numbers)}"
    client = await RawClient.dial(server.port)
    await client.send(HANDSHAKE.replace(b"client_id=raw", f"client_id={name}".encode()))
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    _, page = await get(server, "/connections")
    (node,) = (it["node"] for it in page["connections"] if it["client_id"] == name)
    return nodes(server)[node], client


async def client_of_each(server: ServerProcess, *topics: str) -> dict[int, RawClient]:
    """Return a client of each worker, in their order, which is subscribed to topics."""
    clients: dict[int, RawClient] = {}
    while len(clients) < len(pids(server)):
        number, client = await connect(server)
        if number in clients:
            client.close()
        else:
            await client.subscribe(*topics)
            clients[number] = client
    return dict(sorted(clients.items()))
