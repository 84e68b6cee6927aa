"""Which Redis is the master, as the sentinels say, and since when nobody can be on another."""

import asyncio
from typing import Final

from hub.redis.address import RedisAddress

SENTINEL: Final = 0.5  # seconds for one sentinel, before the next is asked


class UnusableError(Exception):
    """Redis is there, and cannot be used."""


async def find_master(address: RedisAddress) -> tuple[str, int]:
    """Where the master is: what the address says, or what the sentinels say.

    Raises:
        UnusableError: no sentinel can be reached that knows a master.
    """
    if not address.service:
        return address.hosts[0] if address.hosts else ("", 0)
    # Here, since it is 8 MB that only this needs.
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

    options = {
        "socket_timeout": SENTINEL,
        "socket_connect_timeout": SENTINEL,
        "retry": Retry(NoBackoff(), 0),
    }
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=options
    )
    try:
        host, port = await sentinel.discover_master(address.service)
        return str(host), int(port)
    except RedisError as error:
        raise UnusableError(str(error)) from error
    finally:
        for client in sentinel.sentinels:
            await client.aclose()


async def moved_master(
    address: RedisAddress, master: tuple[str, int], lost: asyncio.Event, pause: float
) -> tuple[str, int] | None:
    """Look every `pause` seconds until the master is another; None where `lost` comes before."""
    while not await wait_for(lost, pause):
        try:
            named = await find_master(address)
        except UnusableError:
            continue  # sentinels that say nothing say nothing against the master
        if named != master:
            return named
    return None


def leave_time(address: RedisAddress, pause: float) -> float:
    """Seconds after which every node has left the old master, where each looks as above.

    Until then there are two. What another node publishes on the old one, after this node has told
    its subscribers of the gap, would be lost untold.
    """
    return pause + SENTINEL * len(address.hosts)


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event comes within the time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
