"""The metrics of Redis, on real servers."""

from aiohttp import ClientSession

from hub.brokers.base import OutageReason
from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.eventually import eventually
from tests.support.metrics import figure
from tests.support.redis import RedisServer
from tests.support.server import running


async def test_the_times_of_redis_are_measured(address: str, prefix: str) -> None:
    settings = Settings(redis_addr=parse_redis_address(address), redis_prefix=prefix)
    async with running(settings) as server:
        assert figure(server, "redis_up") == 1
        for name in ("redis_command_seconds", "redis_lag_seconds"):
            await eventually(lambda name=name: figure(server, f"{name}_count") >= 2)  # type: ignore[misc]
            assert 0 < figure(server, f"{name}_sum") < 10


async def test_an_outage_is_counted_by_its_reason(own_redis: RedisServer) -> None:
    redis_addr = parse_redis_address(f"127.0.0.1:{own_redis.port}")
    async with running(Settings(redis_addr=redis_addr)) as server:
        own_redis.shut_down()
        await eventually(lambda: figure(server, "redis_outages_total", reason="closed"))
        assert figure(server, "redis_up") == 0
        own_redis.start()
        await eventually(lambda: figure(server, "redis_up"))
        outages = [figure(server, "redis_outages_total", reason=it) for it in OutageReason]
        assert sum(outages) == 1


async def test_a_server_alone_has_no_metrics_of_redis() -> None:
    async with (
        running(Settings()) as server,
        ClientSession(server.url) as session,
        session.get("/metrics") as answer,
    ):
        assert "redis" not in await answer.text()
