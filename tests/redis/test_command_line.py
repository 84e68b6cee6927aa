"""What the commands of `server.py` say about several servers, and about a lost Redis."""

import asyncio

import pytest

from hub.redis.address import parse_redis_address
from hub.settings import Settings
from tests.support.command import carry_out
from tests.support.eventually import eventually
from tests.support.proxy import proxy
from tests.support.server import Running, running


async def said(server: Running, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines of a command that succeeds."""
    code = await asyncio.to_thread(carry_out, [*arguments, "--url", server.url], {})
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out.splitlines()


async def test_they_say_what_is_known_of_other_servers(
    address: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host, _, port = address.rpartition(":")
    lost = "Redis is lost: these are the figures of one server"
    unknown = "Redis is lost: other servers do not know it yet"
    async with proxy(int(port)) as way:
        where = parse_redis_address(f"{host}:{way.port}")
        async with running(Settings(redis_addr=where, redis_prefix=prefix)) as server:
            assert await said(server, capsys, "topics", "create", "news") == ["created news"]
            stats = await said(server, capsys, "stats")
            assert stats[2:4] == ["servers  1", f"node     {server.hub.node}"]
            assert lost not in stats
            published = await said(server, capsys, "publish", "news", "1")
            assert published[0].startswith("published to news: 0 subscribers here, ")
            assert unknown not in await said(server, capsys, "disconnect", "--sub", "ann")
            way.shut = True
            way.cut()
            await eventually(lambda: server.hub.broker.degraded)
            assert lost in await said(server, capsys, "stats")
            assert unknown in await said(server, capsys, "disconnect", "--sub", "ann")
