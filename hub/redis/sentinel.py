"""Find the Redis master through sentinels, and follow a failover."""

import asyncio
from typing import Final

from hub.redis.address import RedisAddress

SENTINEL: Final = 0.5  # seconds to wait for one sentinel before asking the next


class UnusableError(Exception):
    """Redis can be reached, but not used."""


async def find_master(address: RedisAddress) -> tuple[str, int]:
    """Return host and port of the master; ("", 0) for a Unix socket.

    Raises:
        UnusableError: no sentinel can be reached that knows a master.
    """
    if not address.service:
        return address.hosts[0] if address.hosts else ("", 0)
    # Imported here: only sentinels need it, and it takes 8 MB.
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
    """Ask the sentinels for the master every `pause` seconds, until they name another one.

    Returns:
        Host and port of the new master; None if `lost` is set first.
    """
    while not await wait_for(lost, pause):
        try:
            named = await find_master(address)
        except UnusableError:
            continue  # no answer is no reason to leave the master
        if named != master:
            return named
    return None


def leave_time(address: RedisAddress, pause: float) -> float:
    """Return the seconds after which every node has left the old master.

    Until then both masters are in use. Events that another node publishes on the old one, after
    this node has reported the gap to its subscribers, would be lost without a report.
    """
    return pause + SENTINEL * len(address.hosts)


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return False if it is not set within the time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
