"""A real Prometheus with the configuration of deploy/prometheus/; it scrapes a test's servers."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.patience import PATIENCE
from tests.support.programs import find
from tests.support.redis import free_port

DEPLOY = Path(__file__).parents[2] / "deploy/prometheus"
INTERVAL = "500ms"  # of scrapes and of evaluations


class Prometheus:
    """A running Prometheus, asked over its API."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, path: str, **query: str) -> Any:
        """Return the `data` of an answer."""
        async with self._session.get(f"/api/v1/{path}", params=query) as answer:
            body = await answer.json()
            assert body["status"] == "success", body
            return body["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression."""
        data = await self.ask("query", query=expression)
        result: list[dict[str, Any]] = data["result"]
        return result

    async def until_scraped(self, scrapes: int = 2) -> None:
        """Wait until each target was scraped so many times."""
        await self.until(f"min(count_over_time(up[1h])) >= {scrapes} and min(up) == 1")

    async def until(self, condition: str) -> None:
        """Wait until an expression has a series."""
        await self._until(lambda: self.query(condition))

    async def until_fires(self, alert: str) -> dict[str, Any]:
        """Wait until an alert fires; return it."""
        return (await self._until(lambda: self._firing(alert)))[0]

    async def _firing(self, alert: str) -> list[dict[str, Any]]:
        alerts = (await self.ask("alerts"))["alerts"]
        return [
            it for it in alerts if it["labels"]["alertname"] == alert and it["state"] == "firing"
        ]

    async def _until(self, ask: Any) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE):
            while not (found := await ask()):  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.1)
            return list(found)


@asynccontextmanager
async def prometheus(folder: Path, *ports: int) -> AsyncIterator[Prometheus]:
    """Run Prometheus until the end of the block, with short intervals and a short `for`.

    `ports`: those of the servers' metrics on the loopback interface.
    """
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    files = f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"
    async with started(folder, *files) as watcher:
        yield watcher


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus with these arguments, on a free port; its log is in `folder`."""
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            find("prometheus"),
            *arguments,
            f"--web.listen-address=127.0.0.1:{port}",
            cwd=DEPLOY.parents[1],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await _ready(session, process)
            yield Prometheus(session)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, "see prometheus.log"
            try:
                async with session.get("/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
