"""A client of the broadcast server, on asyncio and aiohttp. What it loses, it says.

    async with connect("ws://localhost:8080/ws") as client:
        news = client.subscribe("news")
        await client.publish("news", "hello")
        async for item in news:
            print(item)

It connects again whenever the connection is lost, subscribes anew, and recovers what it has missed
where the topic has a history. Where something may be missing, `Lost` comes in its place of the
order. A publish is awaited until the server has acked it, also across a reconnect; its key makes it
happen once. Nothing here is for threads.
"""

from broadcast_client.client import Client, connect
from broadcast_client.items import Deleted, Event, Item, Lost, Position, RefusedError
from broadcast_client.subscription import Subscription

__all__ = [
    "Client",
    "Deleted",
    "Event",
    "Item",
    "Lost",
    "Position",
    "RefusedError",
    "Subscription",
    "connect",
]
