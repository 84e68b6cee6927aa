"""A client of the broadcast server for asyncio, built on aiohttp.

    async with connect("ws://localhost:8080/ws") as client:
        news = client.subscribe("news")
        await client.publish("news", "hello")
        async for item in news:
            print(item)

The client reconnects when the connection is lost, subscribes again, and recovers missed events if
the topic has a history. Where events may be missing, the subscriber gets a `Lost` item in their
place. `publish` returns when the server has acked the message, also after a reconnect; an
idempotency key makes sure that it is published once. The client is not thread-safe.
"""

from broadcast_client._client import Client, connect
from broadcast_client._items import (
    Deleted,
    Event,
    History,
    Item,
    Lost,
    Position,
    RefusedError,
    State,
    StateDetail,
    TopicPage,
)
from broadcast_client._subscription import Subscription

__all__ = [
    "Client",
    "Deleted",
    "Event",
    "History",
    "Item",
    "Lost",
    "Position",
    "RefusedError",
    "State",
    "StateDetail",
    "Subscription",
    "TopicPage",
    "connect",
]
