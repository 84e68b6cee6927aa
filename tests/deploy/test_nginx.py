"""What only nginx does."""

import asyncio
from pathlib import Path

from hub.settings import Settings
from tests.support.balancers import nginx
from tests.support.patience import PATIENCE
from tests.support.redis import free_port
from tests.support.server import running


async def test_a_name_stands_for_the_servers_at_its_addresses(tmp_path: Path) -> None:
    """As in Docker, whose DNS gives the name of a service the addresses of its containers."""
    async with (
        running(Settings()) as server,
        nginx(tmp_path, [free_port()]) as balancer,
        balancer.session() as client,
        asyncio.timeout(PATIENCE),
    ):
        balancer.list_servers([server.port])
        file = balancer.folder / "servers.conf"
        file.write_text(file.read_text().replace("127.0.0.1", "localhost"))
        balancer.reload()
        while True:
            async with client.get("/stats") as answer:
                if answer.status == 200:
                    break
                assert answer.status == 502
